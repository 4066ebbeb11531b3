"""What models say of images, in a file that any program can write; detections of all images.

The file is an ``.npz`` of flat arrays, one row a detection: ``key`` (P,) str, ``classes`` (P,)
whole numbers, ``scores`` (P,) in [0, 1] and, of a detector, ``boxes`` (P, 4) as (x0, y0, x1, y1) in
pixels of the image as it is annotated. :class:`Predictions`, by models that were not trained on the
images, are those of a detector; what they write has besides ``image`` (N,), the keys of all images,
also of those without a detection, and of each its ``loss``, the ``digest`` of the labels that the
loss is of, and its ``fold``; and a ``header``, which may have the ``class_names``. Files of other
programs need not have those.
Shape letters: N images, C classes, M detections of an image, P detections of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import DataError, one_line
from .files import write_whole

#: What the header says the file is.
FORMAT = "adapruner-det held out 1"


class _Column(NamedTuple):
    """What an array of the file must be: in words, its numpy kinds, its shape, its values."""

    wanted: str
    kinds: str
    row: tuple[int, ...] = ()
    fits: Callable[[np.ndarray], Any] = lambda own: True


_COLUMNS = {
    "key": _Column("(P,) texts", "U"),
    "classes": _Column("(P,) whole numbers from 0", "iu", fits=lambda own: np.all(own >= 0)),
    "scores": _Column(
        "(P,) numbers in [0, 1]", "f", fits=lambda own: np.all((own >= 0) & (own <= 1))
    ),
    "boxes": _Column("(P, 4) finite numbers", "fiu", (4,), fits=lambda own: np.isfinite(own).all()),
    "image": _Column("(N,) texts", "U"),
    "loss": _Column("(N,) numbers", "f"),
    "digest": _Column("(N,) whole numbers from 0", "u"),
    "fold": _Column("(N,) whole numbers", "iu"),
}

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
        about: plain values that say how they were made; ``class_names`` among them, where known.
        complete: whether an image that is not among the keys was not looked at; otherwise nothing
            was detected in it.
        digests: (N,) uint64, of the labels that the losses are of; None where they are not known.
    """

    keys: Sequence[str]
    found: Sequence[Detections]
    losses: np.ndarray
    folds: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    digests: np.ndarray | None = None

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
            digests=None if self.digests is None else self.digests[rows],
        )

    def for_classes(self, class_names: Sequence[str]) -> Predictions:
        """The same where a class has the number of its name in ``class_names``.

        Numbers follow from the names that a data set has, and move when the last label of one is
        mended. Predictions of a class that is no more are left out. Without names on either side
        numbers stay as they are.
        """
        then = self.about.get("class_names")
        found = []
        for own in self.found:
            classes = renumbered(own["classes"], then, class_names)
            found.append({name: c[classes >= 0] for name, c in {**own, "classes": classes}.items()})
        return replace(self, found=found, about={**self.about, "class_names": [*class_names]})

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (.npz), whole or not at all."""
        columns = {
            "header": np.array(json.dumps({"format": FORMAT, **self.about}, sort_keys=True)),
            "image": np.array(self.keys, dtype=np.str_),
            "loss": np.asarray(self.losses, dtype=np.float64),
            "fold": np.asarray(self.folds, dtype=np.int64),
        }
        if self.digests is not None:
            columns["digest"] = np.asarray(self.digests, dtype=np.uint64)
        return _write(path, columns | _rows_of(self.keys, self.found))

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what :meth:`save` wrote, or a file of another program.

        Raises:
            DataError: a file that is not there or is not of this kind, with what is wrong.
        """
        with _opened(path) as file:
            rows = _rows(file)
            if rows.boxes is None:
                raise _Unfit("it has no array 'boxes'")
            whole = "header" in file
            about = _about(file) if whole else {}
            images = _column(file, "image") if whole else np.unique(rows.key)
            count = len(images)
            losses = _column(file, "loss", count) if whole else np.full(count, np.nan)
            folds = _column(file, "fold", count) if whole else np.zeros(count, int)
            digests = _column(file, "digest", count) if whole and "digest" in file else None
            found = _by_image(images, rows)
        return cls(images.tolist(), found, losses, folds, about, whole, digests)


def renumbered(
    classes: np.ndarray, then: Sequence[str] | None, now: Sequence[str] | None
) -> np.ndarray:
    """(M,) int64 the numbers in ``now`` of classes that have their names in ``then``.

    −1 stands for a class that ``now`` lacks. Without names on either side they stay as they are.
    """
    if not then or not now or [*then] == [*now]:
        return np.asarray(classes, dtype=np.int64)
    place = {name: number for number, name in enumerate(now)}
    known = np.array([place.get(name, -1) for name in then] + [-1], dtype=np.int64)
    return known[np.minimum(classes, len(then))]


class Rows(NamedTuple):
    """The P detections of a file, in any order.

    Attributes:
        key: (P,) str, of the image.
        classes: (P,) whole numbers.
        scores: (P,) floats in [0, 1].
        boxes: (P, 4) floats; None of a classifier.
        class_names: what the classes are numbers of; None where it is not known.
    """

    key: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None
    class_names: Sequence[str] | None = None


def read_rows(path: str | Path) -> Rows:
    """The detections in ``path``, whatever else it holds.

    Raises:
        DataError: a file that is not there, or whose arrays are not as the module's docstring has
            them.
    """
    with _opened(path) as file:
        return _rows(file)._replace(class_names=_class_names(file))


