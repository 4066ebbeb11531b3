import threading

import numpy as np
import pytest
import torch

from adapruner_det.core import SampleMask
from adapruner_det.core.mask import COLUMNS


def rows(logit, seen=1):
    """Arguments of SampleMask.write after the ids; columns that can be told apart."""
    logit = np.array(logit, dtype=np.float64)
    return logit, logit + 1.0, logit + 2.0, np.full(len(logit), seen)


def write(mask, ids, logit, alpha=1.0):
    ids = np.array(ids)
    before = mask.read(ids).logit
    mask.write(ids, *rows(logit))
    mask.account(before, np.array(logit, dtype=np.float64), alpha)


def test_a_sample_takes_at_most_16_bytes(tmp_path):
    SampleMask(1000, directory=tmp_path)
    arrays = [np.load(path, mmap_mode="r") for path in tmp_path.iterdir()]
    assert sum(array.nbytes for array in arrays) == 16 * 1000


def test_every_number_of_a_sample_lies_where_its_type_wants_it():
    for mask in (SampleMask(3), SampleMask(3, size_level=np.zeros(3, dtype=np.uint8))):
        assert all(mask.column(name).flags.aligned for name in (*COLUMNS, "size_level"))


def test_reads_what_was_written_and_touches_nothing_else():
    mask = SampleMask(6, size_level=np.arange(6, dtype=np.uint8))
    mask.write(np.array([4, 1]), *rows([0.5, -1.5], seen=3))
    found = mask.read(np.array([1, 4, 0]))
    np.testing.assert_array_equal(found.logit, [-1.5, 0.5, 0.0])
    np.testing.assert_array_equal(mask.logits(np.array([4, 4, 1])), [0.5, 0.5, -1.5])
    np.testing.assert_array_equal(mask.column("last_loss"), [0, -0.5, 0, 0, 1.5, 0])
    np.testing.assert_array_equal(found.mean_loss, [0.5, 2.5, 0.0])
    np.testing.assert_array_equal(found.times_seen, [3, 3, 0])
    np.testing.assert_array_equal(found.size_level, [1, 4, 0])
    np.testing.assert_array_equal(found.state["size_level"], [1, 4, 0])
    np.testing.assert_array_equal(mask.column("logit"), [0, -1.5, 0, 0, 0.5, 0])


def test_times_seen_stops_at_its_largest_number():
    mask = SampleMask(1)
    mask.write(np.array([0]), *rows([0.0], seen=70_000))
    assert mask.column("times_seen")[0] == 65_535


def exact_totals(mask, alpha):
    logit = mask.column("logit").astype(np.float64)
    probability = 1.0 / (1.0 + np.exp(-alpha * logit))
    binary = (probability < 0.1) | (probability > 0.9)
    return (
        pytest.approx(probability.sum(), abs=1e-5),
        np.count_nonzero(logit > 0),
        np.count_nonzero(logit == 0),
        np.count_nonzero(binary),
    )


def found_totals(mask):
    totals = mask.totals
    return totals.soft, totals.positive, totals.undecided, totals.binary


@pytest.mark.parametrize("initial_logit", [0.0, 1.0])
def test_totals_stay_current(initial_logit):
    rng = np.random.default_rng(0)
    mask = SampleMask(50, initial_logit=initial_logit, alpha=2.5)
    assert found_totals(mask) == exact_totals(mask, 2.5)
    for _ in range(20):
        ids = rng.choice(50, size=8, replace=False)
        write(mask, ids, rng.integers(-2, 3, size=8).astype(float), alpha=2.5)
    assert found_totals(mask) == exact_totals(mask, 2.5)
    mask.recount(1.5)
    assert found_totals(mask) == exact_totals(mask, 1.5)


def test_a_recount_over_many_chunks():
    mask = SampleMask(100_001)
    logit = np.random.default_rng(0).integers(-2, 3, size=100_001).astype(float)
    write(mask, np.arange(100_001), logit, alpha=1.0)
    mask.recount(2.5)
    assert mask.totals.soft == pytest.approx(exact_totals(mask, 2.5)[0].expected, rel=1e-7)
    assert found_totals(mask)[1:] == exact_totals(mask, 2.5)[1:]


def test_memory_mapped_columns_hold_the_same(tmp_path):
    in_ram, mapped = SampleMask(9), SampleMask(9, directory=tmp_path)
    for mask in (in_ram, mapped):
        mask.write(np.array([3, 8]), *rows([2.0, -2.0]))
    for name, dtype in COLUMNS.items():
        column = mapped.column(name)
        assert isinstance(column, np.memmap) and column.dtype == dtype
        np.testing.assert_array_equal(column, in_ram.column(name))
    np.testing.assert_array_equal(np.load(tmp_path / "logit.0.npy"), in_ram.column("logit"))


def test_state_round_trip(tmp_path):
    mask = SampleMask(9, initial_logit=0.25)
    write(mask, [3, 8], [2.0, -2.0])
    mask.column("times_seen")[0] = 65_535
    torch.save(mask.state_dict(), tmp_path / "mask.pt")
    copy = SampleMask(9)
    copy.load_state_dict(torch.load(tmp_path / "mask.pt", weights_only=True))
    for name in COLUMNS:
        np.testing.assert_array_equal(copy.column(name), mask.column(name))
    assert copy.totals == mask.totals


