"""What a selection changes in the data: classes, box sizes and shapes, kept against full.

Plain functions of arrays, of whatever task. Shape letters: N samples, M objects of all samples
together, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: A box is tall below the first ratio of width to height, wide above the second.
TALL, WIDE = 2 / 3, 3 / 2

#: The part of the samples, none of them planted, that counts as hard: those of the highest loss.
HARD = 0.1


@dataclass(frozen=True)
class Objects:
    """The objects of N samples.

    Attributes:
        sample: (M,) int, the index of the sample that each is in.
        classes: (M,) int.
        boxes: (M, 4) float, (x0, y0, x1, y1) in pixels; None where objects have no boxes.
        image_sizes: (N, 2) float, width and height in pixels; None where there are no boxes.
    """

    sample: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray | None = None
    image_sizes: np.ndarray | None = None

    @classmethod
    def of_classes(cls, classes: Sequence[Sequence[int]]) -> Objects:
        """Of the class ids of each sample, one an object."""
        counts = [len(own) for own in classes]
        flat = [c for own in classes for c in own]
        return cls(np.repeat(np.arange(len(counts)), counts), np.array(flat, dtype=np.int64))


@dataclass(frozen=True)
class Changes:
    """What is kept of what; every share is in [0, 1], and NaN of nothing.

    Attributes:
        images, objects: name of a class → (in all samples, in the kept ones), of the images with
            the class and of its objects.
        kept: name of a part of the objects → the share of it that is kept: ``all``, and of boxes
            the ``smallest`` and ``largest third`` by the side relative to the image's, ``tall``,
            ``wide`` and ``in crowded images``, the third of the images with most objects.
        per_image: objects an image, of all samples and of the kept.
        median_side: the square root of a box's part of its image, at the median, likewise; None
            without boxes.
        dropped: what is planted, and ``hard, right`` → (its share of the dropped samples, its share
            of all).
        reasons: of the same → why its dropped samples went → how many; empty where that is not
            known.
    """

    images: Mapping[str, tuple[int, int]]
    objects: Mapping[str, tuple[int, int]]
    kept: Mapping[str, float]
    per_image: tuple[float, float]
    median_side: tuple[float, float] | None = None
    dropped: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it; None in place of NaN."""
        return {
            "images": {name: list(pair) for name, pair in self.images.items()},
            "objects": {name: list(pair) for name, pair in self.objects.items()},
            "kept": {name: _plain(share) for name, share in self.kept.items()},
            "per_image": list(map(_plain, self.per_image)),
            "median_side": self.median_side and list(map(_plain, self.median_side)),
            "dropped": {name: list(map(_plain, pair)) for name, pair in self.dropped.items()},
            "reasons": {name: dict(own) for name, own in self.reasons.items()},
        }


def changes(
    objects: Objects,
    kept: np.ndarray,
    class_names: Sequence[str] = (),
    *,
    planted: Mapping[str, np.ndarray] | None = None,
    losses: np.ndarray | None = None,
    why: np.ndarray | None = None,
) -> Changes:
    """Compare the kept samples with all.

    Args:
        objects: of the N samples.
        kept: (N,) bool.
        class_names: what the class ids mean.
        planted: what was planted, such as ``wrong labels`` → (N,) bool.
        losses: (N,) of a training on all samples, by which right samples are hard; NaN where one
            is not known.
        why: (N,) str, why each dropped sample went.
    """
    stays = kept[objects.sample]
    parts: dict[str, np.ndarray] = {"all": np.ones(len(stays), dtype=bool)}
    median = None
    counts = np.bincount(objects.sample, minlength=len(kept))
    if objects.boxes is not None and objects.image_sizes is not None:
        side, shape = _sides_and_shapes(objects.boxes, objects.image_sizes[objects.sample])
        parts["smallest third"], parts["largest third"] = _thirds(side)
        parts["tall"], parts["wide"] = shape < TALL, shape > WIDE
        parts["in crowded images"] = _thirds(counts.astype(float))[1][objects.sample]
        median = (_median(side), _median(side[stays]))
    marked = _marked(planted or {}, losses)
    return Changes(
        images=_of_classes(objects, kept, class_names, distinct=True),
        objects=_of_classes(objects, kept, class_names, distinct=False),
        kept={name: _share(stays, part) for name, part in parts.items()},
        per_image=(_share(counts, None), _share(counts[kept], None)),
        median_side=median,
        dropped={n: (_share(own, ~kept), _share(own, None)) for n, own in marked.items()},
        reasons={} if why is None else {n: _counts(why[own & ~kept]) for n, own in marked.items()},
    )


def _of_classes(
    objects: Objects, kept: np.ndarray, names: Sequence[str], *, distinct: bool
) -> dict[str, tuple[int, int]]:
    """Class → how many of its objects, or of the images that have one, there are and are kept."""
    classes, sample = objects.classes, objects.sample
    if distinct:
        classes, sample = np.divmod(np.unique(classes * len(kept) + sample), len(kept))
    count = int(classes.max(initial=-1)) + 1
    total = np.bincount(classes, minlength=count)
    stay = np.bincount(classes[kept[sample]], minlength=count)
    return {
        names[c] if c < len(names) else f"class {c}": (int(total[c]), int(stay[c]))
        for c in range(count)
        if total[c]
    }


def _sides_and_shapes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M,) each: the root of a box's part of its image, and its width by its height."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = np.sqrt(np.maximum(width * height, 0) / (sizes[:, 0] * sizes[:, 1]))
    return side, width / np.maximum(height, 1e-9)


def _thirds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which values are in the lowest and which in the highest third; neither of many equal ones."""
    if not len(values):
        return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    if low == high:
        return values < low, values > high
    return values <= low, values >= high


def _marked(planted: Mapping[str, np.ndarray], losses: np.ndarray | None) -> dict[str, np.ndarray]:
    """What is planted → (N,) bool, and beside it the hard ones of the right samples."""
    found = dict(planted)
    if losses is not None and planted:
        right = ~np.any(list(planted.values()), axis=0) & np.isfinite(losses)
        hard = np.zeros(len(losses), dtype=bool)
        if right.any():
            hard = right & (losses >= np.quantile(losses[right], 1 - HARD))
        found["hard, right"] = hard
    return found


def _counts(values: np.ndarray) -> dict[str, int]:
    """Each value → how often it is there, the most frequent first."""
    names, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): int(counts[i]) for i in order}


def _share(values: np.ndarray, part: np.ndarray | None) -> float:
    """The mean of ``values``, or of those in ``part``; NaN of none."""
    chosen = values if part is None else values[part]
    return float(np.mean(chosen)) if len(chosen) else float("nan")


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value
