import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.neighbours import Neighbours, Twins, one_of_each


def near(points, count=15):
    """Neighbours of points (N, D) by plain distance."""
    points = np.asarray(points, dtype=float)
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, : min(count, len(points) - 1)]
    return Neighbours(index, np.take_along_axis(distance, index, axis=1))


def cloud(seed, n=60, copies=20):
    """Points in space of which the last ``copies`` are next to some of the first."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 8))
    points[n - copies :] = points[rng.integers(0, n - copies, copies)]
    points[n - copies :] += 1e-3 * rng.normal(size=(copies, 8))
    return points


def twins_of(pairs, n):
    both = np.array([*pairs, *((b, a) for a, b in pairs)]).reshape(-1, 2).astype(int)
    return Twins(n, both[:, 0], both[:, 1])


def test_copies_are_what_the_formula_says():
    neighbours = near(cloud(0))
    index, distance = neighbours.index, neighbours.distance
    for i in range(len(neighbours)):
        expected = 1.0
        for j, d in zip(index[i, :10], distance[i, :10], strict=True):
            expected += np.exp(-(d**2) / (0.15 * distance[i, 14] * distance[j, 14]))
        assert neighbours.copies[i] == pytest.approx(expected, rel=1e-5)


def test_the_scale_is_the_datas_own():
    """Another unit changes nothing, and a dense part of the set is not full of copies."""
    points = cloud(1)
    np.testing.assert_allclose(near(points).copies, near(1000 * points).copies, rtol=1e-5)
    rng = np.random.default_rng(2)
    dense = np.concatenate([0.01 * rng.normal(size=(100, 8)), 50 + rng.normal(size=(100, 8))])
    assert near(dense).copies.max() < 3.0


def test_exact_copies_are_copies_whatever_the_scale():
    neighbours = near(np.concatenate([np.zeros((20, 8)), cloud(3)]))
    assert neighbours.copies[:20] == pytest.approx(11.0)
    assert neighbours.twins().group[:20].tolist() == [0] * 20
    assert near(np.zeros((5, 2))).copies == pytest.approx(5.0)


def test_groups_are_the_connected_ones():
    twins = twins_of([(7, 3), (3, 5), (2, 6), (8, 9), (9, 4), (4, 8)], 10)
    assert twins.group.tolist() == [0, 1, 2, 3, 4, 3, 2, 3, 4, 4]
    chain = twins_of([(i, i + 1) for i in range(99)], 100)
    assert not chain.group.any()


def test_planted_copies_are_found_and_nothing_else():
    twins = near(cloud(4)).twins()
    counts = np.bincount(twins.group)
    assert np.count_nonzero(counts) == 40
    assert np.all(counts[twins.group[40:]] > 1)


@given(st.integers(0, 10_000))
def test_representatives_are_those_of_one_pass_in_order(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    pairs = {tuple(sorted(rng.choice(n, 2, replace=False))) for _ in range(rng.integers(0, 40))}
    order = rng.integers(0, 5, n)  # with ties
    twins = twins_of(sorted(pairs), n)
    stays = np.zeros(n, dtype=bool)
    for i in np.argsort(order, kind="stable"):
        stays[i] = not any(stays[b if a == i else a] for a, b in pairs if i in (a, b))
    np.testing.assert_array_equal(twins.representatives(order), stays)


@given(st.integers(0, 10_000))
def test_no_group_goes_whole_where_there_is_room(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    group, order = rng.integers(0, rng.integers(1, n + 1), n), rng.integers(0, 20, n)
    eligible = rng.random(n) < rng.choice([0.3, 1.0])
    rank = one_of_each(order, group, eligible)
    assert sorted(rank) == list(range(n)), "a total order, so cuts of it are nested"
    size = np.bincount(group)
    alive = [g for g in np.flatnonzero(size > 1) if eligible[group == g].any()]
    room = min(2 * len(alive), len(np.unique(group[eligible])))
    for count in range(n + 1):
        kept = rank < count
        there = sum(kept[eligible & (group == g)].any() for g in alive)
        assert there >= (len(alive) if count >= room else count * len(alive) // max(room, 1))


def test_an_order_that_has_one_of_each_early_is_left_alone():
    order = np.array([0, 3, 1, 4, 2, 5])
    group = np.array([0, 0, 2, 2, 4, 5])
    np.testing.assert_array_equal(one_of_each(order, group, np.ones(6, dtype=bool)), order)
    alone = np.arange(6)
    np.testing.assert_array_equal(one_of_each(order, alone, np.ones(6, dtype=bool)), order)


def test_the_best_of_a_group_comes_and_the_order_of_the_others_stays():
    order = np.arange(8)
    group = np.array([0, 1, 2, 3, 4, 5, 6, 6])  # one group, the last two
    rank = one_of_each(order, group, np.ones(8, dtype=bool))
    assert np.argsort(rank).tolist() == [0, 6, 1, 2, 3, 4, 5, 7]
    eligible = np.arange(8) != 6
    assert np.argsort(one_of_each(order, group, eligible)).tolist() == [0, 7, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("index", "distance", "message"),
    [
        ([[1], [0]], [[1.0, 2.0], [1.0, 2.0]], r"shape \(2, 1\), their distances \(2, 2\)"),
        ([1, 0], [1.0, 1.0], r"both must be \(N, k\)"),
        ([[], []], [[], []], "k of 1 or more"),
        ([[1.0], [0.0]], [[1.0], [1.0]], "whole numbers"),
        ([[0], [0]], [[1.0], [1.0]], "not the sample itself"),
        ([[2], [0]], [[1.0], [1.0]], "samples 0 to 1"),
        ([[-1], [0]], [[1.0], [1.0]], "samples 0 to 1"),
        ([[1], [0]], [[np.nan], [1.0]], "finite and 0 or more"),
        ([[1], [0]], [[-1.0], [1.0]], "finite and 0 or more"),
        ([[1, 2], [0, 2], [0, 1]], [[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]], "nearest first"),
    ],
)
def test_refused(index, distance, message):
    with pytest.raises(ValueError, match=message):
        Neighbours(np.array(index), np.array(distance))


# --- more copies than each counts neighbours -----------------------------------------------------


def test_a_least_scale_counts_in_place_of_a_smaller_one():
    points = np.concatenate([1e-3 * np.random.default_rng(0).normal(size=(20, 8)), cloud(4)])
    plain = near(points)
    floored = Neighbours(plain.index, plain.distance, 0.1)
    np.testing.assert_array_equal(floored.scale, np.maximum(plain.scale, 0.1))
    assert (plain.scale[:20] < 0.1).all() and (plain.scale[20:] > 0.1).all()
    assert plain.copies[:20].max() < 5 and floored.copies[:20].min() > 10.5
    np.testing.assert_array_equal(floored.copies[20:], plain.copies[20:])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_of_those_that_are_alike_the_first_alone_stands_for_all(alike, seed):
    n = len(alike)
    pairs = [(i, j) for i in range(n) for j in range(i) if alike[i] == alike[j]]
    order = np.random.default_rng(seed).permutation(n)
    whole = twins_of(pairs, n).representatives(order)
    none = np.zeros(0, dtype=int)
    np.testing.assert_array_equal(
        Twins(n, none, none, np.array(alike)).representatives(order), whole
    )


def test_what_is_alike_and_what_is_a_pair_count_together():
    """0, 1 and 2 are alike, 2 and 3 twins, 4 alone."""
    twins = Twins(5, np.array([2, 3]), np.array([3, 2]), np.array([0, 0, 0, 3, 4]))
    for order, stay in (([4, 3, 0, 1, 2], [2, 4]), ([0, 3, 2, 1, 4], [0, 3, 4])):
        assert np.flatnonzero(twins.representatives(np.array(order))).tolist() == stay


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"least_scale": -1.0}, "least scale"),
        ({"least_scale": np.nan}, "least scale"),
        ({"alike": np.zeros(2, dtype=int)}, "alike"),
    ],
)
def test_a_least_scale_or_a_grouping_that_cannot_be_is_refused(more, words):
    plain = near(cloud(0))
    with pytest.raises(ValueError, match=words):
        Neighbours(plain.index, plain.distance, **more)
