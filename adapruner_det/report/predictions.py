"""What a page shows of a trained model's predictions, and what they say against an annotation.

Their file is the one of :mod:`adapruner_det.predictions`. Shape letters: N samples, P rows of the
file, M rows of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..box_faults import covered, pairwise_iou
from ..predictions import Rows, read_rows, renumbered

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


def read_predictions(path: str | Path, class_names: Sequence[str] = ()) -> dict[str, Predicted]:
    """Key → its predictions, from ``path``; those of a low score are left out.

    Where the file has names of classes too, those that are not in ``class_names`` are left out.

    Raises:
        DataError: what :func:`~adapruner_det.predictions.read_rows` raises.
    """
    rows = read_rows(path)
    classes = renumbered(rows.classes, rows.class_names, class_names)
    return _by_key(rows._replace(classes=classes))


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


def _by_key(table: Rows) -> dict[str, Predicted]:
    order = np.lexsort((-table.scores, table.key))
    order = order[(table.scores[order] >= LOWEST) & (table.classes[order] >= 0)]
    if not len(order):
        return {}
    keys, starts = np.unique(table.key[order], return_index=True)
    found = {}
    for key, rows in zip(keys.tolist(), np.split(order, starts[1:]), strict=True):
        rows = rows[:MOST]
        found[key] = Predicted(
            boxes=np.zeros((0, 4)) if table.boxes is None else table.boxes[rows].astype(np.float64),
            classes=table.classes[rows].astype(np.int64),
            scores=table.scores[rows].astype(np.float64),
        )
    return found
