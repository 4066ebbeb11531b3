import numpy as np
import pytest
import torch

from adapruner_det.errors import DataError
from adapruner_det.methods import get_method, method_names
from adapruner_det.methods.base import dynamic_names, get_dynamic
from adapruner_det.methods.infobatch import InfoBatch

IDS = np.arange(10)
LOSSES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 9.0, 9.0, 9.0, 9.0])  # of mean 3.82


def after(epochs, total=16, seed=0, losses=LOSSES):
    """The guide when so many epochs have ended, in which all were seen."""
    guide = InfoBatch(len(losses), total, seed)
    for _ in range(epochs):
        guide.observe(np.arange(len(losses)), losses)
        guide.end_epoch()
    return guide


def weights(guide, count=10):
    return guide.weights(np.arange(count)).tolist()


def test_it_is_a_reference_and_never_a_method():
    assert dynamic_names() == ["infobatch"] and get_dynamic("infobatch") is InfoBatch
    assert "infobatch" not in method_names()
    with pytest.raises(DataError, match="there is no method 'infobatch'"):
        get_method("infobatch")
    with pytest.raises(DataError, match="no dynamic reference 'random'; there are infobatch"):
        get_dynamic("random")


def test_half_of_what_is_below_the_mean_is_left_out_and_the_rest_counts_for_both():
    assert weights(after(0)) == [1.0] * 10
    for seed in range(20):
        found = weights(after(1, seed=seed))
        assert found[6:] == [1.0] * 4
        assert sorted(found[:6]) == [0.0] * 3 + [2.0] * 3


@pytest.mark.parametrize(("below", "stay"), [(1, 0), (3, 1), (5, 2)])
def test_of_an_odd_number_the_smaller_half_stays(below, stay):
    losses = np.array([0.1] * below + [9.0] * (10 - below))
    found = weights(after(1, losses=losses))
    assert found[:below].count(2.0) == stay and found[:below].count(0.0) == below - stay


def test_each_epoch_is_drawn_anew_so_that_all_count_for_one_in_expectation():
    drawn = np.array([weights(after(1, seed=seed)) for seed in range(400)])
    assert drawn.mean(axis=0) == pytest.approx(1.0, abs=0.2)  # 4 standard errors
    guide = after(1)
    sets = set()
    for _ in range(8):
        sets.add(tuple(weights(guide)))
        guide.observe(IDS, LOSSES)
        guide.end_epoch()
    assert len(sets) > 3
    assert weights(after(3)) == weights(after(3)) != weights(after(3, seed=1))


@pytest.mark.parametrize(("total", "last"), [(16, 14), (8, 7), (7, 6), (3, 2)])
def test_the_last_eighth_is_of_all_samples(total, last):
    guide = InfoBatch(10, total, 0)
    pruned = []
    for _ in range(total):
        pruned.append(0.0 in weights(guide))
        guide.observe(IDS, LOSSES)
        guide.end_epoch()
    assert pruned == [1 < epoch <= last for epoch in range(1, total + 1)]


def test_the_loss_of_what_is_left_out_stays_what_it_was():
    guide = after(1)
    out = guide.weights(IDS).numpy() == 0
    changed = np.where(out, 100.0, LOSSES)
    guide.observe(IDS, changed)
    np.testing.assert_array_equal(guide.state_dict()["losses"], LOSSES)


def test_losses_that_are_not_finite_are_refused_and_change_nothing():
    guide = InfoBatch(3, 8, 0)
    assert guide.observe(torch.tensor([2, 0]), torch.tensor([float("nan"), 1.0])).tolist() == [2]
    guide.end_epoch()
    assert weights(guide, 3) == [1.0] * 3  # one known loss is not below its own mean
    guide.observe(np.array([1]), np.array([3.0]))
    guide.end_epoch()
    assert weights(guide, 3) == [0.0, 1.0, 1.0]


def test_equal_losses_and_one_sample_leave_nothing_out():
    assert weights(after(3, losses=np.ones(10))) == [1.0] * 10
    assert weights(after(3, losses=np.ones(1)), 1) == [1.0]


def test_it_goes_on_from_its_state_to_the_same():
    whole, first = after(5), after(2)
    other = InfoBatch(10, 16, 0)
    state = first.state_dict()
    saved = {name: state[name].clone() for name in ("losses", "weights")}
    first.observe(IDS, LOSSES[::-1])
    first.end_epoch()
    assert all(torch.equal(state[name], saved[name]) for name in saved)  # they are no views
    other.load_state_dict(state)
    for _ in range(3):
        other.observe(IDS, LOSSES)
        other.end_epoch()
    assert weights(other) == weights(whole) and other.images == whole.images == 8  # 10, 7, 7, ...
    with pytest.raises(ValueError, match="other samples"):
        InfoBatch(9, 16, 0).load_state_dict(whole.state_dict())
    assert whole.scalars() == {"left_out": 0.3}


class Two:
    """The exchange of two processes, of which the other sees what this one does, moved by 5."""

    world, rank = 2, 0

    def gather(self, values):
        other = values + 5 if values.dtype == np.int64 else values
        return np.concatenate([values, other]), slice(0, len(values))


def test_processes_hear_of_each_others_losses():
    guide = InfoBatch(10, 16, 0, Two())
    assert guide.observe(IDS[:5], LOSSES[:5]).tolist() == []
    np.testing.assert_array_equal(guide.state_dict()["losses"], np.tile(LOSSES[:5], 2))
