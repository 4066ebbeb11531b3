from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.detection.modeling import anchors
from adapruner_det.detection.modeling.anchors import cluster, mean_best_iou, shape_iou

sides = st.floats(0.5, 900)


def shapes(least=1, most=7):
    pairs = st.lists(st.tuples(sides, sides), min_size=least, max_size=most)
    return pairs.map(lambda rows: np.array(rows))


def slow_iou(first, second):
    """By the corners of two boxes around the origin."""
    (w0, h0), (w1, h1) = first, second
    left, right = max(-w0 / 2, -w1 / 2), min(w0 / 2, w1 / 2)
    low, high = max(-h0 / 2, -h1 / 2), min(h0 / 2, h1 / 2)
    inter = (right - left) * (high - low)
    return inter / (w0 * h0 + w1 * h1 - inter)


def slow_mean(boxes, found):
    return sum(max(slow_iou(box, anchor) for anchor in found) for box in boxes) / len(boxes)


@given(shapes(), shapes())
def test_iou_is_that_of_centred_boxes(boxes, found):
    table = shape_iou(boxes, found)
    slow = [[slow_iou(box, anchor) for anchor in found] for box in boxes]
    np.testing.assert_allclose(table, slow, rtol=1e-9)


@given(shapes(), shapes())
def test_mean_is_over_the_boxes_of_their_best_anchor(boxes, found):
    assert mean_best_iou(boxes, found) == pytest.approx(slow_mean(boxes, found))


def test_more_boxes_than_fit_at_once_give_the_same_mean(monkeypatch):
    boxes = np.random.default_rng(0).uniform(1, 100, (50, 2))
    whole = mean_best_iou(boxes, boxes[:7])
    monkeypatch.setattr(anchors, "_CELLS", 20)
    assert mean_best_iou(boxes, boxes[:7]) == pytest.approx(whole)


@settings(max_examples=25)
@given(shapes(least=2))
def test_two_anchors_meet_boxes_as_well_as_the_means_of_the_best_split(boxes):
    """Best of all 2-partitions, each met by its means; k-means may stop a little below."""
    n = len(boxes)
    parts = [list(p) for size in range(1, n // 2 + 1) for p in combinations(range(n), size)]
    best = max(
        slow_mean(boxes, [boxes[p].mean(0), np.delete(boxes, p, axis=0).mean(0)]) for p in parts
    )
    assert slow_mean(boxes, cluster(boxes, 2)) >= best - 0.05


@settings(max_examples=25)
@given(shapes(), st.integers(1, 6), st.randoms())
def test_order_does_not_matter_and_areas_rise(boxes, k, random):
    found = cluster(boxes, k)
    assert found.shape == (k, 2)
    assert (np.diff(found.prod(1)) >= 0).all()
    order = list(range(len(boxes)))
    random.shuffle(order)
    np.testing.assert_array_equal(cluster(boxes[order], k), found)


@settings(max_examples=25)
@given(shapes())
def test_one_anchor_is_no_worse_than_the_mean(boxes):
    assert slow_mean(boxes, cluster(boxes, 1)) >= slow_mean(boxes, boxes.mean(0)[None]) - 1e-9


def test_clusters_that_lie_apart_are_found():
    rng = np.random.default_rng(3)
    centres = np.array([[12, 40], [80, 30], [60, 60], [100, 300], [350, 200]])
    boxes = np.concatenate([c * rng.uniform(0.95, 1.05, (40, 2)) for c in centres])
    np.testing.assert_allclose(cluster(boxes, 5), centres, rtol=0.02)


def test_a_bad_beginning_is_not_the_end():
    """A single restart leaves one of these ten clusters without an anchor: 0.90."""
    rng = np.random.default_rng(5)
    sides = 6 * 1.6 ** np.arange(10)
    centres = np.stack([rng.permutation(sides), rng.permutation(sides)], 1)
    boxes = np.concatenate([c * rng.uniform(0.97, 1.03, (9, 2)) for c in centres])
    assert mean_best_iou(boxes, cluster(boxes, 10)) > 0.96


def test_distance_is_by_overlap_and_not_by_pixels():
    """By squared pixels the two large shapes would have an anchor each, and the small ones one."""
    boxes = np.array([[4.0, 4], [4, 4], [16, 16], [16, 16], [300, 300], [330, 330]])
    found = cluster(boxes, 3)
    np.testing.assert_allclose(found[:2], [[4, 4], [16, 16]])
    assert (found[2] >= 300).all()


def test_where_few_shapes_differ_the_rest_are_larger_ones():
    boxes = np.array([[10.0, 20], [10, 20], [30, 30]])
    root = np.sqrt(2)
    expected = [[10, 20], [30, 30], [30 * root, 30 * root], [60, 60]]
    np.testing.assert_allclose(cluster(boxes, 4), expected)


@settings(max_examples=25)
@given(shapes())
def test_bounds_hold(boxes):
    bounds = np.array([[0, 20], [10, 40], [20, np.inf]])
    found = cluster(np.sqrt(boxes.prod(1, keepdims=True)).repeat(2, 1), 3, bounds)
    assert (found >= bounds[:, :1]).all() and (found <= bounds[:, 1:]).all()
    assert (np.diff(found[:, 0]) >= 0).all()


def test_bounds_that_do_not_bind_change_nothing():
    boxes = np.random.default_rng(0).uniform(1, 100, (50, 1)).repeat(2, 1)
    wide = np.array([[0, np.inf]] * 4)
    np.testing.assert_array_equal(cluster(boxes, 4, wide), cluster(boxes, 4))
