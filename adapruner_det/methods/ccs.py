"""CCS: cover the whole range of difficulty but for the hardest.

Zheng et al. 2023, *Coverage-centric Coreset Selection for High Pruning Rates*.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

import numpy as np

from ..core.cut import kept_count
from .base import Choice, Evidence, register
from .shared import mean_of_visits, places

#: The paper's number of strata.
STRATA = 50

#: Dropped share r → β, the hardest part that goes first; the paper's for CIFAR-10. Between two of
#: them β is interpolated, beyond it stays.
HARDEST = {0.3: 0.0, 0.5: 0.0, 0.7: 0.1, 0.8: 0.1, 0.9: 0.3}


@register("ccs", needs=("margin",), per_ratio=True)
def ccs(evidence: Evidence, keep_ratio: float) -> Choice:
    """Drop the β·N of lowest AUM; of 50 strata of equal width of AUM keep alike many, drawn.

    The strata get their budgets smallest first: each its equal share of what is still to be kept,
    or all it has, and what it lacks goes to the others. A sample that was never seen is hardest of
    all. Cuts of the outcome at smaller ratios take at random from what is kept.
    Costs O(E·N + N log N).
    """
    margin = mean_of_visits(evidence.signal("margin"))
    unseen = np.isnan(margin)
    margin[unseen] = -np.inf
    count, number = len(margin), kept_count(len(margin), keep_ratio)
    draw = np.random.default_rng(evidence.seed).random(count)
    order = np.argsort(margin, kind="stable")
    gone = max(round(hardest_part(1.0 - keep_ratio) * count), int(unseen.sum()))
    hardest, rest = np.split(order, [min(gone, count - number)])
    kept = np.zeros(count, dtype=bool)
    kept[rest[stratified_draw(margin[rest], draw[rest], number)]] = True
    # Kept before the others, both as drawn; then the hardest, the least hard of them first.
    score = draw + ~kept
    score[hardest] = 2.0 + places(np.argsort(-margin[hardest], kind="stable"))
    return Choice(score, kept)


def hardest_part(dropped: float) -> float:
    """β at a dropped share in [0, 1)."""
    return float(np.interp(dropped, list(HARDEST), list(HARDEST.values())))


def stratified_draw(values: np.ndarray, draw: np.ndarray, count: int) -> np.ndarray:
    """(n,) bool, ``count`` true: those of least ``draw`` in strata of equal width of ``values``."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scaled = (np.where(finite, values, low) - low) / (high - low or 1.0)
    stratum = np.minimum((scaled * STRATA).astype(np.int64), STRATA - 1)
    _, own, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(values), dtype=bool)
    for turn, number in enumerate(np.argsort(sizes, kind="stable")):
        budget = min(sizes[number], count // (len(sizes) - turn))
        members = np.flatnonzero(own == number)
        chosen[members[np.argsort(draw[members], kind="stable")[:budget]]] = True
        count -= budget
    return chosen
