"""What `make demo` runs: prune the demo data with a real detector and retrain on what was kept.

Every number it prints is measured in this very run. It needs the project's checkout, where
datasets/make_demo.py has made the data, and so is no sub-command.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import numpy as np

from ..detection.data.pictures import pictures_of
from ..detection.setup import load_config
from ..detection.task import DetectionTask, make_task
from ..errors import reported
from ..experiment.board import SELECTION, Board, rows_of, selection_of
from ..experiment.evidence import RUN_FOLDER
from ..experiment.grid import Grid, cells
from ..experiment.results import changes_of, planted_table
from ..experiment.running import run
from ..experiment.tables import Row, Setting, main_table, verdict
from ..experiment.task import Task
from ..files import REPORT, locked, require_writable, set_aside
from ..report.page import write_report_of_run
from .arguments import log_to, plain_parser

METHOD, SEEDS = "adapruner", (0, 1)


def main(tool: str) -> None:
    """Run the demo of the checkout in whose ``tools/`` the file ``tool`` lies."""
    plain_parser("demo.py", __doc__).parse_args()
    root = Path(tool).resolve().parent.parent
    os.environ.setdefault("DETECTRON2_DATASETS", str(root / "datasets"))
    start = time.perf_counter()
    with reported():
        config = str(root / "configs/demo_yolov3tiny.yaml")
        cfg = load_config(config)
        grid = Grid(("random", METHOD), (cfg.ADAPRUNER.KEEP_RATIO,), SEEDS)
        make = partial(make_task, config)
        task, folder = make(), Path(cfg.OUTPUT_DIR)
        require_writable(folder)
        with locked(folder):
            goes_on = is_half_done(Board(cells(grid, task), folder))
            set_aside(folder, (REPORT,) if goes_on else ("cells", REPORT))
            log_to(folder / "log.txt")
            print(
                f"YOLOv3-Tiny on the demo data, {len(SEEDS)} seeds: each prunes to "
                f"{grid.keep_ratios[0]:.0%}, then trains on all, a random part and the selected "
                "part." + goes_on * " It goes on with what an earlier one has left.",
                flush=True,
            )
            processes = min(len(SEEDS), os.cpu_count() or 1)
            run(grid, make, folder, processes=processes, task=task)
            print(summary(grid, task, folder))
            print(
                f"Everything together: {time.perf_counter() - start:.0f} s.\n"
                f"Selections: {folder}/cells/select-{METHOD}-*/{SELECTION}"
            )
            if page := report(grid, task, folder):
                print(f"Report of the first, to be opened in a browser: {page}")


def is_half_done(board: Board) -> bool:
    """Whether a grid was begun before, by the same configuration, and is not finished."""
    begun = any(cell.folder(board.root).exists() for cell in board.cells)
    return begun and bool(board.left())


def summary(grid: Grid, task: DetectionTask, folder: Path) -> str:
    """What came of the finished ``grid`` in ``folder``.

    Args:
        grid: of one keep ratio.
        task: it was run on.
        folder: of the grid.
    """
    board, (ratio,) = Board(cells(grid, task), folder), grid.keep_ratios
    rows = rows_of(board)
    return "\n".join(
        [
            "",
            main_table(rows, task.metric),
            "",
            verdict(rows, METHOD, Setting(ratio, "epochs"), task.metric),
            "",
            planted_table(changes_of(board, task)),
            "",
            _seconds(rows),
        ]
    )


def report(grid: Grid, task: Task, folder: Path) -> Path | None:
    """The page that shows what the first seed's selection keeps and drops; None if there is none.

    Args:
        grid: of one keep ratio.
        task: it was run on.
        folder: of the grid.
    """
    (first, *_) = [c for c in cells(grid, task) if c.kind == "select" and c.method == METHOD]
    selection = selection_of(first, folder, grid.keep_ratios[0])
    run = first.folder(folder) / RUN_FOLDER
    return write_report_of_run(selection, folder, lambda: pictures_of(selection), run=run)


def _seconds(rows: list[Row]) -> str:
    """The mean over the seeds of what each kind of run took."""
    selected = [row for row in rows if row.method == METHOD]
    mean = {"prune": np.mean([row.select_seconds for row in selected])}
    for part, method in (("all", "full"), ("random", "random"), ("selected", METHOD)):
        mean[part] = np.mean([row.train_seconds for row in rows if row.method == method])
    times = ", ".join(f"{part} {seconds:.0f}" for part, seconds in mean.items())
    return f"Seconds of a run, mean over the seeds, which run side by side: {times}."
