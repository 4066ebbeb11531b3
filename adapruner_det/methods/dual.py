"""DUAL: uncertain and hard, early in training.

Cho et al. 2025, *Lightweight Dataset Pruning without Full Training via Example Difficulty and
Prediction Uncertainty*. Shape letters: N samples, E epochs.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import kept_last, mean_and_spread, mean_of_visits, windows

#: The paper's J and T, in epochs.
WINDOW, FIRST = 10, 30


@register("dual", needs=("confidence",), epochs=2)
def dual(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: w = the mean, over windows of 10 successive epochs, of std(p)·(1 − mean p).

    p is the probability of the given label in the first 30 epochs. A training of fewer than 30
    epochs counts whole, one of fewer than 10 is one window, and one of one epoch is refused.
    Costs O(10·30·N).
    """
    return Choice(kept_last(-dual_weight(evidence.signal("confidence"))))


def dual_weight(probability: np.ndarray) -> np.ndarray:
    """(E, N) → w, (N,) float64; NaN of a sample that was not seen in the first 30 epochs."""
    products = []
    for window in windows(probability[:FIRST], WINDOW):
        mean, spread = mean_and_spread(window)
        products.append(spread * (1.0 - mean))
    return mean_of_visits(np.stack(products))
