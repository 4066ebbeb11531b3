"""What a grid shows a method of a task; one recorded training of a seed serves all methods.

Shape letters: N samples, M boxes of all samples, E epochs, D features, C classes, H x W pixels.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import DataError
from ..files import write_whole
from ..methods.base import BOX_FEATURES, FEATURES, PREDICTIONS, THUMBNAILS, Guide
from ..methods.recorder import LOSS, Recorder
from ..neighbours import thumbnails
from ..samples import Samples
from ..selection import part_of
from .cells import read_json, write_json
from .task import Run, Task

#: Where the task works in a cell's folder, and where trials on held-out samples are.
RUN_FOLDER, TRIALS_FOLDER = "run", "trials"


class TaskEvidence:
    """What :class:`~adapruner_det.methods.base.Evidence` promises, of one seed of a task.

    Args:
        task: the model and its data.
        seed: of the run.
        folder: of the cell that selects; each training of the method has a folder in it.
        options: overrides of the task's node ADAPRUNER.
        places: what the method needs → the folder of the cell that made it.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        folder: Path,
        *,
        options: Mapping[str, Any] | None = None,
        places: Mapping[str, Path] | None = None,
    ) -> None:
        self.samples = task.samples
        self.seed = seed
        self.options: Mapping[str, Any] = {**task.options, **(options or {})}
        self.epochs = task.epochs
        self.offers = offers(task)
        self.runs: list[Run] = []
        #: Of :meth:`train` in this process, and of trials that an earlier one has done.
        self.seconds_here, self.seconds_before = 0.0, 0.0
        self._tried: set[str] = set()
        self._task, self._folder, self._places = task, folder, places or {}

    def train(self, guide: Guide) -> None:
        """One run of the task's model on all samples, under ``guide``; it goes on where it was."""
        number = f"-{len(self.runs) + 1}" if self.runs else ""
        start = time.perf_counter()
        self.runs.append(
            self._task.train(self.seed, self._folder / f"{RUN_FOLDER}{number}", guide=guide)
        )
        self.seconds_here += time.perf_counter() - start

    def signal(self, name: str) -> np.ndarray:
        """(E, N, ...) float32 of the recorded training; NaN where a sample was not seen."""
        return _load(self._path(name))

    def features(self, source: str = "model") -> np.ndarray:
        """(N, D) float32: of the recorded model, or :func:`.neighbours.thumbnails`.

        Of ``box_features`` (M, D), of the recorded model.
        """
        if source in (THUMBNAILS, BOX_FEATURES):
            return _load(self._path(source))
        if source != "model":
            raise ValueError(
                f"there are no features of {source!r}: 'model', {THUMBNAILS!r} or {BOX_FEATURES!r}"
            )
        return _load(self._path(FEATURES))

    def predictions(self) -> Any:
        """Of the recorded model: (N, C) probabilities, or the detections of each image."""
        path = self._path(PREDICTIONS)
        if path.exists():
            return _load(path)
        # What is no array is asked of the model each time: reading objects back could run any code.
        return self._task.predictions(path.with_name(RUN_FOLDER))

    def respond(self, kept: np.ndarray, held: np.ndarray, seed: int) -> tuple[float, float]:
        """The value and the seconds of a training on ``kept``, evaluated on ``held``, (N,) bool.

        Each is trained once; what came of it stays in the folder, the training does not, unless the
        value is none.
        """
        words = f"{self._task.identity} {seed}".encode()
        known = hashlib.sha256(kept.tobytes() + held.tobytes() + words).hexdigest()
        folder = self._folder / TRIALS_FOLDER
        place = folder / f"{known[:16]}.json"
        found = read_json(place)
        if not isinstance(found, dict) or found.get("known") != known:
            work, start = folder / known[:16], time.perf_counter()
            with _quiet():
                run = self._task.train(
                    seed,
                    work,
                    kept=part_of(self.samples, kept, "trial"),
                    test=part_of(self.samples, held, "trial"),
                    resume=work.exists(),
                )
            if not math.isfinite(run.value):
                return run.value, run.seconds
            wall = time.perf_counter() - start  # with the evaluation
            found = {"known": known, "value": run.value, "seconds": run.seconds, "wall": wall}
            write_json(place, found)
            shutil.rmtree(work)
        elif known not in self._tried:
            self.seconds_before += float(found["wall" if "wall" in found else "seconds"])
        self._tried.add(known)
        return float(found["value"]), float(found["seconds"])

    def _path(self, name: str) -> Path:
        if name not in self._places:
            raise ValueError(f"the method reads {name!r} but is not registered to need it")
        return self._places[name] / f"{name}.npy"


