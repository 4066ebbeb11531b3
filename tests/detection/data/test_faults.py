"""Boxes against their image, and the words for faulty samples and boxes."""

import logging
import math

import numpy as np
import pytest
from detectron2.structures import BoxMode
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.detection.data.faults import (
    BEYOND,
    NO_AREA,
    NORMALISED,
    NOT_FINITE,
    OUTSIDE,
    UNUSABLE,
    BoxCounts,
    Fault,
    box_problem,
    fits_as_corners,
    has_object,
    raise_faults,
)
from adapruner_det.errors import DataError
from adapruner_det.samples import BOX_SLACK

XYXY, XYWH = BoxMode.XYXY_ABS, BoxMode.XYWH_ABS
NAN, INF = math.nan, math.inf


def box(values, mode=XYXY, **more):
    return {"bbox": values, "bbox_mode": mode, "category_id": 0, **more}


#: (box as corners, in an image of 48×64 pixels, what is wrong with it)
KINDS = [
    ([5, 6, 30, 40], ""),
    ([0, 0, 64, 48], ""),
    ([-1, -1, 65, 49], ""),  # as annotation tools round
    ([-BOX_SLACK, -BOX_SLACK, 64 + BOX_SLACK, 48 + BOX_SLACK], ""),
    ([5, 6, 5, 40], NO_AREA),
    ([5, 40, 30, 40], NO_AREA),
    ([30, 40, 5, 6], NO_AREA),
    ([NAN, 6, 30, 40], NOT_FINITE),
    ([5, 6, INF, 40], NOT_FINITE),
    ([-INF, 6, INF, 40], NOT_FINITE),
    ([64, 6, 80, 40], OUTSIDE),
    ([5, 48, 30, 60], OUTSIDE),
    ([-20, 6, 0, 40], OUTSIDE),
    ([5, -20, 30, 0], OUTSIDE),
    ([-2, 6, 30, 40], BEYOND),
    ([5, -2, 30, 40], BEYOND),
    ([5, 6, 66, 40], BEYOND),
    ([5, 6, 30, 50], BEYOND),
    ([1, 2, 10**400, 40], NOT_FINITE),
]


@pytest.mark.parametrize("mode", [XYXY, XYWH])
@pytest.mark.parametrize(("corners", "expected"), KINDS, ids=lambda v: str(v)[:40])
def test_what_is_wrong_with_a_box_in_its_image(corners, expected, mode):
    x0, y0, x1, y1 = corners
    values = corners if mode == XYXY else [x0, y0, x1 - x0, y1 - y0]
    assert box_problem(box(values, mode), 48, 64) == expected


def test_height_and_width_are_not_mixed_up():
    assert box_problem(box([50, 6, 60, 20]), 48, 64) == ""
    assert box_problem(box([50, 6, 60, 20]), 64, 48) == OUTSIDE


def test_boxes_may_be_of_numpy_and_rotated_ones_are_not_looked_at():
    assert box_problem(box(np.array([5.0, 6, 4, 40])), 48, 64) == NO_AREA
    assert box_problem(box([500, 6, 30, 40, 90], BoxMode.XYWHA_ABS), 48, 64) == ""
    assert box_problem(box([NAN, 6, 30, 40, 90], BoxMode.XYWHA_ABS), 48, 64) == NOT_FINITE


numbers = st.one_of(st.floats(), st.integers(), st.floats(-10, 80), st.integers(-10, 80))


@given(st.lists(numbers, min_size=4, max_size=4), st.sampled_from([XYXY, XYWH]))
def test_whatever_numbers_a_box_has_it_is_of_one_kind(values, mode):
    found = box_problem(box(values, mode), 48, 64)
    assert found in ("", BEYOND, NORMALISED, *UNUSABLE)
    if not found:  # what is fit has corners in the image, but for the slack
        x0, y0, x1, y1 = values if mode == XYXY else [*values[:2], *map(sum, _sides(values))]
        assert -BOX_SLACK <= x0 < x1 <= 64 + BOX_SLACK and -BOX_SLACK <= y0 < y1 <= 48 + BOX_SLACK


def _sides(values):
    return (values[0], values[2]), (values[1], values[3])


