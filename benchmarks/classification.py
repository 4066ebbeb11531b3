"""Methods on classification data: all samples, random, AdaPruner, and its ablations.

    python benchmarks/classification.py --name digits --seeds 0 1 2 3 4 5 6 7 8 9
    python benchmarks/classification.py --name cifar10_6000 \\
        --config-file configs/classification/cifar10_cpu.yaml --ablations -- \\
        DATA.NAME packed DATA.ROOT ../shared/data/cifar10 DATA.NUM_TRAIN 6000
    python benchmarks/classification.py --name digits_resnet18_lr --train-model resnet18 \\
        --keep-ratios 0.6 --wrong 0.0 --ablations -- SOLVER.LR 0.02

The last one selects with the small CNN and trains another architecture on what is kept.

It is a grid of ``adapruner compare`` for each share of wrong labels; the data, the subset and the
wrong labels are the same for all seeds. What is trained on a part sees it for as many epochs as the
full set is seen, unless --budgets says steps. The cells lie in --folder, where a run that was
stopped goes on; the tables go to benchmarks/results/classification_<name>.md. Shape letters: N
samples.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from adapruner_det.classification.config import ABLATIONS, load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.task import ClassificationTask
from adapruner_det.errors import reported
from adapruner_det.experiment.board import Board, rows_of, selection_of
from adapruner_det.experiment.cells import label_of
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.running import run
from adapruner_det.experiment.tables import report
from adapruner_det.experiment.task import Task
from adapruner_det.experiment.transfer import Transfer, chooser_of
from adapruner_det.selection import Selection

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DIGITS = str(ROOT / "configs" / "classification" / "digits.yaml")


def make_task(config_file: str, overrides: Sequence[str], train_model: str) -> Task:
    cfg = load_config(config_file, overrides)
    data = load_data(cfg)
    task = ClassificationTask(cfg, data)
    if not train_model:
        return task
    other = cfg.clone()
    other.MODEL.NAME = train_model
    return Transfer(task, ClassificationTask(other, data))


def without(name: str) -> str:
    """The method that lacks one part, as a grid calls it."""
    key, value = ABLATIONS[name]
    return label_of("adapruner", {key.removeprefix("ADAPRUNER."): value})


def grids(args: argparse.Namespace) -> Iterator[tuple[float, Grid]]:
    """(share of wrong labels, grid) of each table."""
    common = {"seeds": tuple(args.seeds), "budgets": tuple(args.budgets)}
    for wrong in args.wrong:
        yield wrong, Grid(tuple(args.methods), tuple(args.keep_ratios), **common)
    if args.ablations:
        methods = ("random", "adapruner", *map(without, args.ablations))
        yield args.wrong[0], Grid(methods, (args.ablation_ratio,), **common)


def section(args: argparse.Namespace, wrong: float, grid: Grid) -> str:
    """The tables of one grid, once what is missing of it is run."""
    overrides = [*args.opts, "DATA.WRONG_LABELS", str(wrong)]
    make = functools.partial(make_task, args.config_file, overrides, args.train_model)
    task = make()
    folder = Path(args.folder or ROOT / "output" / "benchmarks" / f"classification_{args.name}")
    board = Board(cells(grid, task), folder)
    if not args.table_only:
        run(grid, make, folder, processes=args.processes, task=task)
    title = f"{task.title}, {100 * wrong:g}% of the training labels wrong"
    done = sum(board.result(cell) is not None for cell in board.cells)
    text = report(rows_of(board), title, task.metric, len(board.cells), done)
    return f"#{text}\n{chosen_table(board, grid, task)}\n"


def chosen_table(board: Board, grid: Grid, task: Task) -> str:
    """How well each method held the ratio, and what it dropped; means over the seeds."""
    found: dict[tuple[str, float], list[Selection]] = {}
    for cell in board.cells:
        if cell.kind == "select" and board.result(cell) is not None:
            for ratio in [cell.keep_ratio] if cell.keep_ratio else grid.keep_ratios:
                chosen = selection_of(cell, board.root, ratio)
                found.setdefault((cell.label, ratio), []).append(chosen)
    planted = getattr(chooser_of(task), "planted", {})
    wrong = planted.get("wrong labels", np.zeros(len(task.samples), dtype=bool))
    lines = [
        [
            *(name, f"{100 * ratio:g}", str(len(chosen))),
            mean_percent([selection.soft_ratio for selection in chosen]),
            mean_percent([wrong_among_dropped(selection, wrong) for selection in chosen]),
        ]
        for (name, ratio), chosen in found.items()
    ]
    head = ["selected by", "keep %", "seeds", "soft ratio %", "wrong labels among dropped %"]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def wrong_among_dropped(selection: Selection, wrong: np.ndarray) -> float | None:
    """The share of the dropped images whose label is wrong, (N,) bool; None where there is none."""
    dropped = ~selection.columns["kept"]
    return float(wrong[dropped].mean()) if wrong.any() and dropped.any() else None


def mean_percent(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * np.mean(known):.1f}" if known else ""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--name", required=True, help="of the result file")
    add("--config-file", default=DIGITS)
    add("--methods", nargs="+", default=["random", "adapruner"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--keep-ratios", type=float, nargs="+", default=[0.9, 0.8, 0.6])
    add("--budgets", nargs="+", default=["epochs"])
    add("--wrong", type=float, nargs="+", default=[0.0, 0.15])
    add("--ablations", nargs="*", default=list(ABLATIONS), choices=ABLATIONS)
    add("--ablation-ratio", type=float, default=0.9)
    add("--train-model", default="", help="another MODEL.NAME, for what is kept")
    add("--processes", type=int, default=1, help="cells side by side")
    add("--folder", help="of the cells; default: output/benchmarks/classification_<name>")
    add("--table-only", action="store_true", help="of the cells that are there")
    add("opts", nargs="*", help="KEY VALUE overrides")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    given = [argument for argument in sys.argv[1:] if argument != "--table-only"]
    lines = [
        f"# Classification: {args.name}",
        "",
        f"    {shlex.join(['python', 'benchmarks/classification.py', *given])}",
        "",
        f"torch {torch.__version__} on {'a GPU' if torch.cuda.is_available() else 'a CPU'}.",
    ]
    with reported():
        for wrong, grid in grids(args):
            lines += ["", section(args, wrong, grid)]
    path = RESULTS / f"classification_{args.name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines).rstrip() + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
