"""Near-copies among the samples, from neighbours that were found elsewhere.

Shape letters: N samples, k neighbours of each.

How near is near differs from one data set to the next and within one, so a distance is measured in
the two samples' own scales: closeness is exp(−d² / (0.15·s_i·s_j)), s the distance to the 15th
neighbour. It is close to 1 for copies and frames of one scene, and about 0.001 where a neighbour is
no nearer than the others. Where a sample is there more than 15 times, the 15th neighbour is a copy
too and tells nothing of how far others are: whoever knows the unit gives a least scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

COUNTED = 10  # neighbours that count as possible copies
SCALE_RANK = (
    15  # the neighbour whose distance is a sample's scale, or the last where there are fewer
)
SPREAD = 0.15
TWIN = 0.5  # closeness from which two samples are twins
TWIN_REACH = math.sqrt(-SPREAD * math.log(TWIN))  # and so up to which distance, in their scales


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of every sample, nearest first.

    Attributes:
        index: (N, k) indices; the sample itself is not among its neighbours.
        distance: (N, k) distances in any unit, 0 or more, rising along a row.
        least_scale: in that unit; a smaller s counts as this.
        alike: (N,) a number that samples share which are twins of each other, all of them, and of
            the same others; each counts 10 neighbours alone, which in a larger group are not all.
            None where that is not known.

    Raises:
        ValueError: shapes that differ, an index outside [0, N) or the sample's own, distances that
            are negative, not finite or fall along a row, a least scale that is.
    """

    index: np.ndarray
    distance: np.ndarray
    least_scale: float = 0.0
    alike: np.ndarray | None = None

    def __post_init__(self) -> None:
        index, distance = np.asarray(self.index), np.asarray(self.distance, dtype=np.float64)
        if index.ndim != 2 or index.shape != distance.shape or not index.shape[1]:
            raise ValueError(
                f"neighbours have shape {index.shape}, their distances {distance.shape}; "
                "both must be (N, k) with k of 1 or more"
            )
        if index.dtype.kind not in "iu":
            raise ValueError(f"neighbours are of type {index.dtype}; they must be whole numbers")
        rows = np.arange(len(index))[:, None]
        if np.any((index < 0) | (index >= len(index)) | (index == rows)):
            raise ValueError(
                f"a neighbour must be another of the samples 0 to {len(index) - 1}, "
                "not the sample itself"
            )
        if not np.all(np.isfinite(distance)) or np.any(distance < 0):
            raise ValueError("distances of neighbours must be finite and 0 or more")
        if np.any(np.diff(distance, axis=1) < 0):
            raise ValueError("the neighbours of a sample must come nearest first")
        if not 0.0 <= self.least_scale < math.inf:
            raise ValueError(f"the least scale is {self.least_scale}; it must be finite, 0 or more")
        if self.alike is not None and np.shape(self.alike) != (len(index),):
            raise ValueError(f"alike has shape {np.shape(self.alike)}, not ({len(index)},)")

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def scale(self) -> np.ndarray:
        """s, (N,) of the type of the distances."""
        last = min(SCALE_RANK, self.distance.shape[1]) - 1
        return np.maximum(self.distance[:, last], self.least_scale)

    @cached_property
    def closeness(self) -> np.ndarray:
        """Of each sample to its first 10 neighbours, (N, min(k, 10)) float32 in [0, 1]."""
        scale = self.scale
        near, distance = self.index[:, :COUNTED], self.distance[:, :COUNTED].astype(np.float64)
        unit = SPREAD * scale[:, None] * scale[near]
        # A scale of 0 is that of 15 exact copies: what lies at distance 0 is one of them.
        exponent = np.where(unit > 0, distance**2 / np.where(unit > 0, unit, 1.0), np.inf)
        return np.exp(-np.where(distance == 0, 0.0, exponent)).astype(np.float32)

    @cached_property
    def copies(self) -> np.ndarray:
        """M_i = 1 + Σ of the closeness to 10 neighbours: how often the sample is there, (N,)."""
        return 1.0 + self.closeness.sum(axis=1, dtype=np.float64)

    def twins(self) -> Twins:
        """Which samples are twins; all that is needed of neighbours after M is known."""
        rows, place = np.nonzero(self.closeness >= TWIN)
        found = self.index[rows, place]
        both = np.concatenate([rows, found]), np.concatenate([found, rows])
        code = np.unique(both[0].astype(np.int64) * len(self) + both[1])
        return Twins(len(self), code // len(self), code % len(self), self.alike)


@dataclass(frozen=True)
class Twins:
    """Pairs of samples of which one may stand for the other.

    Attributes:
        num_samples: N.
        left, right: (P,) the two of each pair, which is there in both directions.
        alike: as :class:`Neighbours` has it: pairs that are not among these.
    """

    num_samples: int
    left: np.ndarray
    right: np.ndarray
    alike: np.ndarray | None = None

    @cached_property
    def group(self) -> np.ndarray:
        """(N,) int64: the smallest index among a sample's twins, their twins and so on.

        A sample without twins has its own index.
        """
        group = np.arange(self.num_samples)
        while True:
            before = group.copy()
            np.minimum.at(group, self.left, before[self.right])
            group = group[group]
            if np.array_equal(group, before):
                return group

    def representatives(self, order: np.ndarray) -> np.ndarray:
        """(N,) bool: the samples that stay if of twins only the first in ``order`` does.

        No two of them are twins, and each other sample is the twin of one that comes before it.

        Args:
            order: (N,) numbers; the lower comes first, and the smaller index where they are equal.
        """
        rank = _rank(order)
        stays = np.ones(self.num_samples, dtype=bool)
        if self.alike is not None:
            by_rank = np.argsort(rank)
            _, first = np.unique(self.alike[by_rank], return_index=True)
            stays[:] = False
            stays[by_rank[first]] = True
        waiting = np.zeros(self.num_samples, dtype=bool)
        rising = (rank[self.left] < rank[self.right]) & stays[self.left] & stays[self.right]
        first, second = self.left[rising], self.right[rising]
        waiting[second] = True
        while len(first):  # at least the first of those that are open is settled each time
            settled = ~waiting[first]
            stays[second[settled]] = False
            left = stays[first] & stays[second] & ~settled
            first, second = first[left], second[left]
            waiting[:] = False
            waiting[second] = True
        return stays


def one_of_each(order: np.ndarray, group: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """The order in which no group of twins goes whole: (N,) int64 ranks, 0 is kept first.

    With G groups of two or more and D distinct contents (groups and samples without twins), the
    first min(2G, D) samples have one of each group among them, and of each first so many as many in
    proportion. What else the order says stays as it is, and the ranks are of one order, so cuts of
    it are nested.

    Args:
        order: (N,) numbers, the lower is kept first, the smaller index where they are equal.
        group: (N,) a number that the members of a group share, and no others.
        eligible: (N,) bool, the samples that may stand for their group.
    """
    rank = _rank(order)
    by_rank = np.argsort(rank)
    _, number, size = np.unique(group, return_inverse=True, return_counts=True)
    candidates = by_rank[(eligible & (size[number] > 1))[by_rank]]
    _, firsts = np.unique(number[candidates], return_index=True)
    best = candidates[np.sort(firsts)]  # the best of each group, best first
    count = len(best)
    if not count:
        return rank
    distinct = len(np.unique(number[eligible]))
    due = np.arange(1, count + 1) * min(2 * count, distinct) // count - 1
    place = np.minimum(rank[best], due)  # rising, for both are
    taken = np.zeros(len(rank), dtype=bool)
    taken[place] = True
    others = by_rank[~np.isin(by_rank, best)]
    found = np.empty_like(rank)
    found[best] = place
    found[others] = np.flatnonzero(~taken)
    return found


def _rank(order: np.ndarray) -> np.ndarray:
    rank = np.empty(len(order), dtype=np.int64)
    rank[np.argsort(order, kind="stable")] = np.arange(len(order))
    return rank
