"""TDDS: how unsteadily the predictions of a sample change, late in training above all.

Zhang et al. 2024, *Spanning Training Progress: Temporal Dual-Depth Scoring (TDDS) for Enhanced
Dataset Pruning*. Shape letters: N samples, E epochs, C classes.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import kept_last, mean_of_visits, windows

#: The paper's J, in epochs, and its β, the weight of the newest window.
WINDOW, DECAY = 10, 0.9

#: What is added to a probability before its logarithm.
TINY = 1e-8


@register("tdds", needs=("probabilities",), epochs=3)
def tdds(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: R ← β·R_k + (1 − β)·R over the windows k of 10 successive epochs, from R = 0.

    d_t = |Σ_c p_{t+1,c} · log(p_{t+1,c} / p_{t,c})| is the change of one epoch, and
    R_k = sqrt(Σ_{t in k} (d_t − mean of d in k)²) over the 9 changes within a window.
    A training of fewer than 10 epochs is one window; one of fewer than 3 is refused. The paper
    chooses for each ratio the epoch where the record ends; here it is the training's last.
    A sample that was not seen in a window keeps its R. Costs O(E·N·C + 10·E·N).
    """
    change = changes(evidence.signal("probabilities"))
    score = np.full(change.shape[1], np.nan)
    for window in windows(change, WINDOW - 1):
        square = np.square(window - mean_of_visits(window))
        new = DECAY * np.sqrt(np.nansum(square, axis=0)) + (1 - DECAY) * np.nan_to_num(score)
        score = np.where(np.isnan(square).all(axis=0), score, new)
    return Choice(kept_last(-score))


def changes(probabilities: np.ndarray) -> np.ndarray:
    """(E, N, C) → d_t, (E − 1, N) float64, each since the visit before; NaN where there is none."""
    found = np.empty((len(probabilities) - 1, probabilities.shape[1]))
    before = probabilities[0].astype(np.float64)
    for epoch in range(len(found)):
        now = probabilities[epoch + 1].astype(np.float64)
        found[epoch] = np.abs((now * (np.log(now + TINY) - np.log(before + TINY))).sum(axis=1))
        before = np.where(np.isnan(now), before, now)
    return found
