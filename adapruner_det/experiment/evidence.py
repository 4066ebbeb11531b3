"""What a grid shows a method of a task; one recorded training of a seed serves all methods.

Shape letters: N samples, E epochs, D features, C classes, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError
from ..files import write_whole
from ..methods.base import FEATURES, PREDICTIONS, THUMBNAILS, Guide
from ..methods.recorder import LOSS, Recorder
from ..samples import Samples
from .task import Run, Task

#: Where the task works in a cell's folder, and the side of a thumbnail.
RUN_FOLDER, SIDE = "run", 8


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
        self.seconds_here = 0.0
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
        """(N, D) float32: of the recorded model, or :func:`thumbnails`."""
        if source == THUMBNAILS:
            return _load(self._path(THUMBNAILS))
        if source != "model":
            raise ValueError(f"there are no features of {source!r}: 'model' or {THUMBNAILS!r}")
        return _load(self._path(FEATURES))

    def predictions(self) -> Any:
        """Of the recorded model: (N, C) probabilities, or the detections of each image."""
        path = self._path(PREDICTIONS)
        if path.exists():
            return _load(path)
        # What is no array is asked of the model each time: reading objects back could run any code.
        return self._task.predictions(path.with_name(RUN_FOLDER))

    def _path(self, name: str) -> Path:
        if name not in self._places:
            raise ValueError(f"the method reads {name!r} but is not registered to need it")
        return self._places[name] / f"{name}.npy"


def offers(task: Task) -> frozenset[str]:
    """What a method may need of ``task``."""
    return task.signals | {LOSS} | task.offers


def record(task: Task, seed: int, folder: Path, wanted: Iterable[str]) -> Run:
    """Train without weights, and keep in ``folder`` one file of each thing that is ``wanted``.

    Raises:
        DataError: a training that ended without its record, or what training raises.
    """
    wanted = frozenset(wanted)
    recorder = Recorder(len(task.samples), wanted - {FEATURES, PREDICTIONS, THUMBNAILS, LOSS})
    run = task.train(seed, folder / RUN_FOLDER, guide=recorder)
    if not recorder.epochs:
        raise DataError(f"{folder} has a finished training without its record; remove the folder")
    for name in sorted(wanted & {LOSS, *recorder.signals}):
        _save(folder, name, recorder.signal(name))
    if FEATURES in wanted:
        _save(folder, FEATURES, task.features(folder / RUN_FOLDER))
    if PREDICTIONS in wanted:
        found = task.predictions(folder / RUN_FOLDER)
        if isinstance(found, np.ndarray):
            _save(folder, PREDICTIONS, found)
    return run


def save_thumbnails(samples: Samples, folder: Path) -> None:
    """Keep the :func:`thumbnails` in ``folder``, with a progress bar on the way."""
    _save(folder, THUMBNAILS, thumbnails(samples))


def thumbnails(samples: Samples) -> np.ndarray:
    """(N, 192) float32: each image as 8x8 means of RGB, without their mean, of unit length.

    An image of one colour is zeros.
    """
    rows = np.empty((len(samples), SIDE * SIDE * 3), dtype=np.float32)
    for index in tqdm(range(len(samples)), "thumbnails", unit="image", leave=False, disable=None):
        rows[index] = _thumbnail(samples.image(index))
    return rows


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → (192,) float32."""
    height, width = image.shape[:2]
    rows = _area_weights(height) @ image.reshape(height, -1).astype(np.float32)  # (8, W·3)
    means = np.einsum("jw,iwc->ijc", _area_weights(width), rows.reshape(SIDE, width, 3))
    centred = (means - means.mean()).ravel()
    length = np.linalg.norm(centred)
    # Rounding leaves something of an image of one colour, which means nothing.
    return centred / length if length > 1e-3 else np.zeros_like(centred)


def _area_weights(size: int) -> np.ndarray:
    """(8, size): the share of each pixel in each of 8 equal parts of a side; rows sum to 1."""
    edges = np.linspace(0, size, SIDE + 1)
    pixels = np.arange(size)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(high - low, 0) * SIDE / size).astype(np.float32)


def _save(folder: Path, name: str, values: np.ndarray) -> None:
    write_whole(folder / f"{name}.npy", lambda file: np.save(file, values, allow_pickle=False))


def _load(path: Path) -> np.ndarray:
    """A file that :func:`_save` wrote; a DataError where it is gone or damaged since."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read: {error}; remove the folder {path.parent}, which is made again"
        ) from error
