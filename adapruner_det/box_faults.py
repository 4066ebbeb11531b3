"""Faults of annotated boxes, seen in what a detector predicts that was not trained on them.

Three of the four kinds have the shape of ObjectLab's (Tkachenko et al., "ObjectLab: Automated
Diagnosis of Mislabeled Images in Object Detection Data", 2023); the formulas are this project's.
No score depends on the unit of length, and of boxes the most suspicious one stands for its image: a
sum would rank crowded images.

Let s be the confidence of a prediction and u its IoU with a label, and ramp(u; a, b) rise from 0 at
u = a to 1 at u = b.

* overlooked: max s·(1 − ramp(u; 0.05, 0.25)) over predictions, u with the nearest label;
* badly located: of a label (against + ε) / (against + for + 2ε), for is max √s·ramp(u; 0.4, 0.8)
  and against max √s·ramp(u; 0, 0.2)·(1 − ramp(u; 0.4, 0.8)), over the predictions of any class
  nearest to this label, and ε = 0.3. The root, for an unsure box can lie well. Detectors place some
  classes and sizes worse than others, so what counts is the mean of the label's ranks among all of
  its class, and among the sixth of all that are about as large;
* swapped: the same of max s·ramp(u; 0.2, 0.5), for over predictions of the label's class, against
  over those of another class that are nearest to this label, and ε = 0.005;
* unsupported: 1 − max s·ramp(u; 0.1, 0.5) over predictions of any class.

Shape letters: N images, G labels and M predictions of an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .samples import digest

OVERLOOKED, LOCATED, SWAPPED, UNSUPPORTED = "overlooked", "badly located", "swapped", "unsupported"
KINDS = (OVERLOOKED, LOCATED, SWAPPED, UNSUPPORTED)

#: ε: evidence on both sides that is well below it leaves a score at a half.
_LITTLE = {LOCATED: 0.3, SWAPPED: 0.005}

#: Labels of about the same size: the first sixth of all, the second, and so on.
_SIZES = 6

_TOUCHES = (0.05, 0.25)
_FITS = (0.4, 0.8)
_NEAR = (0.0, 0.2)
_SAME_OBJECT = (0.2, 0.5)
_SUPPORTS = (0.1, 0.5)


@dataclass(frozen=True)
class Labels:
    """What is annotated in one image.

    Attributes:
        boxes: (G, 4), as (x0, y0, x1, y1), in the pixels that predictions are in.
        classes: (G,) whole numbers.
        crowd: (G,) bool, boxes that stand for many objects: what touches one is not overlooked, and
            they are not judged themselves.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray

    def digest(self, class_names: Sequence[str]) -> int:
        """64 bits over boxes, crowds and the names of classes; their order does not count.

        A class without a name counts by its number.
        """
        rows = [
            [class_names[c] if c < len(class_names) else str(c), *np.round(box, 3).tolist(), crowd]
            for box, c, crowd in zip(
                self.boxes, self.classes.tolist(), self.crowd.tolist(), strict=True
            )
        ]
        return digest(json.dumps(sorted(rows)))


@dataclass(frozen=True)
class Verdict:
    """What speaks for one kind of fault in one image.

    Attributes:
        score: in [0, 1], higher is more suspicious; of the box that is most suspicious.
        box: (x0, y0, x1, y1) of that box: a label, or for an overlooked object the prediction.
        seen: the box of the prediction that speaks against it; None where none does.
        given: the class of the label; None for an overlooked object.
        predicted: the class of the prediction; None where there is none.
    """

    score: float
    box: tuple[float, float, float, float] | None = None
    seen: tuple[float, float, float, float] | None = None
    given: int | None = None
    predicted: int | None = None


NOTHING = Verdict(0.0)


def judge(
    labels: Sequence[Labels], predictions: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, Verdict]]:
    """The most suspicious box of each kind in each of N images.

    Args:
        labels: of each image.
        predictions: of each image ``boxes`` (M, 4), ``scores`` (M,) in [0, 1] and ``classes`` (M,).

    Returns:
        Of each image kind → verdict; one without anything that could be of a kind scores 0 in it.
    """
    images = [_Image.of(own, found) for own, found in zip(labels, predictions, strict=True)]
    if images:
        ends = np.cumsum([len(image.given) for image in images])[:-1]
        placed = _among_like(
            np.concatenate([image.evidence[LOCATED][0] for image in images]),
            np.concatenate([image.given for image in images]),
            np.concatenate([_areas(image.own) for image in images]),
        )
        for image, ranks in zip(images, np.split(placed, ends), strict=True):
            image.evidence[LOCATED] = (ranks, image.evidence[LOCATED][1])
    return [image.verdicts() for image in images]


