"""Which way round the ratios of time and memory are, and what a line of the table says."""

import statistics
import sys
from argparse import Namespace

import pytest
import torch
from torch import nn

from benchmarks import overhead as module
from benchmarks.overhead import batches, row, time_ratios


def arguments(**own):
    given = {"depth": 18, "side": 32, "batch": 2, "pairs": 7, "objective": "paper"}
    return Namespace(**{**given, **own})


class Pruned(nn.Module):
    """Stands for the detector with a mask."""


@pytest.fixture
def timed(monkeypatch):
    """The order of the steps; stock takes 2 s (1 s of processor), pruning 3, serial 10."""
    taken = []

    def seconds(step, batch, seed):
        taken.append((step, batch, seed))
        turn = 1 + seed  # each pair is slower than the one before
        known = {"stock": (2.0 * turn, 1.0), "pruning": (3.0 * turn, 1.25), "serial": (10.0, 1.0)}
        return known[step]

    def stepper(model, losses_of):
        if isinstance(model, Pruned):
            return "pruning"
        return "stock" if losses_of is model else "serial"

    monkeypatch.setattr(module, "build", lambda name, depth: nn.Linear(2, 2))
    monkeypatch.setattr(module, "pruned", lambda detector, objective: Pruned())
    monkeypatch.setattr(module, "batches", lambda size, side: iter(range(1000)))
    monkeypatch.setattr(module, "stepper", stepper)
    monkeypatch.setattr(module, "seconds", seconds)
    return taken


def test_a_ratio_is_pruning_over_stock_on_one_batch_in_alternating_order(timed):
    found = time_ratios("retinanet", arguments())
    assert found == {
        "stock": [2.0 * turn for turn in range(1, 8)],
        "wall": [1.5] * 7,
        "cpu": [1.25] * 7,
        "serial": [10.0 / 12.0],
    }
    warm, rest = timed[:2], [one for one in timed[2:] if one[0] != "serial"]
    assert [step for step, _, _ in warm] == ["stock", "pruning"]
    for pair, (first, second) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        assert first[1:] == second[1:] == (2 + pair, pair)  # the batch and the random state
        assert first[0] == ("pruning" if pair % 2 else "stock")
    assert [one[1:] for one in timed if one[0] == "serial"] == [(7, 5)]  # the batch of its pair


def test_a_line_has_medians_and_quartiles_and_memory_over_stock(monkeypatch):
    wall, cpu = [1.0, 1.02, 1.1, 0.9, 1.04], [1.01] * 5
    times = {"stock": [3.0, 1.0, 2.5], "wall": wall, "cpu": cpu, "serial": [1.5, 1.1, 9.0]}
    monkeypatch.setattr(module, "time_ratios", lambda name, args: times)
    monkeypatch.setattr(
        module, "peak_memory", lambda name, args, which: {"pruning": 1010, "stock": 1000}[which]
    )
    cells = [cell.strip() for cell in row("retinanet", arguments()).split("|")[1:-1]]
    low, _, high = statistics.quantiles(wall, n=4)
    assert cells == [
        *("retinanet", "2.500", f"1.0200 ({low:.3f} to {high:.3f})", "1.0100 (1.010 to 1.010)"),
        *("1.02", "1.0100", "1.01", "1.50"),
    ]
    times["serial"] = []
    assert row("yolov3_tiny", arguments()).endswith("| 1.01 | 1.0100 | 1.01 | - |")
    columns = module.header(arguments()).splitlines()[-2]
    assert len(columns.split("|")) - 2 == len(cells)


def test_memory_is_that_of_a_process_of_its_own(monkeypatch):
    called = []

    def run(command, **options):
        called.append(command)
        return Namespace(stdout="a word\n1234\n")

    monkeypatch.setattr(module.subprocess, "run", run)
    found = module.peak_memory("fcos", arguments(objective="inclusion"), "pruning")
    assert found == 1234
    words = called[0][1:]
    assert words[1:5] == ["--only", "fcos", "--memory-of", "pruning"]
    sizes = ["--depth", "18", "--side", "32", "--batch", "2"]
    assert words[5:] == [*sizes, "--objective", "inclusion"]


def test_the_output_of_all_lines_is_written_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "row", lambda name, args: f"| {name} |")
    monkeypatch.setattr(module.torch, "set_num_threads", lambda count: None)
    words = ["--only", "fcos", "retinanet", "--output", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["overhead.py", *words])
    module.main()
    text = (tmp_path / "page.md").read_text()
    assert text.endswith("|\n| fcos |\n| retinanet |\n") and text == capsys.readouterr().out


def test_batches_are_the_same_ones_for_both():
    one, other = (next(batches(2, 32)) for _ in range(2))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine["image"], theirs["image"])
        boxes = mine["instances"].gt_boxes.tensor
        torch.testing.assert_close(boxes, theirs["instances"].gt_boxes.tensor)
        assert 1 <= len(boxes) <= 5 and boxes.min() >= 0 and boxes.max() <= 32
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert mine["sample_index"] == theirs["sample_index"] < module.NUM_SAMPLES
