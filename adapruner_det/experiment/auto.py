"""The end to drop of a run that is done, found out by further trainings of its task."""

from __future__ import annotations

import logging
from pathlib import Path

from ..methods.adapruner import settle_selection
from ..methods.auto import Verdict
from ..selection import Selection
from ..settings import AUTO
from .evidence import TaskEvidence
from .task import Task

logger = logging.getLogger(__name__)


def settle_run(
    task: Task, run: Selection, keep_ratio: float, folder: Path
) -> tuple[Selection, Verdict]:
    """``run`` cut anew, so that the end goes that held-out training samples speak for.

    Args:
        task: what the run trained.
        run: its selection.
        keep_ratio: c_r in (0, 1].
        folder: where each trial's outcome is kept, so that what was stopped goes on.

    Raises:
        DataError: a run of other data or without losses, or too few samples.
    """
    evidence = TaskEvidence(task, run.seed, folder)
    logger.info("Which end to drop is found out on held-out training images, in %s", folder)
    return settle_selection(run, evidence, keep_ratio)


def settle_file(task: Task, path: Path) -> tuple[Selection, Verdict]:
    """The same for the selection at ``path``, which the outcome replaces; trials lie beside it.

    Raises:
        DataError: what :func:`settle_run` raises; the file stays as it was.
    """
    run = Selection.load(path)
    found, verdict = settle_run(task, run, run.keep_ratio, path.parent / AUTO)
    found.save(path)
    return found, verdict