@dataclass
class _Image:
    """The evidence in one image, crowds aside; ``own`` (G, 4) are its labels, ``given`` (G,) their
    classes, ``boxes`` (M, 4) and ``classes`` (M,) what is predicted. ``evidence`` is kind → scores
    (G,), and the prediction (G,) that speaks loudest against each label; −1: none."""

    own: np.ndarray
    given: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    overlooked: Verdict
    evidence: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, labels: Labels, predictions: Mapping[str, np.ndarray]) -> _Image:
        boxes = np.asarray(predictions["boxes"], dtype=np.float64).reshape(-1, 4)
        scores = np.asarray(predictions["scores"], dtype=np.float64)
        classes = np.asarray(predictions["classes"], dtype=np.int64)
        judged = ~np.asarray(labels.crowd, dtype=bool)
        own, given = labels.boxes[judged], labels.classes[judged]
        u = pairwise_iou(own, boxes)
        crowded = covered(boxes, labels.boxes[~judged]).max(axis=1, initial=0.0)
        touched = np.maximum(u.max(axis=0, initial=0.0), crowded)
        evidence = {
            LOCATED: _located(u, scores),
            SWAPPED: _swapped(u, scores, given[:, None] == classes[None]),
            UNSUPPORTED: _unsupported(u, scores),
        }
        overlooked = _overlooked(scores, touched, boxes, classes)
        return cls(own, given, boxes, classes, overlooked, evidence)

    def verdicts(self) -> dict[str, Verdict]:
        """Kind → its verdict on the image."""
        worst = {kind: self._worst(*both) for kind, both in self.evidence.items()}
        return {OVERLOOKED: self.overlooked, **worst}

    def _worst(self, score: np.ndarray, witness: np.ndarray) -> Verdict:
        if not len(score):
            return NOTHING
        worst = int(score.argmax())
        seen = int(witness[worst])
        return Verdict(
            float(score[worst]),
            _corners(self.own[worst]),
            _corners(self.boxes[seen]) if seen >= 0 else None,
            int(self.given[worst]),
            int(self.classes[seen]) if seen >= 0 else None,
        )


def _among_like(score: np.ndarray, classes: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The rank of each label, in (0, 1), among those of its class and those of its size; mean.

    Args:
        score: of all labels of all images.
        classes: of each.
        areas: of each.
    """
    score = np.round(score, 9)  # what differs by rounding alone is equal
    lengths = np.round(np.log(np.maximum(areas, np.finfo(float).tiny)), 9)
    size = (rankdata(lengths) - 1.0) * _SIZES // max(len(areas), 1)
    total = np.zeros(len(score))
    for groups in (classes, size):
        for group in np.unique(groups):
            own = groups == group
            total[own] += (rankdata(score[own]) - 0.5) / np.count_nonzero(own)
    return total / 2.0


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(G, M) intersection over union of (G, 4) and (M, 4) boxes; 0 for boxes without area."""
    shared = _intersections(first, second)
    union = _areas(first)[:, None] + _areas(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def covered(boxes: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(M, G) the share of each of (M, 4) boxes that lies inside each of (G, 4) others."""
    shared, areas = _intersections(boxes, by), _areas(boxes)[:, None]
    return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)


def _overlooked(
    scores: np.ndarray, touched: np.ndarray, boxes: np.ndarray, classes: np.ndarray
) -> Verdict:
    """The prediction that is surest and farthest from any label, if there is one."""
    score = scores * (1.0 - _ramp(touched, _TOUCHES))
    if not score.any():
        return NOTHING
    best = int(score.argmax())
    box = _corners(boxes[best])
    return Verdict(float(score[best]), box, box, None, int(classes[best]))


def _located(u: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G,) scores, and the prediction (G,) that speaks loudest against each label; −1: none."""
    sure = np.where(_nearest(u), np.sqrt(scores), 0.0)
    fits = _ramp(u, _FITS)
    return _balance(sure * fits, sure * _ramp(u, _NEAR) * (1.0 - fits), _LITTLE[LOCATED])


def _swapped(u: np.ndarray, scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_located`; ``same`` (G, M) says whether label and prediction have one class."""
    evidence = scores * _ramp(u, _SAME_OBJECT)
    other = np.where(~same & _nearest(u), evidence, 0.0)  # a rider is no evidence against a horse
    return _balance(np.where(same, evidence, 0.0), other, _LITTLE[SWAPPED])


def _unsupported(u: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_located`; no prediction speaks against a label that none stands for."""
    support = (scores * _ramp(u, _SUPPORTS)).max(axis=1, initial=0.0)
    return 1.0 - support, np.full(len(u), -1)


def _nearest(u: np.ndarray) -> np.ndarray:
    """(G, M) bool: whether no other label overlaps a prediction more; it speaks of that one."""
    nearest: np.ndarray = u == u.max(axis=0, initial=0.0)
    return nearest


def _balance(
    speaks_for: np.ndarray, against: np.ndarray, little: float
) -> tuple[np.ndarray, np.ndarray]:
    """(G,) the share of the evidence that is against each label, of (G, M) each; and whose it is.

    The surest prediction counts: a sum would have several boxes of one object count as several.
    """
    if not against.shape[1]:
        return np.full(len(against), 0.5), np.full(len(against), -1)
    most = against.max(axis=1)
    score = (most + little) / (most + speaks_for.max(axis=1) + 2.0 * little)
    return score, np.where(most > 0, against.argmax(axis=1), -1)


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.clip(high - low, 0.0, None).prod(axis=2)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)


def _ramp(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
