"""What a sample is known by: keys, digests, and the sizes that images tell."""

import copy
import hashlib
import json
import math
import os
from itertools import permutations

import numpy as np
import pytest
from PIL import Image

from adapruner_det.detection.data.identity import key_of, sample_digest, with_sizes
from tests.detection.toy import squares


def box(category, values, **more):
    return {"category_id": category, "bbox": values, "bbox_mode": 0, **more}


SAMPLE = {
    "file_name": "/data/im1.jpg",
    "image_id": "im1",
    "height": 48,
    "width": 64,
    "annotations": [box(1, [1.0, 2.5, 30.12345, 40]), box(0, np.array([5.0, 6, 7, 8]))],
}


def digest_of_0_1(sample):
    """As version 0.1 took it."""
    objects = sorted(
        [int(a["category_id"]), *(round(float(v), 3) for v in a["bbox"])]
        for a in sample["annotations"]
    )
    name = os.path.basename(sample["file_name"])
    text = json.dumps([name, sample.get("height"), sample.get("width"), objects])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def test_digests_of_data_without_crowds_are_those_of_0_1():
    assert sample_digest(SAMPLE) == digest_of_0_1(SAMPLE)
    assert sample_digest({**SAMPLE, "annotations": []}) == digest_of_0_1(
        {**SAMPLE, "annotations": []}
    )
    plain = {**SAMPLE, "annotations": [{**a, "iscrowd": 0} for a in SAMPLE["annotations"]]}
    assert sample_digest(plain) == digest_of_0_1(SAMPLE)
    unsized = {k: v for k, v in SAMPLE.items() if k not in ("height", "width")}
    assert sample_digest(unsized) == digest_of_0_1(unsized)


def test_the_digest_is_the_same_in_every_version_of_this_program():
    """A number that must not move: selections on users' disks hold it."""
    fixed = {**SAMPLE, "annotations": [box(1, [1.0, 2.0, 30.0, 40.0])]}
    text = '["im1.jpg", 48, 64, [[1, 1.0, 2.0, 30.0, 40.0]]]'
    assert sample_digest(fixed) == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


def test_a_box_that_becomes_a_crowd_is_another_annotation():
    crowd = {**SAMPLE, "annotations": [{**SAMPLE["annotations"][0], "iscrowd": 1}]}
    plain = {**SAMPLE, "annotations": SAMPLE["annotations"][:1]}
    assert sample_digest(crowd) != sample_digest(plain)


def test_masks_keypoints_and_difficult_do_not_count_as_the_docs_say():
    """Selections on users' disks were made without; exports.md says that these are not compared."""
    more = {"segmentation": [[0, 0, 5, 0, 5, 5]], "keypoints": [1, 2, 2], "difficult": 1}
    changed = {**SAMPLE, "annotations": [{**a, **more} for a in SAMPLE["annotations"]]}
    assert sample_digest(changed) == sample_digest(SAMPLE)


def test_boxes_that_were_put_aside_count_as_if_they_were_not():
    flat = box(1, [5, 5, 5, 9])
    whole = {**SAMPLE, "annotations": [*SAMPLE["annotations"], flat]}
    apart = {**SAMPLE, "unusable_annotations": [flat]}
    assert sample_digest(apart) == sample_digest(whole) != sample_digest(SAMPLE)


def test_the_order_does_not_count_even_where_a_number_is_none():
    rows = [box(0, [math.nan, 1, 2, 3]), box(0, [5.0, 6, 7, 8]), box(0, [4.0, math.nan, 7, 8])]
    rows.append(box(0, [4.0, 5, 7, 8]))
    digests = {sample_digest({**SAMPLE, "annotations": list(own)}) for own in permutations(rows)}
    assert len(digests) == 1


@pytest.mark.parametrize("kind", [float, np.int64, np.float32, str])
def test_a_size_counts_as_the_number_that_it_is(kind):
    """Data sets made of arrays have such; what is read of the image is a plain int."""
    other = {**SAMPLE, "height": kind(48), "width": kind(64)}
    if kind is str:  # no size at all
        assert sample_digest(other) != sample_digest(SAMPLE)
    else:
        assert sample_digest(other) == sample_digest(SAMPLE)


def test_keys_have_one_slash_after_the_name_of_the_data_set():
    assert key_of("coco", {"image_id": 139}) == "coco/139"
    assert key_of("voc", {"image_id": np.str_("000005")}) == "voc/000005"
    assert type(key_of("voc", {"image_id": np.str_("000005")})) is str
    assert key_of("odd/name", {"image_id": "a/b"}) == "odd/name/a\\b"


def test_sizes_come_from_the_image_where_a_dict_does_not_say(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    file = str(tmp_path / "a.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "t.jpg", exif=turned)
    dicts = [
        {"file_name": file},
        {"file_name": file, "height": 0, "width": 0},
        {"file_name": file, "height": 7, "width": None},
        {"file_name": file, "height": 7, "width": 8},
        {"file_name": str(tmp_path / "t.jpg")},
        {"file_name": str(tmp_path / "gone.png")},
    ]
    sizes = [(d["height"], d["width"]) for d in with_sizes(dicts)]
    assert sizes == [(20, 30), (20, 30), (20, 30), (7, 8), (30, 20), (0, 0)]
    assert "height" not in dicts[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(width=d["width"] + 1),
        lambda d: d.update(file_name="other.png"),
        lambda d: d["annotations"][0].update(category_id=1 - d["annotations"][0]["category_id"]),
        lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 4]),
        lambda d: d["annotations"].append(d["annotations"][0]),
    ],
)
def test_a_digest_follows_what_a_sample_is_and_not_where_it_lies(tmp_path, change):
    sample = squares(tmp_path, 1)[0]
    moved = copy.deepcopy(sample)
    moved["file_name"] = os.path.join("/elsewhere", os.path.basename(sample["file_name"]))
    moved["annotations"][0]["bbox"] = np.array(sample["annotations"][0]["bbox"], dtype=float)
    assert sample_digest(moved) == sample_digest(sample)
    change(moved)
    assert sample_digest(moved) != sample_digest(sample)
