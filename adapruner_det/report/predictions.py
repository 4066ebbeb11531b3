"""What a trained model says of the samples, in a file that any program can write.

An ``.npz`` of flat arrays, one row a detection: ``key`` (P,) str, ``classes`` (P,) whole numbers,
``scores`` (P,) in [0, 1] and, of a detector, ``boxes`` (P, 4) as (x0, y0, x1, y1) in pixels of the
image as it is annotated. Shape letters: N samples, P rows, M rows of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..box_faults import covered, pairwise_iou
from ..errors import DataError, one_line
from ..files import write_whole

#: Predictions of a lower score are not shown, and of one image so many.
LOWEST, MOST = 0.05, 100

#: How much a prediction overlaps a box (as intersection over union) that it agrees with.
AGREES = 0.5


@dataclass(frozen=True)
class Predicted:
    """The M predictions of one sample, the surest first.

    Attributes:
        boxes: (M, 4) float64, or (0, 4) of a classifier.
        classes: (M,) int64.
        scores: (M,) float64.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def save_predictions(
    path: str | Path, keys: Sequence[str], found: Sequence[Mapping[str, np.ndarray]] | np.ndarray
) -> Path:
    """Write what a task's ``predictions`` gave, for :func:`read_predictions`.

    Args:
        path: the .npz.
        keys: of the N samples.
        found: ``boxes``, ``scores`` and ``classes`` of each sample; or (N, C) probabilities, of
            which the largest of each sample is taken.
    """
    if isinstance(found, np.ndarray):
        table = {
            "key": np.array(keys),
            "classes": found.argmax(axis=1).astype(np.int64),
            "scores": found.max(axis=1).astype(np.float32),
        }
    else:
        counts = [len(own["scores"]) for own in found]
        table = {
            "key": np.repeat(np.array(keys), counts),
            "boxes": np.concatenate([own["boxes"].reshape(-1, 4) for own in found]),
            "classes": np.concatenate([own["classes"] for own in found]),
            "scores": np.concatenate([own["scores"] for own in found]),
        }
    return write_whole(path, lambda file: np.savez_compressed(file, **table))


def read_predictions(path: Path) -> dict[str, Predicted]:
    """Key → its predictions, from ``path``; those of a low score are left out.

    Raises:
        DataError: a file that is none, or whose arrays are not as the module's docstring has them.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            table = {name: file[name] for name in ("key", "classes", "scores")}
            boxes = file["boxes"] if "boxes" in file.files else None
    except KeyError as error:
        raise DataError(
            f"{path} has no array {error}; docs/report.md says how to make it"
        ) from None
    except Exception as error:  # whatever a stranger's file makes numpy raise
        raise DataError(f"{path} is no .npz of predictions: {one_line(error)[:200]}") from error
    count = len(table["key"]) if table["key"].ndim == 1 else -1
    _require(path, "key", table["key"].dtype.kind == "U" and count >= 0, "(P,) texts")
    fits = table["classes"].shape == (count,) and table["classes"].dtype.kind in "iu"
    _require(path, "classes", fits and bool(np.all(table["classes"] >= 0)), "(P,) whole numbers")
    scores = table["scores"]
    fits = scores.shape == (count,) and scores.dtype.kind == "f"
    _require(path, "scores", fits and bool(np.all((scores >= 0) & (scores <= 1))), "(P,) in [0, 1]")
    if boxes is not None:
        fits = boxes.shape == (count, 4) and boxes.dtype.kind in "fiu"
        _require(path, "boxes", fits and bool(np.isfinite(boxes).all()), "(P, 4) finite numbers")
    return _by_key(table, boxes)


class Disagreement(NamedTuple):
    """What the predictions say against an annotation; crowds are not judged.

    Attributes:
        alone: the places of the boxes that no prediction of the same class agrees with.
        missing: the places of the predictions of a score of 0.5 or more that agree with no box at
            all, nor lie half in a crowd.
        least: the place of the box that is least met, by the largest score times overlap of the
            predictions of its class; −1 where there is no box.
    """

    alone: list[int]
    missing: list[int]
    least: int


def disagreement(
    boxes: np.ndarray, classes: np.ndarray, crowd: np.ndarray, found: Predicted
) -> Disagreement:
    """Hold an annotation against the P predictions of the same image.

    Args:
        boxes: (M, 4) as annotated.
        classes: (M,).
        crowd: (M,) bool.
        found: the predictions.
    """
    overlap = pairwise_iou(boxes, found.boxes)  # (M, P)
    agrees, same = overlap >= AGREES, classes[:, None] == found.classes[None, :]
    alone = ~(agrees & same).any(axis=1) & ~crowd
    in_crowd = (covered(found.boxes, boxes[crowd]) >= AGREES).any(axis=1)
    missing = (found.scores >= 0.5) & ~agrees.any(axis=0) & ~in_crowd
    met = (overlap * same * found.scores).max(axis=1, initial=0.0)
    least = -1 if crowd.all() else int(np.where(crowd, np.inf, met).argmin())
    return Disagreement(np.flatnonzero(alone).tolist(), np.flatnonzero(missing).tolist(), least)


def best(found: Mapping[str, np.ndarray]) -> Predicted:
    """What is shown of the ``boxes``, ``scores`` and ``classes`` that a detector gave."""
    order = np.argsort(-found["scores"], kind="stable")
    order = order[found["scores"][order] >= LOWEST][:MOST]
    return Predicted(
        boxes=found["boxes"][order].astype(np.float64),
        classes=found["classes"][order].astype(np.int64),
        scores=found["scores"][order].astype(np.float64),
    )


def _by_key(table: dict[str, np.ndarray], boxes: np.ndarray | None) -> dict[str, Predicted]:
    order = np.lexsort((-table["scores"], table["key"]))
    order = order[table["scores"][order] >= LOWEST]
    if not len(order):
        return {}
    keys, starts = np.unique(table["key"][order], return_index=True)
    found = {}
    for key, rows in zip(keys.tolist(), np.split(order, starts[1:]), strict=True):
        rows = rows[:MOST]
        found[key] = Predicted(
            boxes=np.zeros((0, 4)) if boxes is None else boxes[rows].astype(np.float64),
            classes=table["classes"][rows].astype(np.int64),
            scores=table["scores"][rows].astype(np.float64),
        )
    return found


def _require(path: Path, name: str, fits: Any, wanted: str) -> None:
    if not fits:
        raise DataError(f"{path}: its array {name!r} must be {wanted}; docs/report.md says more")
