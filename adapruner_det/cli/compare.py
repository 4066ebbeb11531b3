"""Compare methods: train on all samples and on what each method keeps, seed by seed.

    adapruner compare --config-file configs/demo_yolov3tiny.yaml --num-seeds 3
    adapruner compare run --config-file FILE --methods random 'adapruner[WARMUP_EPOCHS=0]' \\
        --keep-ratios 0.9 0.6 --processes 4 --folder output/grid SOLVER.BASE_LR 0.01
    adapruner compare list ...    says which cells are done, running and waiting
    adapruner compare table ...   tabulates what is done, also while others run

Without list, run or table in front it runs, then tabulates. It can be killed and called again at
any time, and called on several machines that share --folder: each does what no other has done or is
doing. Results are in cells.json and table.md there. Overrides, KEY VALUE, come last.
"""

from __future__ import annotations

import argparse
import functools
import logging
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from ..command import config_path
from ..errors import DataError, reported
from ..experiment.cells import write_json
from ..experiment.grid import Grid, cells
from ..experiment.running import Board, MakeTask, rows_of, run, submit
from ..experiment.tables import report
from ..experiment.task import Task
from ..files import require_writable, write_whole
from ..methods import method_names
from ..settings import check_yaml
from .arguments import plain_parser

TASKS = ("detection", "classification")
ACTIONS = ("list", "run", "table")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, and list, run or tabulate the grid that they describe."""
    words = list(sys.argv[1:] if argv is None else argv)
    action = words.pop(0) if words and words[0] in ACTIONS else "run, then table"
    words, overrides = split_overrides(words)
    args = _parser().parse_args(words)
    overrides = [*args.opts, *overrides]
    with reported():
        if min(args.processes, args.num_seeds, 1 if args.slurm is None else args.slurm) < 1:
            raise DataError("--processes, --num-seeds and --slurm must be 1 or more")
        kind = args.task or guess_task(args.config_file, overrides)
        cfg = settings(kind, args.config_file, overrides)
        make_task = functools.partial(make, kind, args.config_file, tuple(overrides))
        task = make_task()
        grid = Grid(
            methods=tuple(args.methods),
            keep_ratios=tuple(args.keep_ratios or [cfg.ADAPRUNER.KEEP_RATIO]),
            seeds=tuple(args.seeds or range(args.num_seeds)),
            budgets=tuple(args.budgets),
        )
        root = Path(args.folder or cfg.OUTPUT_DIR)
        board = Board(cells(grid, task), root)
        if action == "list":
            print("\n".join(f"{cell.name}  {board.state(cell)}" for cell in board.cells))
            return
        require_writable(root)
        if "run" in action and args.slurm:
            print(_submit(args, grid, make_task, root))
            return
        if "run" in action:
            log_to(root / "log.txt")
            run(grid, make_task, root, processes=args.processes, task=task)
        if "table" in action:
            print(write_results(board, task))


def _submit(args: argparse.Namespace, grid: Grid, make_task: MakeTask, root: Path) -> str:
    chosen = {"slurm_partition": args.slurm_partition, "gpus_per_node": args.slurm_gpus}
    parameters = {name: value for name, value in chosen.items() if value}
    jobs = submit(grid, make_task, root, args.slurm, timeout_min=args.slurm_minutes, **parameters)
    return f"submitted {', '.join(jobs)}; list, in place of run, says how far they are"


def make(kind: str, config_file: str, overrides: Sequence[str]) -> Task:
    """The task of a configuration; its room is imported here."""
    task: Task = import_module(f"..{kind}.task", __package__).make_task(config_file, overrides)
    return task


def write_results(board: Board, task: Task) -> str:
    """Write ``cells.json`` and ``table.md`` into the grid's folder; the text of the latter."""
    results = [
        {"name": cell.name, "config": cell.config, "result": board.result(cell)}
        for cell in board.cells
        if board.result(cell) is not None
    ]
    write_json(board.root / "cells.json", results)
    text = report(rows_of(board), task.title, task.metric, len(board.cells), len(results))
    write_whole(board.root / "table.md", lambda file: file.write(text.encode()))
    return text


def guess_task(config_file: str, overrides: Sequence[str] = ()) -> str:
    """``classification`` where the node DATA is set, in the yaml or what it is based on; else
    ``detection``.

    Raises:
        DataError: a yaml that is missing or damaged.
    """
    if config_file.endswith(".py"):  # a LazyConfig of Detectron2's
        return "detection"
    if any(word.startswith("DATA.") for word in overrides[::2]):
        return "classification"
    check_yaml(config_file)
    return "classification" if "DATA" in CfgNode.load_yaml_with_base(config_file) else "detection"


def settings(kind: str, config_file: str, overrides: Sequence[str]) -> Any:
    """The configuration of a task, whose KEEP_RATIO and OUTPUT_DIR the grid takes."""
    module = "..classification.config" if kind == "classification" else "..detection.setup"
    return import_module(module, __package__).load_config(config_file, overrides)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the overrides, and those: an option that takes several would take them too.

    Overrides begin with a key, such as ``SEED`` or ``solver.lr=1``, that is no option's first word.
    """
    for index, word in enumerate(words):
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        key = re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*|[a-z_]\w*(\.\w+)*=.*", word)
        if key and index and not words[index - 1].startswith("--"):
            return list(words[:index]), list(words[index:])
    return list(words), []


def log_to(path: Path) -> None:
    """Send all logs to a file, and warnings to the terminal too.

    Detectron2 sets up logs of its own, which would drown the progress bar, unless they are at INFO.
    """
    terminal = logging.StreamHandler()
    # Not its level: a progress bar's handler that stands in for it takes over filters alone.
    terminal.addFilter(lambda record: record.levelno >= logging.WARNING)
    form = "[%(asctime)s %(name)s] %(levelname)s: %(message)s"
    logging.basicConfig(
        level=logging.INFO, handlers=[logging.FileHandler(path), terminal], format=form
    )
    logging.captureWarnings(True)


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("compare.py", __doc__)
    add = parser.add_argument
    add(
        "--config-file",
        type=config_path,
        required=True,
        metavar="FILE",
        help="of a detector or a classifier",
    )
    add("--task", choices=TASKS, help="by default what the configuration is of")
    add(
        "--methods",
        nargs="+",
        default=["random", "adapruner"],
        metavar="METHOD",
        help=f"of {', '.join(method_names())}; default: random adapruner",
    )
    add("--keep-ratios", type=float, nargs="+", metavar="RATIO", help="default: KEEP_RATIO")
    add("--seeds", type=int, nargs="+", metavar="SEED")
    add("--num-seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1")
    add("--budgets", nargs="+", default=["epochs"], metavar="BUDGET", help="epochs, steps or both")
    add("--folder", help="of the grid; default: OUTPUT_DIR")
    add("--processes", type=int, default=1, help="side by side, of one thread each")
    add("--slurm", type=int, metavar="JOBS", help="submit so many jobs instead, with submitit")
    add("--slurm-partition", default="", metavar="NAME")
    add(
        "--slurm-minutes",
        type=int,
        default=240,
        metavar="M",
        help="of a job; it goes on in another",
    )
    add("--slurm-gpus", type=int, default=0, metavar="N", help="of a job")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
