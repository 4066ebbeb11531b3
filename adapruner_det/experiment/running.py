"""Running the cells of grids: here, in processes side by side, or as jobs of a cluster.

Any number of processes may run one grid at a time, on all machines that have its folder: each
claims a cell, fills it and goes on until none is left.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import DataError, one_line
from ..files import FolderInUse
from ..methods.base import THUMBNAILS, get_dynamic, get_method, select
from ..stopping import Stopped, StopRequest
from .board import SELECTION, Board, MakeTask, Part, board_of, is_dynamic, selection_of
from .cells import DONE, FAILED, HEARTBEAT, Cell, claim, read_done, write_done, write_json
from .evidence import RUN_FOLDER, TaskEvidence, offers, record, save_thumbnails
from .grid import Grid
from .memory import peak_memory
from .origin import ORIGIN, origin
from .progress import Progress
from .task import Budget, Run, Task
from .transfer import chooser_of, learner_of

logger = logging.getLogger(__name__)

#: Seconds between two looks at what other processes do.
POLL = 1.0


def run_cell(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    """Fill the folder of a cell whose needs are done; what there is to say of it."""
    if cell.kind == "train":
        return _train(cell, task, root)
    with peak_memory() as peak:  # of what chooses
        result = _fill(cell, chooser_of(task), root)
    return {**result, **peak.figures()}


def _fill(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    folder = cell.folder(root)
    if cell.kind == "thumbnails":
        start = time.perf_counter()
        save_thumbnails(task.samples, folder)
        return {"seconds": time.perf_counter() - start}
    if cell.kind == "record":
        return asdict(_finite(record(task, cell.seed, folder, cell.signals)))
    return _select(cell, task, root)


def _select(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    start = time.perf_counter()
    places: dict[str, Path] = {}
    for need in cell.needs:
        names = (THUMBNAILS,) if need.kind == "thumbnails" else need.signals
        places |= {name: need.folder(root) for name in names}
    options = {**task.options, **dict(cell.options)}
    wanted = get_method(cell.method).reads(options, offers(task))
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
    here = time.perf_counter() - start - evidence.seconds_here + evidence.seconds_before
    shared = [read_done(need, root) or {} for need in cell.needs]
    return {
        "seconds": here + sum(run.seconds for run in evidence.runs),
        "seconds_of_needs": sum(result.get("seconds", 0.0) for result in shared),
    }


def _train(cell: Cell, task: Task, root: Path) -> dict[str, Any]:
    kept = None
    if cell.needs and cell.keep_ratio:
        kept = selection_of(cell.needs[0], root, cell.keep_ratio)
    budget: Budget = "steps" if cell.budget == "steps" else "epochs"
    folder = cell.folder(root) / RUN_FOLDER
    if is_dynamic(cell):
        guide = get_dynamic(cell.method)(len(task.samples), task.epochs, cell.seed)
        run = learner_of(task).train(cell.seed, folder, guide=guide)
        run = replace(run, images=guide.images)
    else:
        run = task.train(cell.seed, folder, kept=kept, budget=budget)
    return asdict(_finite(run))


def _finite(run: Run) -> Run:
    """``run``, whose value is a number."""
    if not math.isfinite(run.value):
        raise DataError(f"the evaluation gave {run.value} {run.metric}, which is no result")
    return run


def work(
    board: Board, tasks: Mapping[str, Task], stop: StopRequest, seen: Callable[[], Any]
) -> None:
    """Claim cells and run them until none is left, here or in other processes.

    Args:
        board: of all grids.
        tasks: a cell's name → its task.
        stop: is heeded between cells; the trainings heed signals themselves.
        seen: is called after every cell, and while waiting for others.

    Raises:
        Stopped: a signal asked for the end.
    """
    busy: set[str] = set()
    while True:
        ran, held = _run_next(board, tasks, stop, busy)
        seen()
        if stop.signum:
            raise Stopped(stop.signum)
        if not ran:
            if not held:
                return
            time.sleep(POLL)


def _run_next(
    board: Board, tasks: Mapping[str, Task], stop: StopRequest, busy: set[str]
) -> tuple[bool, bool]:
    """Run the first cell that can be. Whether there was one, and whether others hold any.

    ``busy`` are the cells of which it was said that their folder is in use.
    """
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
            task = tasks[cell.name]
            # Before, as the files may change meanwhile.
            made_with = origin(task.device, *task.libraries)
            done = cell.folder(board.root) / DONE
            if done.exists():
                logger.warning("%s is damaged; the cell is run again.", done)
            try:
                with stop.naming_lost_workers("their number", "the same command goes on"):
                    result = run_cell(cell, task, board.root)
            except FolderInUse as error:  # as by a process that another machine took for gone
                if cell.name not in busy:
                    logger.warning("%s has to wait: %s", cell.name, one_line(error))
                busy.add(cell.name)
                held = True
                _wait(HEARTBEAT, stop)
                if not stop.signum:
                    continue
            except Exception as error:  # of a method or a task, which may be another package's
                if claimed.still_held():
                    _note_failure(cell, board.root, error)
            else:
                if claimed.still_held():
                    write_done(cell, board.root, {**result, ORIGIN: made_with})
                    _tidy(cell, task, board.root)
        return True, held
    return False, held


def _wait(seconds: float, stop: StopRequest) -> None:
    """Sleep, until a signal asks for the end."""
    end = time.monotonic() + seconds
    while not stop.signum and time.monotonic() < end:
        time.sleep(min(POLL, seconds))


def _tidy(cell: Cell, task: Task, root: Path) -> None:
    """Remove what the trainings of a cell that is done left to be resumed from, and their models;
    that of a recorded training stays, for methods ask it."""
    for folder in cell.folder(root).glob(f"{RUN_FOLDER}*"):
        task.tidy(folder, model=cell.kind == "record")


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
    """:func:`run_parts` of one grid; ``task`` is what ``make_task`` makes, where it is at hand."""
    tasks = [task] if task is not None else None
    run_parts([Part(grid, make_task)], root, processes=processes, tasks=tasks, retry=retry)


def run_parts(
    parts: Sequence[Part],
    root: Path,
    *,
    processes: int = 1,
    tasks: Sequence[Task] | None = None,
    retry: bool = True,
) -> None:
    """Run what is not done until nothing is left.

    Args:
        parts: what is compared.
        root: the folder that they share.
        processes: side by side, of one thread each; 1 is this one.
        tasks: what each part's ``make_task`` makes, where that is at hand.
        retry: try again what failed before.

    Raises:
        CellsLeft: cells that failed, once all others are done.
        Stopped: a signal asked for the end; what was in hand is saved.
    """
    tasks = tasks or [part.make_task() for part in parts]
    board, of_cell = board_of(parts, tasks, root)
    if retry:
        board.forget_failures()
    for cell in board.cells:
        if board.result(cell) is not None:  # by a process that was killed before it had tidied up
            _tidy(cell, of_cell[cell.name], root)
    with (
        StopRequest().listening() as stop,
        logging_redirect_tqdm(),
        Progress(board, processes) as progress,
    ):
        try:
            if processes == 1 or not board.left():
                work(board, of_cell, stop, progress.update)
            else:
                _run_side_by_side(processes, (parts, root), stop, progress.update)
        except Stopped:
            logger.warning("Stopped; the same command goes on with what is in %s.", root)
            raise
    board.require_done()


def _run_side_by_side(
    processes: int, arguments: tuple[Any, ...], stop: StopRequest, seen: Callable[[], Any]
) -> None:
    context, logs = get_context("spawn"), arguments[-1] / "logs"
    workers = {
        log: context.Process(target=_worker, args=(log, *arguments))
        # Machines that share the folder have logs of their own.
        for log in (logs / f"worker-{socket.gethostname()}-{n}.txt" for n in range(processes))
    }
    for worker in workers.values():
        worker.start()
    told = False
    # All are asked each time: one that has ended stays a zombie until it is.
    while sum(worker.is_alive() for worker in workers.values()):
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


def _worker(log: Path, parts: Sequence[Part], root: Path) -> None:
    """One of the processes that :func:`run_parts` starts; what it says goes to the file ``log``."""
    os.setpgrp()  # a terminal's Ctrl-C is for the process that started this one, and it tells us
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    form = "[%(asctime)s %(name)s] %(levelname)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, force=True)
    torch.set_num_threads(1)
    with StopRequest().listening() as stop:
        board, tasks = board_of(parts, [part.make_task() for part in parts], root)
        work(board, tasks, stop, _end_with_parent)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the process that started this one is gone")


def submit(
    parts: Sequence[Part],
    root: Path,
    jobs: int,
    *,
    cluster: str | None = None,
    **parameters: Any,
) -> list[str]:
    """Submit jobs that each do what :func:`run_parts` does in one process; their numbers.

    Args:
        parts: what is compared.
        root: their folder, on a disk that all machines share.
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
    board_of(parts, [part.make_task() for part in parts], root)[0].forget_failures()
    executor = submitit.AutoExecutor(root / "slurm", cluster=cluster)
    executor.update_parameters(name=root.name or "grid", **parameters)
    return [executor.submit(_Job(parts, root)).job_id for _ in range(jobs)]


class _Job:
    """What a job runs; one whose time is over is submitted again and goes on."""

    def __init__(self, parts: Sequence[Part], root: Path) -> None:
        self._arguments = (parts, root)

    def __call__(self) -> None:
        run_parts(*self._arguments, retry=False)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
