"""Random selection matched on boxes: what has to be beaten by who may win by crowded images alone.

An image with many boxes teaches more than one with few, whatever else a method looks at. Part of
what a ranking wins over random may be the number of boxes that it keeps; of this draw each number
has the share that it has in the whole set. Shape letters: N samples.
"""

from __future__ import annotations

import numpy as np

from .base import BOXES, Choice, Evidence, register
from .shared import by_class, places

#: Fewest samples of one stratum: of those that hold fewer, none would have a share of its own.
STRATUM = 10


@register("matched-boxes", needs=(BOXES,))
def matched_boxes(evidence: Evidence, keep_ratio: float) -> Choice:
    """A draw that has the same share of each stratum of box counts; every cut is nested.

    Samples of one count are in one stratum; neighbouring counts share one where they have fewer
    than 10 samples. Where the share is no whole number, which strata have one more is drawn. Costs
    O(N log N).
    """
    seed, counts = evidence.seed, np.array([len(own) for own in evidence.samples.boxes or ()])
    stratum = strata(counts)
    draw = np.random.default_rng(seed).random(len(counts))
    rank = np.empty(len(counts), dtype=np.int64)
    for own in np.unique(stratum):
        members = np.flatnonzero(stratum == own)
        rank[members] = places(np.argsort(draw[members], kind="stable"))
    # Another seed, or what decides the rest would be drawn already.
    score = by_class(stratum, rank, seed + 1)
    return Choice(score, columns={"boxes": counts, "stratum": stratum})


def strata(counts: np.ndarray, fewest: int = STRATUM) -> np.ndarray:
    """(N,) int64: the number of the stratum that each of the ``counts`` (N,) falls into, from 0.

    Each has at least ``fewest`` samples, or all there are.
    """
    distinct, size = np.unique(counts, return_counts=True)
    number = np.zeros(len(distinct), dtype=np.int64)
    held, left = 0, len(counts)
    for place in range(1, len(distinct)):
        held, left = held + size[place - 1], left - size[place - 1]
        opens = held >= fewest and left >= fewest
        number[place] = number[place - 1] + opens
        held = 0 if opens else held
    return number[np.searchsorted(distinct, counts)]