def test_a_state_with_a_column_that_masks_once_had_is_taken():
    mask = SampleMask(4)
    write(mask, [1, 2], [2.0, -2.0])
    state = mask.state_dict()
    assert (
        list(state["columns"]) == list(COLUMNS) == ["logit", "last_loss", "mean_loss", "times_seen"]
    )
    state["columns"]["kept"] = torch.ones(4, dtype=torch.uint8)
    copy = SampleMask(4)
    copy.load_state_dict(state)
    assert copy.column("logit").tolist() == [0, 2, -2, 0]
    assert list(copy.state_dict()["columns"]) == list(COLUMNS)


def test_files_of_an_earlier_mask_with_other_columns_are_written_anew(tmp_path):
    old = [("last_loss", "<f4"), ("mean_loss", "<f4"), ("times_seen", "<u2"), ("kept", "u1")]
    np.save(tmp_path / "records.0.npy", np.ones(5, dtype=[*old, ("size_level", "u1")]))
    mask = SampleMask(3, directory=tmp_path)
    assert mask.column("mean_loss").tolist() == mask.column("times_seen").tolist() == [0, 0, 0]
    mask.write(np.array([1]), *rows([0.5], seen=2))
    found = np.load(tmp_path / "records.0.npy")
    assert found["mean_loss"].tolist() == [0, 2.5, 0] and "kept" not in found.dtype.names


def test_state_is_a_copy():
    mask = SampleMask(3)
    state = mask.state_dict()
    mask.column("logit")[:] = 7.0
    assert state["columns"]["logit"].tolist() == [0.0, 0.0, 0.0]


def test_refused():
    with pytest.raises(ValueError, match="at least 1 sample, not 0"):
        SampleMask(0)
    with pytest.raises(ValueError, match="saved mask has 3 samples, this run has 4"):
        SampleMask(4).load_state_dict(SampleMask(3).state_dict())


class Threads:
    """Stands for the exchange of two processes, which are threads here."""

    def __init__(self, rank, world, barrier, sent):
        self.rank, self.world = rank, world
        self._barrier, self._sent = barrier, sent

    def sum(self, values):
        self._sent[self.rank] = values
        self._barrier.wait()
        total = np.sum(self._sent, axis=0)
        self._barrier.wait()
        return total


def on_each_rank(world, target):
    """What ``target(exchange)`` returns on each of ``world`` ranks, all of them at a time."""
    barrier, sent, found = threading.Barrier(world, timeout=30), [None] * world, [None] * world

    def run(rank):
        try:
            found[rank] = target(Threads(rank, world, barrier, sent))
        except Exception:
            barrier.abort()  # or the others would wait
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def shared_by(exchange):
    """A mask of 7 samples of which 5 and 2 were written, in a batch that every rank knows."""
    mask = SampleMask(7, size_level=np.arange(7, dtype=np.uint8), exchange=exchange)
    mask.write(np.array([5, 2]), *rows([2.0, -2.0], seen=4))
    return mask


@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_has_the_whole_of_a_column_and_keeps_a_part(world):
    def target(exchange):
        mask = shared_by(exchange)
        return mask.column("logit").tolist(), mask.full_column("logit"), mask.state_dict()

    whole = [0, 0, -2, 0, 0, 2, 0]
    found = on_each_rank(world, target)
    for rank, (own, full, state) in enumerate(found):
        assert own == whole[rank::world]
        assert full.tolist() == whole and full.dtype == np.float32
        columns = state["columns"]
        assert columns["logit"].tolist() == whole
        assert columns["last_loss"].tolist() == [0, 0, -1, 0, 0, 3, 0]
        assert columns["mean_loss"].tolist() == [0, 0, 0, 0, 0, 4, 0]
        assert columns["times_seen"].tolist() == [0, 0, 4, 0, 0, 4, 0]


def test_a_state_of_one_process_is_taken_over_by_two_and_read_by_both():
    state = SampleMask(7)
    write(state, [1, 4], [3.0, -1.0])
    state = state.state_dict()

    def target(exchange):
        mask = SampleMask(7, exchange=exchange)
        mask.load_state_dict(state)
        mask.recount(2.0)
        logits = mask.logits(np.array([4, 1, 0, 1]))
        return mask.column("logit").tolist(), logits.tolist(), mask.totals

    first, second = on_each_rank(2, target)
    assert (first[0], second[0]) == ([0, 0, -1, 0], [3, 0, 0])
    assert first[1] == second[1] == [-1, 3, 0, 3]
    assert first[2] == second[2]
    # Five of σ(0), σ(6) and σ(−2); of these only σ(6) is binary.
    assert first[2].soft == pytest.approx(5 * 0.5 + 0.9975274 + 0.1192029, abs=1e-6)
    assert first[2].binary == 1


def test_the_soft_sum_is_the_same_to_the_bit_however_many_processes_share_it():
    logit = np.random.default_rng(0).normal(size=70_001)
    state = SampleMask(70_001)
    write(state, np.arange(70_001), logit)
    state = state.state_dict()

    def target(exchange):
        mask = SampleMask(70_001, exchange=exchange)
        mask.load_state_dict(state)
        mask.recount(1.7)
        return mask.totals.soft

    (alone,) = on_each_rank(1, target)
    for world in (2, 3):
        assert set(on_each_rank(world, target)) == {alone}
    exact = np.sum(1 / (1 + np.exp(-1.7 * logit.astype(np.float32).astype(float))))
    assert alone == pytest.approx(exact, rel=1e-7)
