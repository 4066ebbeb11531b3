"""The grids that the arguments make, and how well each method held its ratio."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.classification.config import ABLATIONS
from adapruner_det.experiment.grid import Grid
from benchmarks import classification as module
from benchmarks.classification import chosen_table, grids, mean_percent, parse_args
from benchmarks.classification import wrong_among_dropped as wrong_share


def parsed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["classification.py", "--name", "x", *words])
    return parse_args()


def selection(kept, soft=None):
    return SimpleNamespace(columns={"kept": np.array(kept, dtype=bool)}, soft_ratio=soft)


def test_a_table_a_share_of_wrong_labels_and_one_of_the_ablations(monkeypatch):
    words = ["--wrong", "0.15", "0.3", "--seeds", "4", "5", "--budgets", "steps", "epochs"]
    found = list(grids(parsed(monkeypatch, *words, "--ablations", "warmup", "compression")))
    common = {"seeds": (4, 5), "budgets": ("steps", "epochs")}
    main = Grid(("random", "adapruner"), (0.9, 0.8, 0.6), **common)
    parts = ("adapruner[WARMUP_EPOCHS=0]", "adapruner[COMPRESSION_LOSS=False]")
    ablations = Grid(("random", "adapruner", *parts), (0.9,), **common)
    assert found == [(0.15, main), (0.3, main), (0.15, ablations)]
    assert len(list(grids(parsed(monkeypatch, "--ablations")))) == 2
    assert parsed(monkeypatch).ablations == list(ABLATIONS)


def test_wrong_labels_are_counted_among_what_is_dropped():
    wrong = np.array([True, False, True, False, False])
    assert wrong_share(selection([0, 0, 1, 1, 0]), wrong) == pytest.approx(1 / 3)
    assert wrong_share(selection([1, 0, 1, 1, 1]), wrong) == 0.0
    assert wrong_share(selection([1, 1, 1, 1, 1]), wrong) is None  # nothing is dropped
    assert wrong_share(selection([0, 0, 1, 1, 0]), wrong & False) is None  # no label is wrong


def test_a_mean_is_of_what_is_known():
    assert mean_percent([0.5, None, 0.25]) == "37.5"
    assert mean_percent([None, None]) == "" == mean_percent([])
    assert mean_percent([0.0]) == "0.0"


def test_the_table_has_a_line_a_method_and_ratio_with_means_over_the_seeds(monkeypatch):
    """A cell that serves every ratio has a line at each; what is not done is left out."""
    kept = {
        ("adapruner", 0, 0.75): selection([0, 1, 1, 1], 0.74),
        ("adapruner", 1, 0.75): selection([1, 0, 1, 1], 0.77),
        ("random", 0, 0.75): selection([1, 1, 1, 0]),
        ("random", 0, 0.5): selection([0, 1, 1, 0]),
    }
    cell = lambda name, seed, ratio=None, kind="select": SimpleNamespace(  # noqa: E731
        kind=kind, label=name, seed=seed, keep_ratio=ratio
    )
    cells = [cell("random", 0), cell("adapruner", 0, 0.75), cell("adapruner", 1, 0.75),
             cell("adapruner", 2, 0.75), cell("random", 0, 0.75, "train")]  # fmt: skip
    board = SimpleNamespace(cells=cells, root=None)
    board.result = lambda own: None if own.seed == 2 else {}
    monkeypatch.setattr(
        module, "selection_of", lambda own, root, ratio: kept[own.label, own.seed, ratio]
    )
    wrong = np.array([True, False, False, False])
    task = SimpleNamespace(planted={"wrong labels": wrong}, samples=range(4))
    grid = Grid(("random", "adapruner"), (0.75, 0.5))

    def lines():
        return [
            [c.strip() for c in line.split("|")[1:-1]]
            for line in chosen_table(board, grid, task).splitlines()[2:]
        ]

    assert lines() == [
        ["random", "75", "1", "", "0.0"],
        ["random", "50", "1", "", "50.0"],
        ["adapruner", "75", "2", "75.5", "50.0"],
    ]
    task.planted = {}
    assert [line[-1] for line in lines()] == ["", "", ""]
