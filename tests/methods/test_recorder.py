import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adapruner_det.methods.recorder import LOSS, Recorder


def record(recorder, *epochs):
    for batches in epochs:
        for ids, losses, signals in batches:
            recorder.observe(np.array(ids), np.array(losses), **signals)
        recorder.end_epoch()
    return recorder


def test_it_weights_nothing():
    weights = Recorder(5).weights(torch.tensor([4, 1]))
    assert weights.tolist() == [1.0, 1.0] and weights.dtype == torch.float32
    assert Recorder(5).scalars() == {}


def test_losses_are_kept_by_epoch_and_sample():
    found = record(
        Recorder(3),
        [([2, 0], [0.2, 0.5], {}), ([1], [1.0], {})],
        [([0], [0.25], {}), ([1], [2.0], {})],
    )
    expected = [[0.5, 1.0, 0.2], [0.25, 2.0, np.nan]]
    np.testing.assert_array_equal(found.signal(LOSS), np.float32(expected))
    assert found.epochs == 2 and found.signal(LOSS).dtype == np.float32


def test_a_sample_seen_twice_has_its_last_value():
    found = record(Recorder(2), [([0], [1.0], {}), ([0], [3.0], {})])
    np.testing.assert_array_equal(found.signal(LOSS), [[3.0, np.nan]])


def test_signals_may_be_numbers_or_vectors():
    signals = {"margin": torch.tensor([1.5, -2.0]), "probabilities": np.eye(3)[:2]}
    found = record(Recorder(3, signals), [([2, 1], [0.1, 0.2], signals)])
    np.testing.assert_array_equal(found.signal("margin"), [[np.nan, -2.0, 1.5]])
    expected = [[[np.nan] * 3, [0, 1, 0], [1, 0, 0]]]
    np.testing.assert_array_equal(found.signal("probabilities"), expected)
    assert found.signals == {"margin", "probabilities"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_leaves_a_gap(bad):
    recorder = Recorder(3, ["margin"])
    margin = torch.tensor([5.0, 6.0])
    assert recorder.observe([0, 2], torch.tensor([bad, 1.0]), margin=margin).tolist() == [0]
    recorder.end_epoch()
    np.testing.assert_array_equal(recorder.signal(LOSS), [[np.nan, np.nan, 1.0]])
    np.testing.assert_array_equal(recorder.signal("margin"), [[np.nan, np.nan, 6.0]])


def test_more_than_was_asked_for_is_not_kept():
    found = record(Recorder(1), [([0], [1.0], {"margin": [2.0]})])
    with pytest.raises(KeyError):
        found.signal("margin")


@pytest.mark.parametrize("signals", [{}, {"margin": [1.0]}, {"margin": [1.0, 2.0, 3.0]}])
def test_a_signal_that_is_missing_or_of_another_length_is_named(signals):
    with pytest.raises(ValueError, match="'margin' of 2 samples"):
        Recorder(4, ["margin"]).observe([0, 1], [0.1, 0.2], **signals)
    with pytest.raises(ValueError, match="'loss' of 2 samples"):
        Recorder(4).observe([0, 1], [0.1])


def test_an_epoch_without_a_sample_is_an_epoch():
    found = record(Recorder(2), [], [([1], [1.0], {})], [])
    nan = np.nan
    np.testing.assert_array_equal(found.signal(LOSS), [[nan, nan], [nan, 1.0], [nan, nan]])
    assert Recorder(2).signal(LOSS).shape == (0, 2)


losses = hnp.arrays(np.float32, (4, 6), elements=st.floats(0, 100, width=32))


@given(losses, st.integers(0, 3), st.integers(0, 1))
def test_resumed_anywhere_the_record_is_the_same(table, stop_epoch, stop_batch):
    def run(recorder, first=(0, 0), stop=None):
        for epoch in range(first[0], 4):
            for batch in range(first[1] if epoch == first[0] else 0, 2):
                if (epoch, batch) == stop:
                    return recorder.state_dict()
                ids = np.arange(3) + 3 * batch
                recorder.observe(ids, table[epoch, ids], margin=-table[epoch, ids])
            recorder.end_epoch()
        return None

    whole = Recorder(6, ["margin"])
    run(whole)
    state = run(Recorder(6, ["margin"]), stop=(stop_epoch, stop_batch))
    resumed = Recorder(6, ["margin"])
    resumed.load_state_dict(state)
    run(resumed, first=(stop_epoch, stop_batch))
    for name in (LOSS, "margin"):
        np.testing.assert_array_equal(resumed.signal(name), whole.signal(name))
    np.testing.assert_array_equal(whole.signal(LOSS), table)


def test_the_state_is_saved_as_plain_tensors(tmp_path):
    recorder = record(Recorder(2, ["margin"]), [([1], [1.0], {"margin": [2.0]})])
    recorder.observe([0], [3.0], margin=[4.0])
    torch.save(recorder.state_dict(), tmp_path / "state.pt")
    found = Recorder(2, ["margin"])
    found.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found.end_epoch()
    np.testing.assert_array_equal(found.signal("margin"), [[np.nan, 2.0], [4.0, np.nan]])


def test_a_state_holds_no_second_copy_of_what_is_done():
    """With a signal of many classes that would be gigabytes."""
    recorder = record(Recorder(2), [([0, 1], [1.0, 2.0], {})])
    (epoch,) = recorder.state_dict()["done"][LOSS]
    assert np.shares_memory(epoch.numpy(), recorder._done[LOSS][0])


def test_a_state_is_not_what_goes_on_being_written():
    recorder = Recorder(1)
    recorder.observe([0], [1.0])
    state = recorder.state_dict()
    recorder.observe([0], [9.0])
    assert state["now"][LOSS].tolist() == [1.0]


@pytest.mark.parametrize("other", [Recorder(3), Recorder(2, ["margin"])])
def test_the_record_of_other_samples_or_signals_is_refused(other):
    with pytest.raises(ValueError, match="other signals or other samples"):
        other.load_state_dict(Recorder(2).state_dict())


class TwoProcesses:
    """The other process has the samples 2 and 3 whenever this one has 0 and 1."""

    world, rank = 2, 0

    def gather(self, values):
        other = values + 2 if values.dtype == np.int64 else values * 10
        return np.concatenate([values, other], axis=-1), slice(0, values.shape[-1])


def test_every_process_records_what_all_have_seen():
    recorder = Recorder(4, ["probabilities"], TwoProcesses())
    bad = recorder.observe([0, 1], [1.0, np.nan], probabilities=np.array([[1, 2], [3, 4]]))
    recorder.end_epoch()
    nan = np.nan
    np.testing.assert_array_equal(recorder.signal(LOSS), [[1.0, nan, 10.0, nan]])
    expected = [[[1, 2], [nan, nan], [10, 20], [nan, nan]]]
    np.testing.assert_array_equal(recorder.signal("probabilities"), expected)
    assert bad.tolist() == [1]
