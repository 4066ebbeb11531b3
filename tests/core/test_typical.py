"""What a loss is compared with."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.core.typical import TypicalLoss


def filled(sizes, losses):
    typical = TypicalLoss(len(losses), sizes)
    typical.add(np.arange(len(losses)), np.asarray(losses, dtype=float))
    return typical


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_without_sizes_it_is_the_upper_median(losses):
    expected = np.sort(losses)[len(losses) // 2] or np.mean(losses) or 1.0
    assert filled(None, losses).of(slice(None)) == pytest.approx(expected)


def test_samples_are_compared_with_those_of_their_size():
    sizes = np.repeat([1, 2, 4], 100)
    noise = np.random.default_rng(0).lognormal(0, 0.3, 300)
    typical = filled(sizes, sizes * 10 * noise)
    for size, part in zip((1, 2, 4), np.split(sizes * 10 * noise, 3), strict=True):
        assert typical.of(np.flatnonzero(sizes == size)[:1]) == pytest.approx(np.median(part))


def test_sizes_without_a_group_of_their_own_lie_between_their_neighbours():
    sizes = np.concatenate([np.repeat([1, 5], 100), [3]])
    typical = filled(sizes, np.concatenate([np.repeat([2.0, 6.0], 100), [100.0]]))
    assert 2.0 < typical.of(np.array([200])) < 6.5  # its own loss of 100 is one of a group of 101


def test_few_observations_or_one_size_are_one_group():
    assert filled(np.arange(20), np.arange(20.0)).of(np.arange(20)) == pytest.approx(9.5)
    assert filled(np.ones(90), np.arange(90.0)).of(np.arange(3)) == pytest.approx(44.5)


def test_it_is_above_zero_where_all_losses_of_a_size_are_zero():
    sizes = np.repeat([0, 1], 50)
    typical = filled(sizes, np.repeat([0.0, 3.0], 50))
    assert np.all(typical.of(np.arange(100)) > 0)


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
    sizes, losses = rng.integers(1, 4, 300), rng.lognormal(0, 1, 900)
    whole, first = TypicalLoss(300, sizes), TypicalLoss(300, sizes)
    for start in range(0, 900, 7):
        ids = np.arange(start, min(start + 7, 900))
        whole.add(ids % 300, losses[ids])
        first.add(ids % 300, losses[ids])
        if start == 455:
            torch.save(first.state_dict(), tmp_path / "state.pth")
            first = TypicalLoss(300, sizes)
            first.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    np.testing.assert_array_equal(whole.of(np.arange(300)), first.of(np.arange(300)))


def test_sizes_of_other_samples_are_refused():
    with pytest.raises(ValueError, match="3 sizes for 4 samples"):
        TypicalLoss(4, np.ones(3))