def test_shares_of_the_image_in_place_of_pixels_are_said_and_kept(caplog):
    shares, pixels = box([0.1, 0.2, 0.5, 0.5], XYWH), box([0.5, 0.5, 2.0, 1.0], XYWH)
    assert box_problem(shares, 48, 64) == NORMALISED and box_problem(pixels, 48, 64) == ""
    assert box_problem(box([0, 0, 1, 1], XYXY), 1, 1) == ""  # an image of one pixel
    counts = BoxCounts()
    sample = {"file_name": "a.png", "height": 48, "width": 64, "annotations": [shares, pixels]}
    assert counts.sort_out(sample, "a.png")["annotations"] == [shares, pixels]
    counts.warn("own")
    assert "1 box(es) with no coordinate above 1" in caplog.text and "left out" not in caplog.text


def test_corners_where_sides_are_meant_are_known_by_fitting_so():
    assert fits_as_corners(box([30, 20, 60, 40], XYWH), 48, 64)
    assert not fits_as_corners(box([30, 20, 60, 40], XYXY), 48, 64)
    assert not fits_as_corners(box([30, 20, 20, 40], XYWH), 48, 64)
    assert not fits_as_corners(box([30, 20, 60, 90], XYWH), 48, 64)
    assert not fits_as_corners(box([30, 20, 90, 40], XYWH), 48, 64)


def sample(*boxes, **more):
    return {"file_name": "im.png", "height": 48, "width": 64, "annotations": list(boxes), **more}


def test_unusable_boxes_are_put_aside_and_counted_with_the_first_file(caplog):
    good, beyond = box([5, 6, 30, 40]), box([30, 20, 60, 40], XYWH)
    flat, nan, out = box([5, 6, 5, 40]), box([NAN, 6, 30, 40]), box([70, 6, 80, 40])
    counts = BoxCounts()
    given_ = sample(good, flat, beyond, nan, out)
    found = counts.sort_out(given_, "first.xml")
    counts.sort_out(sample(flat, flat), "second.xml")
    assert found["annotations"] == [good, beyond]
    assert found["unusable_annotations"] == [flat, nan, out]
    assert given_["annotations"] == [good, flat, beyond, nan, out]  # as it was
    assert counts.counts == {NO_AREA: 3, NOT_FINITE: 1, OUTSIDE: 1, BEYOND: 1}
    with caplog.at_level(logging.WARNING):
        counts.warn("pets")
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 4
    (no_area,) = [line for line in said if NO_AREA in line]
    assert no_area == "pets: 3 box(es) without area are left out, the first in first.xml"
    (wide,) = [line for line in said if BEYOND in line]
    assert "are left out" not in wide
    assert "1 of them would fit as (x0, y0, x1, y1)" in wide


def test_a_sound_sample_stays_the_same_object_and_nothing_is_said(caplog):
    counts = BoxCounts()
    for own in (sample(box([5, 6, 30, 40])), sample(), {"height": 48, "width": 64}):
        assert counts.sort_out(own, "im.xml") is own
    unread = sample(box([NAN] * 4), height=0, width=0)
    assert counts.sort_out(unread, "im.xml") is unread
    counts.warn("pets")
    assert not caplog.records


def test_a_crowd_or_an_unusable_box_is_no_object():
    good, crowd, flat = box([5, 6, 30, 40]), box([5, 6, 30, 40], iscrowd=1), box([5, 6, 5, 40])
    assert has_object(sample(flat, crowd, good))
    assert not has_object(sample(crowd, flat))
    assert not has_object(sample())
    assert not has_object({"height": 48, "width": 64})
    # Without a size of the image any box with area counts.
    assert has_object({"annotations": [box([500, 6, 530, 40])]})


def test_faults_are_raised_as_one_line_with_their_number_and_the_cure():
    raise_faults([])
    one, other = Fault("a", "a.png is empty"), Fault("b", "b.png is not there")
    with pytest.raises(DataError, match=r"^a\.png is empty; mend it.*ON_BAD_SAMPLE skip"):
        raise_faults([one])
    with pytest.raises(DataError, match=r"^a\.png is empty \(2 samples are faulty\); "):
        raise_faults([one, other])
