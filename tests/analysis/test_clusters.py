"""The vectorised numbers against the sums of their definitions, and what must not change them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from adapruner_det.analysis import clusters
from adapruner_det.analysis.clusters import (
    adjacent_pairs,
    geometry,
    mean_pair_distance,
    single_linkages,
)
from adapruner_det.errors import DataError


def some(seed, n=60, d=2, c=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    return rng.normal(size=(n, d)) + 3 * rng.normal(size=(c, d))[labels], labels


def distance(one, two):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(one, two, strict=True)))


def directly(points, labels):
    """Each number by its definition, in Python's own loops."""
    parts = {c: [p for p, own in zip(points, labels, strict=True) if own == c] for c in set(labels)}
    names = sorted(parts)
    centres = {c: [sum(x) / len(own) for x in zip(*own, strict=True)] for c, own in parts.items()}
    deltas, spreads = {}, {}
    for c in names:
        own = parts[c]
        pairs = [(i, j) for i in range(len(own)) for j in range(i)]
        total = sum(distance(own[i], own[j]) for i, j in pairs)
        spreads[c] = total / len(pairs) if pairs else 0.0
    for a in names:
        for b in names:
            if a < b:
                deltas[a, b] = min(distance(p, q) for p in parts[a] for q in parts[b])
    near = [
        (a, b)
        for a, b in deltas
        if all(
            distance(centres[a], centres[b]) ** 2
            <= distance(centres[a], centres[k]) ** 2 + distance(centres[b], centres[k]) ** 2
            for k in names
            if k not in (a, b)
        )
    ]
    return {
        "dunn": min(deltas.values()) / max(spreads.values()),
        "centre_distance": sum(distance(centres[a], centres[b]) for a, b in near) / len(near),
        "single_linkage": sum(deltas[pair] for pair in near) / len(near),
        "radius": sum(max(distance(p, centres[c]) for p in parts[c]) for c in names) / len(names),
        "spread": sum(spreads.values()) / len(names),
        "num_points": len(points),
        "num_adjacent": len(near),
    }


@pytest.mark.parametrize("block", [1, 7, 1 << 24])
@pytest.mark.parametrize(
    ("seed", "n", "d", "c"),
    [(0, 60, 2, 4), (1, 90, 5, 7), (2, 40, 1, 3), (3, 30, 2, 2), (4, 12, 3, 10)],
)
def test_equals_the_sums_of_the_definitions(monkeypatch, seed, n, d, c, block):
    monkeypatch.setattr(clusters, "_BLOCK", block)
    points, labels = some(seed, n, d, c)
    assert vars(geometry(points, labels)) == pytest.approx(directly(points, labels), rel=1e-10)


def test_by_hand():
    # Three classes: two points 2 apart, two points 6 apart, one point.
    points = [(0, 0), (2, 0), (10, 0), (16, 0), (1, 8)]
    found = geometry(np.array(points), np.array([5, 5, 1, 1, 3]))
    # Centres (1, 0), (13, 0), (1, 8): the long side sees the third under a right angle, so that
    # point lies on the ball and does not part them: all three pairs are adjacent.
    assert found.num_adjacent == 3
    assert found.centre_distance == pytest.approx((12 + 8 + math.hypot(12, 8)) / 3)
    nearest = [8, math.hypot(1, 8), math.hypot(9, 8)]
    assert found.single_linkage == pytest.approx(sum(nearest) / 3)
    assert found.radius == pytest.approx((1 + 3 + 0) / 3)
    assert found.spread == pytest.approx((2 + 6 + 0) / 3)
    assert found.dunn == pytest.approx(8 / 6)


def test_the_paper_s_spread_is_a_mean_of_pairs_and_no_diameter():
    cluster = np.array([[0.0], [1.0], [5.0]])
    assert mean_pair_distance(cluster) == pytest.approx((1 + 5 + 4) / 3)
    assert mean_pair_distance(cluster[:1]) == 0


# --- what must and must not change them ----------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)
LENGTHS = ("centre_distance", "single_linkage", "radius", "spread")


@given(seeds, st.floats(1e-3, 1e3))
def test_lengths_scale_and_the_dunn_index_does_not(seed, factor):
    points, labels = some(seed)
    one, two = geometry(points, labels), geometry(factor * points, labels)
    assert two.dunn == pytest.approx(one.dunn, rel=1e-9)
    for name in LENGTHS:
        assert getattr(two, name) == pytest.approx(factor * getattr(one, name), rel=1e-9)


@given(seeds)
def test_moving_turning_mirroring_and_renaming_change_nothing(seed):
    points, labels = some(seed, d=3)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order, names = rng.permutation(len(points)), rng.permutation(4)
    moved = (points @ turn + rng.normal(size=3))[order]
    assert vars(geometry(moved, names[labels][order] - 2)) == pytest.approx(
        vars(geometry(points, labels)), rel=1e-8
    )


@given(seeds, st.integers(1, 50))
def test_dropping_points_never_brings_classes_closer(seed, count):
    points, labels = some(seed)
    order = np.random.default_rng(seed).permutation(len(points))[count:]
    assume(len(np.unique(labels[order])) == 4)
    before = single_linkages([points[labels == c] for c in range(4)])
    after = single_linkages([points[order][labels[order] == c] for c in range(4)])
    assert (after >= before).all() and (after == after.T).all()


def test_classes_further_apart_or_narrower_have_a_higher_dunn_index():
    points, labels = some(0)
    centres = np.stack([points[labels == c].mean(0) for c in range(4)])[labels]
    base = geometry(points, labels)
    assert geometry(centres + (points - centres) / 3, labels).dunn > base.dunn
    assert geometry(points + 5 * centres, labels).dunn > base.dunn


@given(seeds, st.integers(2, 12), st.integers(1, 4))
def test_neighbours_connect_all_classes_and_each_has_its_nearest(seed, count, dimensions):
    centres = np.random.default_rng(seed).normal(size=(count, dimensions))
    pairs = adjacent_pairs(centres)
    assert (pairs[:, 0] < pairs[:, 1]).all() and len(np.unique(pairs, axis=0)) == len(pairs)
    linked = np.eye(count, dtype=bool)
    linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = True
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2) + np.diag([np.inf] * count)
    assert linked[np.arange(count), distances.argmin(1)].all()
    assert np.linalg.matrix_power(linked.astype(int), count).all()
    if dimensions == 2 and count >= 4:
        triangles = Delaunay(centres).simplices
        edges = {
            frozenset(t[[a, b]].tolist()) for t in triangles for a, b in ((0, 1), (0, 2), (1, 2))
        }
        assert {frozenset(p) for p in pairs.tolist()} <= edges


# --- what has no geometry ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "labels", "word"),
    [
        (np.zeros((4, 2)), np.zeros(4), "one class"),
        (np.zeros((4, 2)), np.array([0, 0, 1, 1]), "two points in different places"),
        (np.arange(8.0).reshape(4, 2), np.arange(4), "two points in different places"),
        (np.array([[np.nan, 0], [1, 1]]), np.array([0, 1]), "not finite"),
        (np.zeros((4, 2)), np.zeros(3), "do not fit"),
        (np.zeros(4), np.zeros(4), "do not fit"),
    ],
)
def test_what_has_no_geometry_is_refused(points, labels, word):
    with pytest.raises(DataError, match=word):
        geometry(points, labels)


def test_points_of_two_classes_in_one_place_have_a_dunn_index_of_zero():
    points, labels = some(0)
    points[labels == 1] = points[labels == 0][:1]
    assert geometry(points, labels).dunn == 0
