"""DUAL with Beta sampling: from hard to easy as the cut deepens.

Cho et al. 2025, *Lightweight Dataset Pruning without Full Training via Example Difficulty and
Prediction Uncertainty*. Shape letters: N samples.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .dual import FIRST, dual_weight
from .shared import kept_last, mean_of_visits

#: The paper's C, a + b = C + 1, and its c. The mean prediction of so many highest w is μ.
CONCENTRATION, POWER, HIGHEST = 15.0, 4.0, 10


@register("dual-beta", needs=("confidence",), per_ratio=True, epochs=2)
def dual_beta(evidence: Evidence, keep_ratio: float) -> Choice:
    """Drawn without replacement with chances ∝ w·Beta(p̄; a, b), w as of ``dual``.

    p̄ is the mean probability of the label in the first 30 epochs, or all of a shorter training;
    b = 15·(1 − μ)·(1 − r^4) and a = 16 − b at the dropped share r, with μ the mean p̄ of the 10
    samples of highest w. The K least of −log(chance) − Gumbel are such a draw (Kool et al. 2019,
    *Stochastic Beams and Where to Find Them*), so cuts are nested. Costs O(10·30·N).
    """
    probability = evidence.signal("confidence")
    weight, mean = dual_weight(probability), mean_of_visits(probability[:FIRST])
    a, b = beta_parameters(weight, mean, 1.0 - keep_ratio)
    # w is 0 where p never moved, as where p̄ is 0 or 1: kept last, whatever the density there.
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.log(weight) + (a - 1.0) * np.log(mean) + (b - 1.0) * np.log1p(-mean)
    gumbel = np.random.default_rng(evidence.seed).gumbel(size=len(chance))
    return Choice(kept_last(-chance - gumbel), parameters={"beta_a": a, "beta_b": b})


def beta_parameters(weight: np.ndarray, mean: np.ndarray, dropped: float) -> tuple[float, float]:
    """a and b of (N,) weights and mean probabilities, at a dropped share."""
    highest = np.argsort(-weight, kind="stable")[:HIGHEST]  # NaN is last
    b = CONCENTRATION * (1.0 - float(np.nanmean(mean[highest]))) * (1.0 - dropped**POWER)
    return CONCENTRATION + 1.0 - b, b
