"""The folder of one run: what it holds, whose it is, and where the run goes on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .. import files
from ..errors import DamagedCheckpoints, DataError
from ..whole_zip import is_whole_zip
from .models import load_tensors

logger = logging.getLogger(__name__)

CHECKPOINT_FILE, PREVIOUS_FILE = "checkpoint.pt", "checkpoint.prev.pt"
MODEL_FILE, SELECTION_FILE, RESULT_FILE = "model.pt", "selection.json", "result.json"

#: What the model in MODEL_FILE expects of an image, and what its logits mean.
INPUT_FILE = "model.json"

#: A line of JSON an epoch of what a guide says of itself, named as in Detectron2's runs.
METRICS_FILE = "metrics.json"

#: The files of a run; those of an earlier one are set aside.
RUN_FILES = (
    *("checkpoint*.pt", MODEL_FILE, INPUT_FILE, *files.SELECTION_FILES, RESULT_FILE),
    METRICS_FILE,
)


def save_checkpoint(state: dict[str, Any], folder: str | Path) -> None:
    """Write ``state``; the checkpoint before it stays beside it, and one is whole at any moment.

    Raises:
        DataError: a disk that takes no more; the last checkpoint is still there.
    """
    newest, previous = Path(folder) / CHECKPOINT_FILE, Path(folder) / PREVIOUS_FILE
    if newest.is_file():
        _link(newest, previous)
    save_tensors(state, newest)


def save_tensors(state: dict[str, Any], path: str | Path) -> None:
    """Write ``state`` as ``torch.save`` does; the file is whole or not there.

    Raises:
        DataError: a disk that takes no more.
    """
    files.write_whole(path, lambda file: torch.save(state, file))


def load_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint in ``folder`` and where it is; None where there is none.

    A damaged one is said and replaced by the one before it.

    Raises:
        DamagedCheckpoints: checkpoints of which none can be read.
    """
    newest, previous = Path(folder) / CHECKPOINT_FILE, Path(folder) / PREVIOUS_FILE
    faults = []
    for path in (newest, previous):
        if not path.is_file():
            continue
        try:
            state = _read(path)
        except DataError as error:
            faults.append(f"{path} cannot be read: {error}")
            continue
        if faults:
            logger.warning("%s; going on from %s, the one before it.", faults[0], path)
        if path == previous:
            os.replace(previous, newest)
        return newest, state
    if faults:
        raise DamagedCheckpoints("; ".join(faults))
    return None


def write_metrics(folder: str | Path, step: int, loss: float, scalars: Mapping[str, float]) -> None:
    """Add a line to the metrics of the run in ``folder``, which a report draws.

    A resumed run may write a line twice. Nothing of a run hangs on it, and a disk that takes no
    more stops the run at the checkpoint that follows.

    Args:
        folder: where the run writes.
        step: of training, from 1.
        loss: the epoch's mean.
        scalars: see :meth:`..methods.base.Guide.scalars`.
    """
    own = {f"adapruner/{name}": float(value) for name, value in scalars.items()}
    if not own:
        return
    line = json.dumps({"iteration": step, "total_loss": loss, **own})
    with suppress(OSError), open(Path(folder) / METRICS_FILE, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@contextmanager
def run_folder(
    folder: str | Path, resume: Callable[[], bool] | None, inputs: Iterable[str | None]
) -> Iterator[None]:
    """Own ``folder`` for one run: locked, swept, and empty of another run's files.

    Args:
        folder: where the run writes.
        resume: goes on from the checkpoint in ``folder``, if it has one, and says whether;
            None for a new run.
        inputs: files that the run reads.

    Raises:
        DataError: a folder that cannot be written to or that another run holds, or a new run that
            would set aside what it reads.
    """
    folder = Path(folder)
    require_elsewhere(folder, inputs, resume is not None)
    files.require_writable(folder)
    with files.locked(folder):
        files.sweep(folder)
        if resume is None or not resume():
            files.set_aside(folder, RUN_FILES, along=[files.CONFIG_FILE])
        yield


def has_checkpoint(folder: str | Path) -> bool:
    """Whether a run can be resumed in ``folder``."""
    return any((Path(folder) / name).is_file() for name in (CHECKPOINT_FILE, PREVIOUS_FILE))


def require_elsewhere(folder: str | Path, inputs: Iterable[str | None], resume: bool) -> None:
    """Raise a DataError for the first of ``inputs`` that a new run in ``folder`` would set aside.

    Args:
        folder: where the run writes.
        inputs: files that it reads; empty names and None are none.
        resume: whether it goes on from a checkpoint, if ``folder`` has one.
    """
    if resume and has_checkpoint(folder):
        return
    for name in filter(None, inputs):
        if files.lies_in(name, folder):
            raise DataError(
                f"{name} lies in OUTPUT_DIR {str(folder)!r}, whose files a new run sets aside; "
                "set another OUTPUT_DIR"
            )


def _read(path: Path) -> dict[str, Any]:
    if not is_whole_zip(path):
        raise DataError("it is damaged")
    state = load_tensors(path)
    if not isinstance(state, dict) or "step" not in state:
        raise DataError("it is no checkpoint of a run")
    return state


def _link(path: Path, name: Path) -> None:
    """Let ``name`` be what ``path`` is; where the file system has no links, ``path`` moves."""
    part = name.with_name(f".{name.name}{files.PART}")
    try:
        part.unlink(missing_ok=True)
        os.link(path, part)
        os.replace(part, name)
        part.unlink(missing_ok=True)  # it stays where both were one file already
    except OSError:
        os.replace(path, name)
