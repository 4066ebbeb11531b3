"""What a loss is compared with."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.core.typical import LEVELS, TypicalLoss, _last_slope, size_levels


def typical_of(sizes, losses):
    """The typical loss of every sample, (N,), after one visit each."""
    levels, level = size_levels(np.array(sizes))
    typical = TypicalLoss(len(losses), levels)
    typical.add(np.asarray(losses, dtype=float), level)
    return typical.of(level)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_without_sizes_it_is_the_upper_median(losses):
    expected = np.sort(losses)[len(losses) // 2] or np.mean(losses) or 1.0
    typical, level = TypicalLoss(len(losses)), np.zeros(len(losses), dtype=int)
    typical.add(np.array(losses), level)
    assert typical.of(level) == pytest.approx(expected)


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=1000))
def test_levels_are_the_sizes_or_some_of_them(sizes):
    levels, level = size_levels(np.array(sizes))
    assert level.dtype == np.uint8 and len(levels) <= LEVELS and np.all(np.diff(levels) > 0)
    assert set(levels) <= set(sizes)
    distance = np.abs(levels[level] - sizes)
    np.testing.assert_array_equal(distance, np.abs(levels[:, None] - sizes).min(axis=0))
    if len(set(sizes)) <= LEVELS:
        assert not distance.any()


@given(st.integers(0, 2**32 - 1), st.integers(800, 60_000), st.floats(0.0, 0.99))
def test_a_level_is_about_the_size_however_few_samples_are_that_large(seed, largest, small):
    rng = np.random.default_rng(seed)
    sizes = np.where(rng.random(20_000) < small, rng.integers(0, 8, 20_000), 8)
    sizes[: 20_000 // 100] = rng.integers(8, largest, 20_000 // 100)
    sizes[:400] = np.arange(400)
    levels, level = size_levels(sizes)
    off = np.abs(levels[level] - sizes)
    assert np.all(off <= 0.025 * (1 + sizes))
    assert not off[sizes < 16].any()
    all_large = rng.integers(1000, 2000, 20_000)
    levels, level = size_levels(all_large)
    assert np.abs(levels[level] - all_large).max() <= 4


def test_few_crowded_images_among_many_that_are_not_stay_as_they_do():
    """The losses are in line with the objects throughout, so nothing is harder than another."""
    rng = np.random.default_rng(0)
    few = rng.random(6000) < 0.06
    sizes = np.where(few, rng.integers(8, 800, 6000), rng.integers(1, 8, 6000))
    pruner = AdaPruner(6000, 0.9, Schedule(2, 8), sizes=sizes)
    for _ in range(10):
        for batch in np.split(rng.permutation(6000), 60):
            pruner.weights(batch)
            pruner.observe(batch, sizes[batch] * rng.gamma(20, 1 / 20, size=100))
        pruner.end_epoch()
    kept, some = pruner.select(), (sizes >= 8) & (sizes < 60)
    assert kept[some].mean() > 0.8 and kept[few].mean() > 0.8
    assert kept[~few].mean() == pytest.approx(0.9, abs=0.02)


def test_samples_are_compared_with_those_of_their_size():
    sizes = np.repeat([1, 2, 4], 100)
    noise = np.random.default_rng(0).lognormal(0, 0.3, 300)
    typical = typical_of(sizes, sizes * 10 * noise)
    for size, part in zip((1, 2, 4), np.split(sizes * 10 * noise, 3), strict=True):
        assert typical[sizes == size] == pytest.approx(np.median(part))


def test_where_sizes_are_not_looked_at_all_are_compared_alike():
    levels, level = size_levels(np.repeat([1, 2, 4], 100))
    losses = np.random.default_rng(0).lognormal(0, 1, 300) * levels[level]
    typical = TypicalLoss(300, levels, by_size=False)
    typical.add(losses, level)
    assert not typical.by_size
    assert typical.of(level) == pytest.approx(np.full(300, np.sort(losses)[150]))


def test_a_state_that_knows_no_sizes_serves_where_they_are_not_looked_at():
    before = TypicalLoss(300)
    before.add(np.arange(1.0, 301.0), np.zeros(300, dtype=int))
    levels, level = size_levels(np.repeat([1, 2, 4], 100))
    after = TypicalLoss(300, levels, by_size=False)
    after.load_state_dict(before.state_dict())
    assert after.of(level).tolist() == before.of(np.zeros(300, dtype=int)).tolist()


def test_sizes_without_a_group_of_their_own_lie_between_their_neighbours():
    sizes = np.concatenate([np.repeat([1, 5], 100), [3]])
    typical = typical_of(sizes, np.concatenate([np.repeat([2.0, 6.0], 100), [100.0]]))
    assert 2.0 < typical[200] < 6.5  # its own loss of 100 is one of a group of 101


def crowded(seed, noise):
    """Sizes of 300 images of which few are crowded, and losses in line with them."""
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([rng.integers(1, 7, 290), rng.integers(30, 61, 10)])
    return sizes, (4.0 + 2.0 * sizes) * rng.lognormal(0, noise, 300)


@pytest.mark.parametrize("seed", range(5))
def test_a_crowded_image_whose_loss_is_in_line_with_its_objects_is_not_hard(seed):
    sizes, losses = crowded(seed, noise=0.15)
    ratio = (losses / typical_of(sizes, losses))[sizes >= 30]
    assert np.all((0.4 < ratio) & (ratio < 1.7))


def test_crowded_images_do_not_all_go():
    kept = 0
    for seed in range(4):
        sizes, losses = crowded(seed, noise=0.4)
        pruner = AdaPruner(300, 0.8, Schedule(1, 10), sizes=sizes)
        rng = np.random.default_rng(seed)
        for _ in range(11):
            for ids in np.split(rng.permutation(300), 10):
                pruner.observe(ids, losses[ids])
            pruner.end_epoch()
        kept += pruner.select()[sizes >= 30].sum()
    assert kept >= 24  # of forty, where 80% stay; none if the typical loss is flat there


@pytest.mark.parametrize(
    ("knots", "expected"),
    [
        ([(1, 1.0), (2, 2.0)], 1.0),  # in proportion
        ([(1, 5.0), (2, 6.0)], 1.0),  # a constant and a share for each
        ([(1, 1.0), (2, 5.0)], 2.5),  # steeper than in proportion: no steeper than that
        ([(1, 5.0), (2, 2.0)], 0.0),  # never falling
        ([(3, 7.0)], 0.0),  # nothing is known of a slope
        ([(0, 1.0), (1, 1.5)], 0.5),  # images without objects
        ([(-2, 1.0), (-1, 1.5)], 0.5),  # sizes may be any numbers
        ([(1, 2.0), (4, 5.0), (7, 8.0), (8, 3.0)], 0.0),  # from 4 to 8: by half, not 7 to 8
        ([(1, 2.0), (4, 5.0), (7, 3.0), (8, 7.0)], 0.5),
        ([(6, 2.0), (8, 4.0)], 0.5),  # no knot as far down as half the last
    ],
)
def test_the_slope_beyond_the_last_knot(knots, expected):
    assert _last_slope(*np.array(knots, dtype=float).T) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(2, 400))
def test_a_larger_size_never_has_a_smaller_typical_loss_beyond_the_last_knot(seed, count):
    rng = np.random.default_rng(seed)
    sizes = np.round(rng.lognormal(1, 1, count))
    typical = typical_of(sizes, rng.lognormal(0, 1, count) * (1 + sizes))
    last = np.median(np.sort(sizes)[-min(32, count) :])  # the last knot is no larger than this
    beyond = np.argsort(sizes)[np.sort(sizes) > last]
    assert np.all(np.diff(typical[beyond]) >= 0) and np.all(typical > 0)


def test_few_observations_or_one_size_are_one_group():
    assert typical_of(np.arange(20), np.arange(20.0)) == pytest.approx(9.5)
    assert typical_of(np.ones(90), np.arange(90.0)) == pytest.approx(45)


def test_it_is_above_zero_where_all_losses_of_a_size_are_zero():
    sizes = np.repeat([0, 1], 50)
    assert np.all(typical_of(sizes, np.repeat([0.0, 3.0], 50)) > 0)


def test_a_loss_that_counts_objects_no_longer_drops_the_images_with_most():
    """Hard images are the wrong ones, of any count; without sizes the largest counts go."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 500)
    wrong = rng.random(500) < 0.1
    losses = sizes * np.where(wrong, 3.0, 1.0) * rng.lognormal(0, 0.1, 500)
    dropped = {}
    for name, given_sizes in (("alike", None), ("by size", sizes)):
        pruner = AdaPruner(500, 0.9, Schedule(1, 10), sizes=given_sizes)
        for _ in range(11):
            for ids in np.split(rng.permutation(500), 10):
                pruner.observe(ids, losses[ids])
            pruner.end_epoch()
        dropped[name] = np.mean(~pruner.select()[wrong])
    assert dropped["by size"] > 0.95
    assert dropped["alike"] < 0.8


def test_a_saved_one_goes_on_as_if_never_interrupted(tmp_path):
    rng = np.random.default_rng(0)
    levels, losses = np.array([1.0, 2.0, 3.0]), rng.lognormal(0, 1, 900)
    level = rng.integers(0, 3, 900)
    whole, first = TypicalLoss(300, levels), TypicalLoss(300, levels)
    for start in range(0, 900, 7):
        batch = slice(start, start + 7)
        whole.add(losses[batch], level[batch])
        first.add(losses[batch], level[batch])
        if start == 455:
            torch.save(first.state_dict(), tmp_path / "state.pth")
            first = TypicalLoss(300, levels)
            first.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    np.testing.assert_array_equal(whole.of(np.arange(3)), first.of(np.arange(3)))


def test_sizes_of_other_samples_are_refused():
    with pytest.raises(ValueError, match="3 sizes for 4 samples"):
        AdaPruner(4, 0.9, Schedule(1, 2), sizes=np.ones(3))
