"""Anchors from boxes: k-means on their shapes, with 1 − IoU as the distance.

As in YOLOv2 (Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", 2016, "Dimension
Clusters"). The same shapes give the same anchors, in whatever order they come.

Shape letters: n boxes, k anchors. A shape is a width and a height in pixels, both above 0.
"""

from __future__ import annotations

import numpy as np

_SEED = 0
_RESTARTS = 8
_MAX_STEPS = 100
_CELLS = 2_000_000  # numbers of one n x k table that are held at a time


def shape_iou(shapes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n, k) IoU of ``shapes`` (n, 2) with ``anchors`` (k, 2), each pair centred on one point."""
    width = np.minimum(shapes[:, None, 0], anchors[:, 0])
    height = np.minimum(shapes[:, None, 1], anchors[:, 1])
    inter = width * height
    return inter / (shapes.prod(1)[:, None] + anchors.prod(1) - inter)


def mean_best_iou(shapes: np.ndarray, anchors: np.ndarray) -> float:
    """Mean over ``shapes`` (n, 2) of the IoU with the best of ``anchors`` (k, 2)."""
    return float(np.mean(_best(shapes, anchors)[1]))


def cluster(shapes: np.ndarray, k: int, bounds: np.ndarray | None = None) -> np.ndarray:
    """The centres (k, 2) of ``k`` clusters of ``shapes``, by area.

    A centre is the mean of its cluster. That need not raise the mean IoU in every step, so those of
    the best step of all restarts are taken, the shapes that a restart begins with among them. Where
    fewer than ``k`` shapes differ, the rest are larger than those by √2 a side, and again by √2.

    Args:
        shapes: (n, 2), n at least 1.
        k: at least 1.
        bounds: (k, 2) the least and the most that the width and height of the i-th smallest centre
            may be, both columns rising; None for no bounds.
    """
    shapes = shapes[np.lexsort(shapes.T)]
    rng = np.random.default_rng(_SEED)
    best, best_iou = np.empty((0, 2)), -1.0
    for _ in range(_RESTARTS):
        centres = _bounded(_start(shapes, k, rng), bounds)
        before = None
        for _ in range(_MAX_STEPS):
            owner, iou = _best(shapes, centres)
            if iou.mean() > best_iou:
                best, best_iou = centres, float(iou.mean())
            if before is not None and np.array_equal(owner, before):
                break
            before = owner
            centres = _bounded(_means(shapes, owner, centres), bounds)
    return best


def _best(shapes: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) index of the best anchor of each shape, and (n,) their IoU."""
    rows = max(1, _CELLS // len(anchors))
    tables = [shape_iou(shapes[i : i + rows], anchors) for i in range(0, len(shapes), rows)]
    owner = np.concatenate([table.argmax(1) for table in tables])
    return owner, np.concatenate([table.max(1) for table in tables])


def _start(shapes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k of ``shapes``, the next drawn by its distance from those before it (k-means++)."""
    chosen = [int(rng.integers(len(shapes)))]
    distance = np.clip(1 - shape_iou(shapes, shapes[chosen])[:, 0], 0, None)
    while len(chosen) < k and distance.max() > 1e-9:
        chosen.append(int(rng.choice(len(shapes), p=distance / distance.sum())))
        distance = np.minimum(distance, 1 - shape_iou(shapes, shapes[chosen[-1:]])[:, 0])
        distance = np.clip(distance, 0, None)
    centres = shapes[chosen]
    largest = centres[centres.prod(1).argmax()]
    further = np.sqrt(2) ** np.arange(1, 1 + k - len(chosen))
    return np.concatenate([centres, further[:, None] * largest])


def _means(shapes: np.ndarray, owner: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The mean of each cluster; a centre that owns nothing stays where it is."""
    count = np.bincount(owner, minlength=len(centres))
    total = [np.bincount(owner, shapes[:, i], len(centres)) for i in (0, 1)]
    means = np.stack(total, 1) / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, means, centres)


def _bounded(centres: np.ndarray, bounds: np.ndarray | None) -> np.ndarray:
    """``centres`` by area, each within its bounds."""
    centres = centres[np.argsort(centres.prod(1), kind="stable")]
    return centres if bounds is None else centres.clip(bounds[:, :1], bounds[:, 1:])
