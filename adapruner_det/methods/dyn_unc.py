"""Dyn-Unc: how much the prediction of a sample's label moves while training.

He et al. 2024, *Large-scale Dataset Pruning with Dynamic Uncertainty*.
Shape letters: N samples, E epochs.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import kept_last, mean_and_spread, mean_of_visits, windows

#: The paper's J, in epochs.
WINDOW = 10


@register("dyn-unc", needs=("confidence",), epochs=2)
def dyn_unc(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: the mean, over all windows of 10 successive epochs, of std(p).

    p is the probability of the given label. A training of fewer than 10 epochs is one window; one
    of one epoch is refused. Costs O(10·E·N).
    """
    seen = evidence.signal("confidence")
    spread = np.stack([mean_and_spread(window)[1] for window in windows(seen, WINDOW)])
    return Choice(kept_last(-mean_of_visits(spread)))
