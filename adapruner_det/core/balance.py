"""Balance: the kept share of every class stays within a band of the keep ratio.

Shape letters: N samples, B samples of a batch, C classes, P (sample, class) pairs, K kept.

The constraint |share_k − c_r| <= band of class k gets a dual variable ν_k. In the Lagrangian it
lowers the pressure on every sample of the class by ν_k, here in units of rank like c of
:mod:`.ratio`. Its ascent step is  ν ← S(ν + η·(c_r − share), η·band)  with S(x, t) =
sign(x)·max(|x| − t, 0): a class outside its band is pulled in, and ν of one inside goes back to 0.

A sample may have several classes (an image of a detection set) or none. Off by default: it costs
memory for the classes of every sample, and it overrules the losses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .cut import cut, cut_order


class ClassSets:
    """Which classes each sample has, as two flat arrays: 8 bytes a sample and 4 a pair.

    Args:
        start: (N + 1,) where each sample's classes begin in ``classes``.
        classes: (P,) class numbers in [0, C); those of one sample are distinct.
        num_classes: C.
    """

    def __init__(self, start: np.ndarray, classes: np.ndarray, num_classes: int) -> None:
        self.start = np.asarray(start, dtype=np.int64)
        self.classes = np.asarray(classes, dtype=np.int32)
        self.num_classes = num_classes
        if len(self.classes) and not (0 <= self.classes.min() and self.classes.max() < num_classes):
            raise ValueError(
                f"classes run from {self.classes.min()} to {self.classes.max()}; "
                f"there are {num_classes}, numbered from 0"
            )

    @classmethod
    def from_sets(cls, sets: Iterable[Iterable[int]], num_classes: int) -> ClassSets:
        """From the classes of each sample, in the order of the indices; repeats count once."""
        distinct = [sorted(set(classes)) for classes in sets]
        start = np.cumsum([0, *map(len, distinct)])
        return cls(start, np.array([c for classes in distinct for c in classes]), num_classes)

    def __len__(self) -> int:
        return len(self.start) - 1

    def pairs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of ``ids`` (B,): (position in ids (P,), class (P,))."""
        lengths = self.start[ids + 1] - self.start[ids]
        rows = np.repeat(np.arange(len(ids)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, self.classes[self.start[ids][rows] + within]

    def of(self, index: int) -> np.ndarray:
        """The classes of one sample."""
        return self.classes[self.start[index] : self.start[index + 1]]

    def count(self, member: np.ndarray | None = None) -> np.ndarray:
        """How many samples each class has, (C,); of those in ``member``, (N,) bool, if given."""
        weights = None if member is None else np.repeat(member, np.diff(self.start))
        return np.bincount(self.classes, weights, self.num_classes).astype(np.int64)


def kept_shares(kept: np.ndarray, sets: ClassSets) -> np.ndarray:
    """The part of each class's samples that is kept, (C,); NaN for a class without samples."""
    total = sets.count()
    return np.where(total > 0, sets.count(kept) / np.maximum(total, 1), np.nan)


@dataclass(frozen=True)
class Balance:
    """What :class:`AdaPruner` takes to keep classes in balance.

    Attributes:
        sets: the classes of the N samples.
        band: how far the kept share of a class may be from c_r. For classes of a few samples the
            bounds are rounded outwards to whole samples, but one is always kept.
    """

    sets: ClassSets
    band: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.band < 1.0:
            raise ValueError(f"the band is {self.band}; it must lie in (0, 1): 0.05 is 5 points")

    def bounds(self, keep_ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """The fewest and the most kept samples of each class, (C,) each."""
        total = self.sets.count()
        fewest = np.floor((keep_ratio - self.band) * total + 1e-9)
        most = np.ceil((keep_ratio + self.band) * total - 1e-9)
        return (
            np.clip(fewest, np.minimum(1, total), total).astype(np.int64),
            np.clip(most, 0, total).astype(np.int64),
        )

    def off_band(self, kept: np.ndarray, keep_ratio: float) -> np.ndarray:
        """The classes whose kept share is outside the band, for (N,) bool ``kept``."""
        fewest, most = self.bounds(keep_ratio)
        counts = self.sets.count(kept)
        return np.flatnonzero((counts < fewest) | (counts > most))


class ClassDuals:
    """The dual variable of every class, and how many of its logits are above 0 and at 0."""

    GAIN = 1.0  # η per epoch
    DAMPING = 1.0  # rank per unit of violation
    INNER = 0.5  # part of the band that the duals aim at, so that the final cut has little to do

    def __init__(self, balance: Balance, keep_ratio: float) -> None:
        self._sets, self._keep_ratio = balance.sets, keep_ratio
        self._band = self.INNER * balance.band
        self._total = np.maximum(balance.sets.count(), 1)
        self._positive = np.zeros(balance.sets.num_classes, dtype=np.int64)
        self._undecided = balance.sets.count()  # every logit starts at 0
        self.dual = np.zeros(balance.sets.num_classes)

    def offset(self, ids: np.ndarray) -> np.ndarray:
        """By how much the rank of each of ``ids`` is lowered, summed over its classes. (B,).

        To ν comes a share of the present violation, which damps the ascent.
        """
        error = self._error()
        violation = error - np.clip(error, -self._band, self._band)
        rows, classes = self._sets.pairs(ids)
        return np.bincount(rows, (self.dual + self.DAMPING * violation)[classes], len(ids))

    def update(self, ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """The logits of ``ids`` went from ``before`` to ``after``, (B,) each. Costs O(B + C)."""
        rows, classes = self._sets.pairs(ids)
        count = len(self.dual)

        def change(which: np.ndarray) -> np.ndarray:
            return np.rint(np.bincount(classes, which[rows], count)).astype(np.int64)

        self._positive += change((after > 0).astype(float) - (before > 0))
        self._undecided += change((after == 0).astype(float) - (before == 0))
        visited = np.bincount(classes, minlength=count) / self._total
        wanted = self.dual + self.GAIN * visited * self._error()
        shrunk = np.maximum(np.abs(wanted) - self.GAIN * visited * self._band, 0.0)
        self.dual = np.clip(np.sign(wanted) * shrunk, -1.0, 1.0)

    def _error(self) -> np.ndarray:
        """c_r minus the share of each class's logits above 0, (C,)."""
        share = (self._positive + self._keep_ratio * self._undecided) / self._total
        return self._keep_ratio - share

    def state_dict(self) -> dict[str, Any]:
        names = ("dual", "_positive", "_undecided")
        return {name.strip("_"): torch.from_numpy(getattr(self, name).copy()) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dual = state["dual"].numpy().copy()
        self._positive = state["positive"].numpy().copy()
        self._undecided = state["undecided"].numpy().copy()


def balanced_cut(
    logit: np.ndarray, score: np.ndarray, count: int, balance: Balance, keep_ratio: float
) -> np.ndarray:
    """:func:`.cut.cut`, then swaps in its order until every class is in the band.

    First the worst kept samples of classes with too many go and the best dropped ones of classes
    with too few come; then the count is made exact by samples whose classes all have room.
    Where classes overlap so that this fails, the count stays exact and :meth:`Balance.off_band`
    says which classes are out. Costs O(N log N), and where classes are off a plain loop over N.
    Samples with a logit of −∞ are kept only where no others are left, whatever their classes.

    Returns:
        (N,) bool with exactly ``count`` true.
    """
    kept = cut(logit, score, count)
    if not len(balance.off_band(kept, keep_ratio)):
        return kept
    fewest, most = balance.bounds(keep_ratio)
    counts = balance.sets.count(kept)
    order = cut_order(logit, score)
    order = order[logit[order] > -np.inf]
    surplus = 0

    def flip(index: int, classes: np.ndarray) -> None:
        nonlocal surplus
        change = -1 if kept[index] else 1
        kept[index] = change > 0
        counts[classes] += change
        surplus += change

    for index in order[::-1][kept[order[::-1]]]:
        classes = balance.sets.of(index)
        if np.any(counts[classes] > most[classes]) and np.all(counts[classes] > fewest[classes]):
            flip(index, classes)
    for index in order[~kept[order]]:
        classes = balance.sets.of(index)
        if np.any(counts[classes] < fewest[classes]):
            flip(index, classes)
    # The exact count: within all bounds, else at least one of each class, else by all means.
    nothing, anything = np.full_like(counts, -1), np.full_like(counts, len(kept))
    for low, high in ((fewest, most), (np.minimum(fewest, 1), anything), (nothing, anything)):
        for index in order[::-1] if surplus > 0 else order:
            if surplus == 0:
                break
            classes = balance.sets.of(index)
            room = (
                counts[classes] > low[classes] if kept[index] else counts[classes] < high[classes]
            )
            if kept[index] == (surplus > 0) and np.all(room):
                flip(index, classes)
    return kept