@contextmanager
def _quiet() -> Iterator[None]:
    """Let many short trainings say only what is wrong; what they log is in their folders."""
    names = ("", "adapruner_det", "detectron2", "fvcore")
    terminals = [
        handler
        for name in names
        for handler in logging.getLogger(name).handlers
        if not isinstance(handler, logging.FileHandler)
    ]
    for handler in terminals:  # not their levels: a progress bar's stand-in takes filters alone
        handler.addFilter(_is_warning)
    try:
        yield
    finally:
        for handler in terminals:
            handler.removeFilter(_is_warning)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def offers(task: Task) -> frozenset[str]:
    """What a method may need of ``task``."""
    return task.signals | {LOSS} | task.offers


def record(task: Task, seed: int, folder: Path, wanted: Iterable[str]) -> Run:
    """Train without weights, and keep in ``folder`` one file of each thing that is ``wanted``.

    Raises:
        DataError: a training that ended without its record, or what training raises.
    """
    wanted = frozenset(wanted)
    of_model = {FEATURES, BOX_FEATURES, PREDICTIONS, THUMBNAILS}
    recorder = Recorder(len(task.samples), wanted - of_model - {LOSS})
    run = task.train(seed, folder / RUN_FOLDER, guide=recorder)
    if not recorder.epochs:
        raise DataError(f"{folder} has a finished training without its record; remove the folder")
    for name in sorted(wanted & {LOSS, *recorder.signals}):
        _save_stacked(folder, name, recorder.by_epoch(name))
    if FEATURES in wanted:
        _save(folder, FEATURES, task.features(folder / RUN_FOLDER))
    if BOX_FEATURES in wanted:
        _save(folder, BOX_FEATURES, task.box_features(folder / RUN_FOLDER))  # type: ignore[attr-defined]
    if PREDICTIONS in wanted:
        found = task.predictions(folder / RUN_FOLDER)
        if isinstance(found, np.ndarray):
            _save(folder, PREDICTIONS, found)
    return run


def save_thumbnails(samples: Samples, folder: Path) -> None:
    """Keep the :func:`.neighbours.thumbnails` in ``folder``, behind a progress bar."""
    _save(folder, THUMBNAILS, thumbnails(samples))


def _save(folder: Path, name: str, values: np.ndarray) -> None:
    write_whole(folder / f"{name}.npy", lambda file: np.save(file, values, allow_pickle=False))


def _save_stacked(folder: Path, name: str, parts: Sequence[np.ndarray]) -> None:
    """As :func:`_save` of ``np.stack(parts)``, which would take the memory of all of them again.

    Raises:
        ValueError: parts of several shapes or types.
    """
    if len({(part.shape, part.dtype) for part in parts}) != 1:
        raise ValueError(f"the epochs of {name} are not alike")

    def write(file: IO[bytes]) -> None:
        header = np.lib.format.header_data_from_array_1_0(parts[0])
        header |= {"shape": (len(parts), *parts[0].shape), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).data)

    write_whole(folder / f"{name}.npy", write)


def _load(path: Path) -> np.ndarray:
    """A file that :func:`_save` wrote; a DataError where it is gone or damaged since."""
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read: {error}; remove the folder {path.parent}, which is made again"
        ) from error
    return found
