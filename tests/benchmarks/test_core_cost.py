"""What a step is timed on, what it leaves behind, and which way round the ratios are."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import core_cost as module
from benchmarks.core_cost import (
    BYTES,
    epoch_ends,
    mapped_run,
    mapped_table,
    paired_steps,
    prepared,
    step_seconds,
)


def cells_of(lines):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_mask_in_the_middle_of_its_run_holds_its_ratio():
    pruner = prepared(3000)
    positive = (pruner.mask.column("logit") > 0).mean()
    assert positive == pytest.approx(0.9, abs=0.03)
    assert pruner.mask.totals.positive / 3000 == pytest.approx(positive, abs=0.03)
    assert pruner.epoch == module.MIDDLE
    assert (pruner.mask.column("times_seen") == module.MIDDLE).all()


def test_a_step_moves_the_mask_and_what_it_moved_is_put_back(monkeypatch):
    pruner, rng = prepared(60), np.random.default_rng(0)  # of which few draws are all different
    moved = []
    real = pruner.observe

    def observe(ids, losses):
        real(ids, losses)
        moved.append((len(ids), len(np.unique(ids)), pruner.mask.full_column("times_seen").sum()))

    monkeypatch.setattr(pruner, "observe", observe)
    totals = dict(vars(pruner.mask.totals))
    before = pruner.mask.full_column("times_seen").sum()
    for _ in range(3):
        assert step_seconds(pruner, 16, rng) > 0
    assert moved == [(16, 16, before + 16)] * 3
    assert pruner.mask.full_column("times_seen").sum() == before
    assert vars(pruner.mask.totals) == totals


def test_steps_are_paired_the_largest_mask_over_the_smallest(monkeypatch):
    """Medians of the rows behind the first tenth; a pair's ratio is of one turn."""
    given = {  # N → µs of each turn
        10: [900, 900, *9 * [10, 30]],
        100: [1] * 20,
        1000: [1, 1, *9 * [40, 36]],
    }
    times = {n: iter(np.array(own) / 1e6) for n, own in given.items()}
    monkeypatch.setattr(module, "prepared", lambda n: n)
    monkeypatch.setattr(module, "step_seconds", lambda n, batch, rng: next(times[n]))
    head, _, line = cells_of(paired_steps([10, 100, 1000], (16,), 20))
    assert head[1:] == ["N = 1e+01", "N = 1e+02", "N = 1e+03", "paired ratio", "of medians"]
    pairs, medians = (40 / 10 + 36 / 30) / 2, 38 / 20
    assert line == ["16", "20 µs", "1 µs", "38 µs", f"{pairs:.2f}", f"{medians:.2f}"]


def test_the_pass_is_compared_with_each_copy_of_its_own_turn(monkeypatch):
    turns = [(8, 4, 1), (9, 3, 3), (2, 1, 2)]  # ms of pass, copy() and copyto()
    marks = [0.0]
    for turn in turns:
        for number, step in enumerate((0.5, *turn)):  # between the turns the clock goes on
            if number:
                marks.append(marks[-1] + step / 1e3)
            else:
                marks.append(marks[-1] + step)
    clock = iter(marks[1:])
    mask = SimpleNamespace(column=lambda _: np.zeros(4), recount=lambda alpha: None)
    monkeypatch.setattr(module, "prepared", lambda n: SimpleNamespace(mask=mask))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    (_, _, line) = cells_of(epoch_ends([10**6], 3))
    assert line == ["1e+06", "8.0 ms", "3.0 ms", "2.00", "2.0 ms", "3.00"]


def test_a_mapped_run_says_what_the_table_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(module.torch, "set_num_threads", lambda count: None)
    found = mapped_run(20_000, str(tmp_path), 3, 64)
    files = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert files == pytest.approx(BYTES * 20_000, rel=0.02)
    assert 0 < found["median step"] <= found["p99"] <= found["all steps"]
    assert found["peak"] > found["own"] >= 0 and 10 < found["peak"] < 1e5  # MB
    given = {"median step": 0.0008, "p99": 0.0013, "all steps": 11.64, "epoch end": 0.0023,
             "own": 2.2, "peak": 533.4, "ratio": 0.9}  # fmt: skip
    assert given.keys() == found.keys()
    head, _, line = cells_of(mapped_table({10**6: given}, 10_000, 1024))
    assert line == ["1e+06", "0.016 GB", "11.6 s", "800 µs", "1300 µs", "0.002 s", "533 MB", "2 MB"]
    assert len(head) == len(line) and head[2] == "10,000 steps of 1024"
