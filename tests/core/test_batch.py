import numpy as np
import pytest
import torch

from adapruner_det.core import AdaPruner, Schedule
from tests.core.stream import new
from tests.core.trained import assert_same, columns


def test_a_repeated_id_is_one_visit_with_the_mean_loss():
    pair = [AdaPruner(4, 0.5, Schedule(0, 2)) for _ in range(2)]
    pair[0].observe([2, 0, 2], [1.0, 0.5, 3.0])
    pair[1].observe([0, 2], [0.5, 2.0])
    assert_same(*pair)
    assert pair[0].mask.column("times_seen").tolist() == [1, 0, 1, 0]
    np.testing.assert_array_equal(pair[0].weights([2, 0, 2]), pair[0].weights([0, 2])[[1, 0, 1]])


@pytest.mark.parametrize(
    ("ids", "losses", "message"),
    [
        ([0, 1], [1.0], "one loss per id"),
        ([0], 1.0, "one loss per id"),
        ([4], [1.0], "indices 0 to 3"),
        ([-1], [1.0], "indices 0 to 3"),
        ([[0]], [[1.0]], "must be a vector"),
        ([0], [-0.5], "losses of 0 or more"),
        ([0.5], [1.0], "whole numbers"),
    ],
)
def test_refused_batches(ids, losses, message):
    pruner = AdaPruner(4, 0.5, Schedule(0, 2))
    before = columns(pruner)
    with pytest.raises(ValueError, match=message):
        pruner.observe(ids, losses)
    for name, column in columns(pruner).items():
        np.testing.assert_array_equal(column, before[name])


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ({"doubt": [0.1, 0.2]}, "no signal 'doubt'; there are confidence, fault"),
        ({"fault": [0.1]}, "fault of shape"),
        ({"fault": [0.1, 1.1]}, r"fault runs beyond \[0, 1\]: 0.1 to 1.1"),
        ({"fault": [np.nan, 1.1]}, r"fault runs beyond \[0, 1\]: 1.1 to 1.1"),
        ({"confidence": [-0.2, 0.5]}, r"confidence runs beyond \[0, 1\]"),
    ],
)
def test_refused_signals(signals, message):
    for pruner in (new(4), AdaPruner(4, 0.5, Schedule(0, 2))):
        with pytest.raises(ValueError, match=message):
            pruner.observe([0, 1], [1.0, 2.0], **signals)
        assert not pruner.mask.column("times_seen").any()


def test_a_signal_that_is_not_a_number_is_a_visit_that_did_not_happen():
    pruner, other = new(6), new(6)
    found = pruner.observe([0, 1, 2], [1.0, 2.0, 3.0], fault=torch.tensor([0.1, np.nan, 0.2]))
    assert found.tolist() == [1] and pruner.nonfinite == 1
    other.observe([0, 2], [1.0, 3.0], fault=[0.1, 0.2])
    for name in pruner.mask.saved:
        np.testing.assert_array_equal(pruner.mask.column(name), other.mask.column(name))


def test_a_signal_that_the_objective_does_not_use_is_passed_over_whatever_it_is():
    pruner = AdaPruner(4, 0.5, Schedule(0, 2))
    assert len(pruner.observe([0, 1], [1.0, 2.0], fault=[np.nan, 0.5])) == 0
    assert pruner.nonfinite == 0


def test_a_probability_that_rounding_took_a_little_beyond_one_is_taken():
    new(4).observe([0], [0.1], confidence=torch.tensor([1.0004], dtype=torch.float16))
