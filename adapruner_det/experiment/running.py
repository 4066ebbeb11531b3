"""Running the cells of a grid: here, in processes side by side, or as jobs of a cluster.

Any number of processes may run one grid at a time, on all machines that have its folder: each
claims a cell, fills it and goes on until none is left.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import DataError, one_line
from ..methods.base import THUMBNAILS, get_method, select
from ..selection import Selection, lost_classes_line
from ..stopping import Stopped, StopRequest
from .cells import DONE, FAILED, Cell, claim, holder, read_done, read_json, write_done, write_json
from .evidence import RUN_FOLDER, TaskEvidence, record, save_thumbnails
from .grid import Grid, cells
from .tables import Row
from .task import Budget, Task

logger = logging.getLogger(__name__)

SELECTION = "selection.json"

#: Seconds between two looks at what other processes do.
POLL = 1.0

MakeTask = Callable[[], Task]


class Board:
    """What is known of the cells of a grid; what was seen done stays done.

    Args:
        cells: of the grid, each after those it needs.
        root: the grid's folder.
    """

    def __init__(self, cells: list[Cell], root: Path) -> None:
        self.cells, self.root = cells, root
        self.results: dict[str, dict[str, Any]] = {}

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """What came of a cell; None where it is not done."""
        if cell.name not in self.results:
            found = read_done(cell, self.root)
            if found is None:
                return None
            self.results[cell.name] = found
        return self.results[cell.name]

    def error(self, cell: Cell) -> str | None:
        """Why a cell failed, in one line; None where it did not, or is to be tried again."""
        found = read_json(cell.folder(self.root) / FAILED)
        return str(found["error"]) if isinstance(found, dict) and "error" in found else None

    def is_ready(self, cell: Cell) -> bool:
        """Whether a cell is to be run and can be, unless another process has it."""
        return (
            self.result(cell) is None
            and self.error(cell) is None
            and all(self.result(need) is not None for need in cell.needs)
        )

    def state(self, cell: Cell) -> str:
        """``done``, ``failed: why``, ``running: who`` or ``waiting``."""
        if self.result(cell) is not None:
            return "done"
        if who := holder(cell.folder(self.root)):
            return f"running: {who}"
        error = self.error(cell)
        return "waiting" if error is None else f"failed: {error}"

    def forget_failures(self) -> None:
        """Let what failed be tried again."""
        for cell in self.cells:
            (cell.folder(self.root) / FAILED).unlink(missing_ok=True)

    def left(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell in self.cells if self.result(cell) is None]

    def require_done(self) -> None:
        """Warn of each cell that failed, and raise a DataError unless all are done."""
        left = self.left()
        errors = {cell.name: error for cell in left if (error := self.error(cell)) is not None}
        for name, error in errors.items():
            logger.warning("%s failed: %s", name, error)
        if left:
            raise DataError(
                f"{len(errors)} of {len(self.cells)} cells failed and {len(left) - len(errors)} "
                "more were not run; the same command goes on with them"
            )


def run_cell(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    """Fill the folder of a cell whose needs are done; what there is to say of it."""
    folder = cell.folder(root)
    if cell.kind == "thumbnails":
        start = time.perf_counter()
        save_thumbnails(task.samples, folder)
        return {"seconds": time.perf_counter() - start}
    if cell.kind == "record":
        return asdict(record(task, cell.seed, folder, cell.signals))
    return _select(cell, task, root) if cell.kind == "select" else _train(cell, task, root)


def _select(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    start = time.perf_counter()
    places: dict[str, Path] = {}
    for need in cell.needs:
        names = (THUMBNAILS,) if need.kind == "thumbnails" else need.signals
        places |= {name: need.folder(root) for name in names}
    wanted = get_method(cell.method).needs
    evidence = TaskEvidence(
        task,
        cell.seed,
        cell.folder(root),
        options=dict(cell.options),
        places={name: place for name, place in places.items() if name in wanted},
    )
    selection = select(
        cell.method,
        evidence,
        cell.keep_ratio or 1.0,  # without one, all ratios are cut of this
        config_digest=task.config_digest,
        libraries=task.libraries,
    )
    selection.save(cell.folder(root) / SELECTION)
    here = time.perf_counter() - start - evidence.seconds_here
    shared = [read_done(need, root) or {} for need in cell.needs]
    return {
        "seconds": here + sum(run.seconds for run in evidence.runs),
        "seconds_of_needs": sum(result.get("seconds", 0.0) for result in shared),
    }


def selection_of(cell: Cell, root: Path, keep_ratio: float) -> Selection:
    """What a cell that selects chose, at one of the ratios that it serves."""
    selection = Selection.load(cell.folder(root) / SELECTION)
    return selection if selection.keep_ratio == keep_ratio else selection.cut(keep_ratio)


def _train(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    kept = None
    if cell.needs and cell.keep_ratio:
        kept = selection_of(cell.needs[0], root, cell.keep_ratio)
    budget: Budget = "steps" if cell.budget == "steps" else "epochs"
    run = task.train(cell.seed, cell.folder(root) / RUN_FOLDER, kept=kept, budget=budget)
    if not math.isfinite(run.value):
        raise DataError(f"the evaluation gave {run.value} {run.metric}, which is no result")
    return asdict(run)


def rows_of(board: Board) -> list[Row]:
    """The trainings of a grid that are done, for tables."""
    found = []
    for cell in board.cells:
        result = board.result(cell)
        if cell.kind == "train" and result is not None:
            chosen = [board.result(need) or {} for need in cell.needs]
            cost = [r.get("seconds", 0.0) + r.get("seconds_of_needs", 0.0) for r in chosen]
            known = (cell.label, cell.keep_ratio or 1.0, cell.budget, cell.seed)
            found.append(
                Row(*known, result["value"], result["images"], sum(cost), result["seconds"])
            )
    return found


def work(board: Board, task: Task, stop: StopRequest, seen: Callable[[], Any]) -> None:
    """Claim cells and run them until none is left, here or in other processes.

    Args:
        board: of the grid.
        task: of the grid.
        stop: is heeded between cells; the trainings heed signals themselves.
        seen: is called after every cell, and while waiting for others.

    Raises:
        Stopped: a signal asked for the end.
    """
    while True:
        ran, held = _run_next(board, task)
        seen()
        if stop.signum:
            raise Stopped(stop.signum)
        if not ran:
            if not held:
                return
            time.sleep(POLL)


def _run_next(board: Board, task: Task) -> tuple[bool, bool]:
    """Run the first cell that can be. Whether there was one, and whether others hold any."""
    held = False
    for cell in board.cells:
        if not board.is_ready(cell):
            continue
        claimed = claim(cell.folder(board.root))
        if claimed is None:
            held = True
            continue
        with claimed:
            if not board.is_ready(cell):  # another process was quicker
                continue
            done = cell.folder(board.root) / DONE
            if done.exists():
                logger.warning("%s is damaged; the cell is run again.", done)
            try:
                result = run_cell(cell, task, board.root)
            except Exception as error:  # of a method or a task, which may be another package's
                _note_failure(cell, board.root, error)
            else:
                if claimed.still_held():
                    write_done(cell, board.root, result)
        return True, held
    return False, held


def _note_failure(cell: Cell, root: Path, error: Exception) -> None:
    line = one_line(error)
    if not isinstance(error, DataError):
        line = f"{type(error).__name__}: {line}"
        logger.info("%s failed", cell.name, exc_info=True)
    write_json(cell.folder(root) / FAILED, {"error": line})


def run(
    grid: Grid,
    make_task: MakeTask,
    root: Path,
    *,
    processes: int = 1,
    task: Task | None = None,
    retry: bool = True,
) -> None:
    """Run what is not done until nothing is left.

    Args:
        grid: what is compared.
        make_task: makes the task anew in every process; can be pickled.
        root: the grid's folder.
        processes: side by side, of one thread each; 1 is this one.
        task: what ``make_task`` makes, where that is at hand.
        retry: try again what failed before.

    Raises:
        DataError: cells that failed, once all others are done.
        Stopped: a signal asked for the end; what was in hand is saved.
    """
    task = task or make_task()
    board = Board(cells(grid, task), root)
    if retry:
        board.forget_failures()
    with (
        StopRequest().listening() as stop,
        logging_redirect_tqdm(),
        Progress(board, grid, processes) as progress,
    ):
        try:
            if processes == 1 or not board.left():
                work(board, task, stop, progress.update)
            else:
                _run_side_by_side(processes, (grid, make_task, root), stop, progress.update)
        except Stopped:
            logger.warning("Stopped; the same command goes on with what is in %s.", root)
            raise
    board.require_done()


def _run_side_by_side(
    processes: int, arguments: tuple[Any, ...], stop: StopRequest, seen: Callable[[], Any]
) -> None:
    context = get_context("spawn")
    workers = {
        log: context.Process(target=_worker, args=(log, *arguments))
        for log in (arguments[-1] / "logs" / f"worker-{n}.txt" for n in range(processes))
    }
    for worker in workers.values():
        worker.start()
    told = False
    while any(worker.is_alive() for worker in workers.values()):
        time.sleep(POLL)
        seen()
        if stop.signum and not told:
            told = True
            for worker in workers.values():
                worker.terminate()
    seen()
    if stop.signum:
        raise Stopped(stop.signum)
    for log, worker in workers.items():
        if worker.exitcode:
            logger.warning("A worker ended with exit code %d; see %s.", worker.exitcode, log)


def _worker(log: Path, grid: Grid, make_task: MakeTask, root: Path) -> None:
    """One of the processes that :func:`run` starts; what it says goes to the file ``log``."""
    os.setpgrp()  # a terminal's Ctrl-C is for the process that started this one, and it tells us
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    form = "[%(asctime)s %(name)s] %(levelname)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, force=True)
    torch.set_num_threads(1)
    with StopRequest().listening() as stop:
        task = make_task()
        work(Board(cells(grid, task), root), task, stop, _end_with_parent)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the process that started this one is gone")


class Progress:
    """A bar over the whole grid; a log line, and warnings of lost classes, of each cell seen done.

    Args:
        board: of the grid.
        grid: its keep ratios are those that classes are looked for at.
        workers: that run it, unless more are seen.
    """

    def __init__(self, board: Board, grid: Grid, workers: int) -> None:
        self._board, self._grid, self._workers = board, grid, workers
        board.left()  # looks at them all
        self._told = {*board.results}
        self._end: float | None = None

    def __enter__(self) -> Progress:
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} elapsed{postfix}"
        total = sum(cell.visits for cell in self._board.cells)
        self._bar = tqdm(total=total, bar_format=form, disable=None)
        self._refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self) -> None:
        """Look for cells that have been done since."""
        left = self._board.left()
        known = self._told | {cell.name for cell in left}
        found = [cell for cell in self._board.cells if cell.name not in known]
        for cell in found:
            self._told.add(cell.name)
            self._warn_of_lost_classes(cell)
        if found:
            self._refresh()
            logger.info("%s done: %s", ", ".join(cell.name for cell in found), self._text())
        self._bar.set_postfix_str(self._text())

    def _refresh(self) -> None:
        board, left = self._board, self._board.left()
        seconds = sum(result.get("seconds", 0.0) for result in board.results.values())
        rest = sum(cell.visits for cell in left)
        visits = self._bar.total - rest
        held = sum(holder(cell.folder(board.root)) is not None for cell in left)
        if visits:
            self._end = time.monotonic() + rest * seconds / visits / max(held, self._workers)
        done = len(board.cells) - len(left)
        self._bar.set_description_str(f"{done} of {len(board.cells)} cells", refresh=False)
        self._bar.update(visits - self._bar.n)

    def _text(self) -> str:
        if self._end is None:
            return "time left not known yet"
        return f"{timedelta(seconds=max(0, round(self._end - time.monotonic())))} left"

    def _warn_of_lost_classes(self, cell: Cell) -> None:
        if cell.kind != "select":
            return
        with suppress(DataError):  # of a file that is damaged since, which the trainings will tell
            for ratio in [cell.keep_ratio] if cell.keep_ratio else self._grid.keep_ratios:
                if line := lost_classes_line(selection_of(cell, self._board.root, ratio)):
                    logger.warning("%s at keep ratio %g: %s", cell.label, ratio, line)


def submit(
    grid: Grid,
    make_task: MakeTask,
    root: Path,
    jobs: int,
    *,
    cluster: str | None = None,
    **parameters: Any,
) -> list[str]:
    """Submit jobs that each do what :func:`run` does in one process; their numbers.

    Args:
        grid: what is compared.
        make_task: makes the task in every job; can be pickled.
        root: the grid's folder, on a disk that all machines share.
        jobs: how many.
        cluster: as submitit has it; None takes Slurm where there is one.
        parameters: of submitit, such as ``timeout_min`` or ``slurm_partition``.

    Raises:
        DataError: no submitit, or what :func:`cells` raises.
    """
    try:
        import submitit
    except ImportError as error:
        raise DataError("--slurm needs submitit: pip install 'adapruner-det[slurm]'") from error
    Board(cells(grid, make_task()), root).forget_failures()
    executor = submitit.AutoExecutor(root / "slurm", cluster=cluster)
    executor.update_parameters(name=root.name or "grid", **parameters)
    return [executor.submit(_Job(grid, make_task, root)).job_id for _ in range(jobs)]


class _Job:
    """What a job runs; one whose time is over is submitted again and goes on."""

    def __init__(self, grid: Grid, make_task: MakeTask, root: Path) -> None:
        self._arguments = (grid, make_task, root)

    def __call__(self) -> None:
        run(*self._arguments, retry=False)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
