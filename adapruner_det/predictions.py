"""Detections of images by models that were not trained on them, and the file that holds them.

The file is the one of :mod:`adapruner_det.report.predictions`, an ``.npz`` with one row a
detection: ``key`` (P,), ``boxes`` (P, 4), ``scores`` (P,) and ``classes`` (P,). What this module
writes has besides ``image`` (N,), the keys of all images, also of those without a detection, and of
each its ``loss`` and ``fold``; and a ``header``. Files of other programs need not have those.
Shape letters: N images, M detections of an image, P detections of all.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError, one_line
from .files import write_whole

#: What the header says the file is.
FORMAT = "adapruner-det held out 1"

#: Column of the file → its numpy kinds and what follows its first axis.
_PER_BOX = {"key": ("U", ()), "boxes": ("f", (4,)), "scores": ("f", ()), "classes": ("iu", ())}
_PER_IMAGE = {"image": ("U", ()), "loss": ("f", ()), "fold": ("iu", ())}

#: What reading another file, or a damaged one, raises; the first two of an array without names.
_NOT_OURS: tuple[type[Exception], ...] = (TypeError, AttributeError, OSError, ValueError, KeyError)
_NOT_OURS += (EOFError, zipfile.BadZipFile, zlib.error)

Detections = Mapping[str, np.ndarray]
NO_DETECTIONS: Detections = {
    "boxes": np.zeros((0, 4), np.float32),
    "scores": np.zeros(0, np.float32),
    "classes": np.zeros(0, np.int64),
}


@dataclass(frozen=True)
class Predictions:
    """What was predicted for N images.

    Attributes:
        keys: of the images, sorted and distinct.
        found: of each image ``boxes`` (M, 4), as (x0, y0, x1, y1) in pixels of the image as it is
            annotated, ``scores`` (M,) in [0, 1], and ``classes`` (M,).
        losses: (N,) the loss of each image as it is annotated; NaN where there is none.
        folds: (N,) which part an image was held out with.
        about: plain values that say how they were made.
        complete: whether an image that is not among the keys was not looked at; otherwise nothing
            was detected in it.
    """

    keys: Sequence[str]
    found: Sequence[Detections]
    losses: np.ndarray
    folds: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, keys: Sequence[str]) -> Predictions:
        """Those of ``keys``, in that order.

        Raises:
            DataError: a key that is not among them; where they may be incomplete, if none is.
        """
        places = {key: place for place, key in enumerate(self.keys)}
        missing = [key for key in keys if key not in places]
        if missing and (self.complete or len(missing) == len(keys)):
            raise DataError(
                f"the predictions lack {len(missing)} of {len(keys)} images, first {missing[0]}; "
                "predict all images of the data set anew"
            )
        rows = [places.get(key, -1) for key in keys]
        return Predictions(
            list(keys),
            [self.found[row] if row >= 0 else NO_DETECTIONS for row in rows],
            np.array([self.losses[row] if row >= 0 else np.nan for row in rows]),
            np.array([self.folds[row] if row >= 0 else 0 for row in rows], dtype=np.int64),
            self.about,
        )

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (.npz), whole or not at all."""
        images = np.array(self.keys, dtype=np.str_)
        columns = {
            "header": np.array(json.dumps({"format": FORMAT, **self.about}, sort_keys=True)),
            "image": images,
            "key": np.repeat(images, [len(own["scores"]) for own in self.found]),
            "loss": np.asarray(self.losses, dtype=np.float64),
            "fold": np.asarray(self.folds, dtype=np.int64),
            "boxes": _joined([own["boxes"] for own in self.found], (0, 4), np.float32),
            "scores": _joined([own["scores"] for own in self.found], (0,), np.float32),
            "classes": _joined([own["classes"] for own in self.found], (0,), np.int64),
        }
        return write_whole(path, lambda file: np.savez_compressed(file, **columns))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what :meth:`save` wrote, or a file of another program.

        Raises:
            DataError: a file that is not there or is not of this kind, with what is wrong.
        """
        try:
            return cls._read(Path(path))
        except FileNotFoundError:
            raise DataError(f"there is no file of predictions at {path}") from None
        except _NOT_OURS as error:
            raise DataError(
                f"{path} holds no predictions ({one_line(error)[:200]}); give the predictions.npz "
                "of an earlier run, or a file as docs/report.md describes it"
            ) from error

    @classmethod
    def _read(cls, path: Path) -> Predictions:
        with np.load(path, allow_pickle=False) as file:
            whole = "header" in file.files
            names = (*_PER_BOX, *(_PER_IMAGE if whole else ()))
            columns = {name: file[name] for name in names}
            about = json.loads(str(file["header"])) if whole else {}
        if whole and (not isinstance(about, dict) or about.pop("format", None) != FORMAT):
            raise ValueError(f"its header does not say {FORMAT!r}")
        _check(columns, _PER_BOX)
        if not whole:
            images = np.unique(columns["key"])
            unknown = {"loss": np.full(len(images), np.nan), "fold": np.zeros(len(images), int)}
            columns |= {"image": images, **unknown}
        _check(columns, _PER_IMAGE)
        found = _by_image(columns)
        keys = columns["image"].tolist()
        return cls(keys, found, columns["loss"], columns["fold"], about, complete=whole)


def _by_image(columns: Mapping[str, np.ndarray]) -> list[Detections]:
    """The rows of each image, in their order.

    Raises:
        ValueError: images that are not sorted and distinct, or a row of none of them.
    """
    images, keys = columns["image"], columns["key"]
    if not len(images) or np.any(images[1:] <= images[:-1]):
        raise ValueError("its images are not sorted and distinct")
    place = np.minimum(np.searchsorted(images, keys), len(images) - 1)
    if np.any(images[place] != keys):
        raise ValueError("it has detections of an image that is not among its images")
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(1, len(images)))
    names = ("boxes", "scores", "classes")
    parts = {name: np.split(columns[name][order], ends) for name in names}
    return [{name: parts[name][row] for name in names} for row in range(len(images))]


def joined(parts: Sequence[Predictions], about: Mapping[str, Any]) -> Predictions:
    """One of all, by key; no key is in two of them."""
    rows = sorted(
        (key, found, loss, fold)
        for part in parts
        for key, found, loss, fold in zip(
            part.keys, map(_Held, part.found), part.losses, part.folds, strict=True
        )
    )
    keys, found, losses, folds = zip(*rows, strict=True)
    return Predictions(
        list(keys), [own.value for own in found], np.array(losses), np.array(folds), dict(about)
    )


class _Held:
    """Keeps what has no order out of a sort, which never comes to it: keys are distinct."""

    def __init__(self, value: Detections) -> None:
        self.value = value


def _joined(parts: Sequence[np.ndarray], empty: tuple[int, ...], dtype: Any) -> np.ndarray:
    whole = [np.asarray(part, dtype=dtype).reshape(-1, *empty[1:]) for part in parts]
    return np.concatenate([np.zeros(empty, dtype), *whole])


def _check(
    columns: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    """Raise a ValueError for the first column of those ``wanted`` that cannot be meant."""
    rows = {len(columns[name]) if columns[name].ndim else -1 for name in wanted}
    if len(rows) != 1:
        raise ValueError(f"its columns {', '.join(wanted)} differ in length")
    for name, (kinds, shape) in wanted.items():
        own = columns[name]
        if own.dtype.kind not in kinds or own.shape[1:] != shape or own.ndim != 1 + len(shape):
            raise ValueError(f"its {name} are {own.dtype} of the shape {own.shape}")
        if name == "boxes" and not np.isfinite(own).all():
            raise ValueError("it has boxes that are not finite")
        if name == "scores" and not ((own >= 0) & (own <= 1)).all():
            raise ValueError("it has scores outside [0, 1]")
        if name == "classes" and own.min(initial=0) < 0:
            raise ValueError("it has classes below 0")