def save_predictions(
    path: str | Path, keys: Sequence[str], found: Sequence[Detections] | np.ndarray
) -> Path:
    """Write what a task's ``predictions`` gave, whole or not at all.

    Args:
        path: the .npz.
        keys: of the N images.
        found: ``boxes``, ``scores`` and ``classes`` of each image; or (N, C) probabilities, of
            which the largest of each image is taken.
    """
    if not isinstance(found, np.ndarray):
        return _write(path, _rows_of(keys, found))
    likeliest = {
        "key": np.array(keys, dtype=np.str_),
        "classes": found.argmax(axis=1).astype(np.int64),
        "scores": found.max(axis=1).astype(np.float32),
    }
    return _write(path, likeliest)


def _rows_of(keys: Sequence[str], found: Sequence[Detections]) -> dict[str, np.ndarray]:
    return {
        "key": np.repeat(np.array(keys, dtype=np.str_), [len(own["scores"]) for own in found]),
        "boxes": _joined([own["boxes"] for own in found], (0, 4), np.float32),
        "scores": _joined([own["scores"] for own in found], (0,), np.float32),
        "classes": _joined([own["classes"] for own in found], (0,), np.int64),
    }


def _write(path: str | Path, columns: Mapping[str, np.ndarray]) -> Path:
    return write_whole(path, lambda file: np.savez_compressed(file, **columns))  # type: ignore[arg-type]


class _Unfit(Exception):
    """What is wrong with the arrays of a file, as the end of a line."""


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The arrays of ``path``, by name; what is found wrong while they are read is one line."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"there is no file of predictions at {path}") from None
    except Exception as error:  # whatever a stranger's file makes numpy raise
        ours = isinstance(error, _Unfit)
        why = error if ours else f"it is no .npz of predictions ({one_line(error)[:200]})"
        raise DataError(
            f"{path} holds no predictions: {why}; give the predictions.npz of an earlier run, or a "
            "file as docs/report.md describes it"
        ) from error


def _column(file: Any, name: str, count: int | None = None) -> np.ndarray:
    """One array of an opened file, of ``count`` rows.

    Raises:
        _Unfit: it is not there, or cannot be meant.
    """
    if name not in file:
        raise _Unfit(f"it has no array {name!r}")
    own, column = np.asarray(file[name]), _COLUMNS[name]
    fits = own.ndim == 1 + len(column.row) and own.shape[1:] == column.row
    fits = fits and own.dtype.kind in column.kinds and count in (None, len(own))
    if not (fits and column.fits(own)):
        is_now = f"{own.dtype} of the shape {own.shape}"
        raise _Unfit(f"its array {name!r} must be {column.wanted}; it is {is_now}")
    return own


def _rows(file: Any) -> Rows:
    key = _column(file, "key")
    classes, scores = (_column(file, name, len(key)) for name in ("classes", "scores"))
    boxes = _column(file, "boxes", len(key)) if "boxes" in file else None
    if boxes is not None and boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float64)
    return Rows(key, classes, scores, boxes)


def _about(file: Any) -> dict[str, Any]:
    """What the header says besides the format."""
    try:
        about = json.loads(str(file["header"]))
    except ValueError:
        about = None
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise _Unfit(f"its header does not say {FORMAT!r}")
    names = about.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Unfit("its header has class_names that are no list of names")
    return about


def _class_names(file: Any) -> Sequence[str] | None:
    """What a header of ours says of them; None where there is none, or another program's."""
    with suppress(_Unfit, KeyError):
        return _about(file).get("class_names")
    return None


def _by_image(images: np.ndarray, rows: Rows) -> list[Detections]:
    """The rows of each image, in their order.

    Raises:
        _Unfit: images that are not sorted and distinct, or a row of none of them.
    """
    if not len(images):
        raise _Unfit("it has no detection, and no list of images")
    if np.any(images[1:] <= images[:-1]):
        raise _Unfit("its images are not sorted and distinct")
    place = np.minimum(np.searchsorted(images, rows.key), len(images) - 1)
    if np.any(images[place] != rows.key):
        raise _Unfit("it has detections of an image that is not among its images")
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(1, len(images)))
    columns = {"boxes": rows.boxes, "scores": rows.scores, "classes": rows.classes}
    parts = {name: np.split(own[order], ends) for name, own in columns.items() if own is not None}
    return [{name: own[row] for name, own in parts.items()} for row in range(len(images))]


def joined(parts: Sequence[Predictions], about: Mapping[str, Any]) -> Predictions:
    """One of all, by key; no key is in two of them."""
    keys = [key for part in parts for key in part.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    found = [own for part in parts for own in part.found]
    digests = [part.digests for part in parts if part.digests is not None]
    return Predictions(
        [keys[row] for row in order],
        [found[row] for row in order],
        np.concatenate([part.losses for part in parts])[order],
        np.concatenate([part.folds for part in parts])[order],
        dict(about),
        digests=np.concatenate(digests)[order] if len(digests) == len(parts) else None,
    )


def _joined(parts: Sequence[np.ndarray], empty: tuple[int, ...], dtype: Any) -> np.ndarray:
    whole = [np.asarray(part, dtype=dtype).reshape(-1, *empty[1:]) for part in parts]
    return np.concatenate([np.zeros(empty, dtype), *whole])
