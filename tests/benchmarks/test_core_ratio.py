"""Which cells there are, when one passes, and what the tables say of those that do not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import core_ratio as module
from benchmarks.core_ratio import (
    BINARY,
    EPOCHS,
    KEEP_RATIOS,
    SEEDS,
    STREAMS,
    TOLERANCE,
    Cell,
    Outcome,
    all_cells,
    make_stream,
    report,
    run_cell,
    table,
)


@pytest.mark.parametrize(
    ("outcome", "passed"),
    [
        (Outcome(TOLERANCE, BINARY, True), True),
        (Outcome(-TOLERANCE, 1.0, True), True),
        (Outcome(0.0201, 1.0, True), False),
        (Outcome(-0.0201, 1.0, True), False),
        (Outcome(0.0, 0.979, True), False),
        (Outcome(0.0, 1.0, False), False),
    ],
)
def test_a_cell_passes_by_all_three(outcome, passed):
    assert outcome.passed == passed


def test_every_combination_is_a_cell_once():
    cells = list(all_cells(list(EPOCHS)))
    assert len(cells) == len(set(cells))
    counts = Counter((cell.num_samples, cell.epochs) for cell in cells)
    one = len(STREAMS) * len(KEEP_RATIOS)
    assert counts == {(n, e): one * SEEDS[n] for n in EPOCHS for e in EPOCHS[n]}
    assert {cell.batch for cell in all_cells([100])} == {16}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_has_losses_of_what_it_says(kind):
    rng = np.random.default_rng(0)
    stream, ids = make_stream(kind, 400, rng), np.arange(400)
    first, again, late = stream(ids, 0.0), stream(ids, 0.0), stream(ids, 1.0)
    assert (first >= 0).all() and np.isfinite(first).all()
    words = STREAMS[kind]
    noisy = ("noise" in words and "no noise" not in words) or "visit" in words
    assert (first != again).any() == noisy
    share = {"zeros": 0.3, "zeros by visit": 0.5}.get(kind, 0.0)
    assert np.mean(first == 0) == pytest.approx(share, abs=0.08)
    fall = {"drifting down": 1 / 20, "drifting far down": 1 / 1100}.get(kind, 1.0)
    middle = np.median(late[late > 0]) / np.median(first[first > 0])
    assert middle == pytest.approx(fall, rel=0.3)
    assert np.array_equal(first == 0, again == 0) == (kind != "zeros by visit")


def test_a_run_is_judged_before_its_cut_and_the_cut_is_counted(monkeypatch):
    cell = Cell("log-normal", 100, 16, 8, 0.7, 0)
    found = run_cell(cell)
    assert found.passed and found == run_cell(cell)

    class Off(module.AdaPruner):
        """Keeps two too many, and says that it is at 0.75."""

        def select(self):
            kept = super().select()
            kept[np.flatnonzero(~kept)[:2]] = True
            return kept

        def end_epoch(self):
            return replace(super().end_epoch(), ratio=0.75, binary_share=0.5)

    monkeypatch.setattr(module, "AdaPruner", Off)
    off = run_cell(cell)
    assert (off.error, off.binary, off.exact) == (pytest.approx(0.05), 0.5, False)


def outcomes():
    """All of 100 samples; 30 epochs of one stream at 0.9 fail in two seeds of five."""
    found = {cell: Outcome(-0.001, 1.0, True) for cell in all_cells([100])}
    for seed, bad in {1: Outcome(-0.031, 0.99, True), 3: Outcome(0.02, 0.9, False)}.items():
        found[Cell("noise", 100, 16, 30, 0.9, seed)] = bad
    return found


def cells_of(lines):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_an_entry_is_the_worst_of_its_seeds():
    lines = {line[0]: line[1:] for line in cells_of(table(outcomes(), 100, 30))}
    assert lines["stream"] == [f"{ratio:g}" for ratio in KEEP_RATIOS]
    assert list(lines)[2:] == list(STREAMS)
    place = KEEP_RATIOS.index(0.9)
    assert lines["noise"][place] == "**3.10 / 90.0** (2 of 5 fail)"
    others = {text for name, line in lines.items() if name in STREAMS for text in line}
    assert others - {lines["noise"][place]} == {"0.10 / 100.0"}
    assert "fail" not in "".join(table(outcomes(), 100, 8))


def test_the_report_counts_what_failed_and_what_is_not_exact():
    text = report(outcomes(), [100], 90.0)
    runs = len(STREAMS) * len(KEEP_RATIOS) * 3 * 5
    assert f"Of {runs} runs 2 fail; 1 cuts are not exact. 2 minutes." in text
    heads = [line for line in text.splitlines() if line.startswith("##")]
    assert heads == [f"## N = 100, {e} epochs (batches of 16, seeds: 5)" for e in (8, 30, 100)]
    parts = text.split("## ")[1:]
    assert ["2 of 5 fail" in part for part in parts] == [False, True, False]
