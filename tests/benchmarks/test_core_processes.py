"""What is a step of the two ways to share a mask, what is timed of it, and the page."""

from types import SimpleNamespace

import pytest
import torch

from adapruner_det.core import AdaPruner
from benchmarks import core_processes as module
from benchmarks.core_processes import WAYS, page, work

STEPS = 20


class Clock:
    """Steps of 1, 4, 9, ... seconds, but for the first ones of each way, which take longest."""

    def __init__(self):
        self.calls, self.now = 0, 0.0

    def perf_counter(self):
        step, ends = divmod(self.calls, 2)
        step %= STEPS
        if ends:
            self.now += 1000.0 if step < STEPS // 10 else step**2
        self.calls += 1
        return self.now


@pytest.fixture
def small(monkeypatch):
    """Masks of 300 samples, steps whose seconds are known; and the masks that were made."""
    made = []

    def pruner(*args, **options):
        made.append(AdaPruner(*args, **options))
        return made[-1]

    monkeypatch.setattr(module, "AdaPruner", pruner)
    monkeypatch.setattr(module, "time", Clock())
    monkeypatch.setattr(module, "N", 300)
    monkeypatch.setattr(module, "STEPS", STEPS)
    return made


def test_a_step_moves_the_mask_and_the_first_tenth_of_the_steps_does_not_count(small):
    found = {}
    work(0, 1, 4, "", found)
    middle = (10**2 + 11**2) / 2  # the median of the squares of 2 to 19
    assert found == {("routed", 1): middle, ("own shard", 1): middle}
    assert [own.num_samples for own in small] == [300, 300]
    assert all(own.mask.full_column("times_seen").sum() > 3.5 * STEPS for own in small)
    assert all(own.mask.full_column("logit").any() for own in small)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_of_several_owns_its_shard_and_reduces_two_numbers_a_step(small, monkeypatch, rank):
    reduced, joined = [], []
    fake = SimpleNamespace(
        init_process_group=lambda *_, rank, world_size, **__: joined.append((rank, world_size)),
        all_reduce=lambda tensor: reduced.append(
            (tensor.shape, tensor.dtype, small[1].mask.full_column("times_seen").any())
        ),
        destroy_process_group=lambda: joined.append(None),
    )
    monkeypatch.setattr(module, "dist", fake)
    found = {}
    work(rank, 2, 4, "store", found)
    assert joined == [(rank, 2), None]
    assert [own.num_samples for own in small] == [300, 150]
    assert reduced == [(torch.Size([2]), torch.float64, True)] * STEPS  # of this way alone
    assert list(found) == ([(way, 2) for way in WAYS] if rank == 0 else [])


def test_the_page_is_in_milliseconds():
    found = {(4, 1, "routed"): 0.0004, (4, 1, "own shard"): 0.0003,
             (64, 2, "own shard"): 0.002, (64, 2, "routed"): 0.03}  # fmt: skip
    assert page(found).splitlines()[-2:] == [
        "| 4 | 1 | 0.40 ms | 0.30 ms |",
        "| 64 | 2 | 30.00 ms | 2.00 ms |",
    ]
