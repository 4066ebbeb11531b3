"""Forgetting: how often a training unlearns a sample.

Toneva et al. 2019, *An Empirical Study of Example Forgetting during Deep Neural Network Learning*.
Shape letters: N samples, E epochs.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import kept_last, ties_drawn


@register("forgetting", needs=("correct",), epochs=2)
def forgetting(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: Σ_t [correct at t and wrong at t+1], over all epochs; the never learnt first.

    A sample that is never correct counts as forgotten infinitely often. Many samples have the same
    count; which of them stay is drawn by the seed, since by index whole classes would go.
    A training of one epoch is refused. Costs O(E·N).
    """
    correct = evidence.signal("correct")
    events = forgetting_events(correct)
    # The never learnt stand before the E / 2 events that there can be at most.
    score = ties_drawn(kept_last(-np.minimum(events, len(correct))), evidence.seed)
    return Choice(score, columns={"forgetting_events": events.astype(np.float32)})


def forgetting_events(correct: np.ndarray) -> np.ndarray:
    """Of (E, N) with 1 correct, 0 wrong, NaN not seen: (N,), inf never correct, NaN never seen."""
    events = np.zeros(correct.shape[1])
    before = np.full(correct.shape[1], np.nan)
    learnt = np.zeros(correct.shape[1], dtype=bool)
    for now in correct:
        events += (before == 1) & (now == 0)
        learnt |= now == 1
        before = np.where(np.isnan(now), before, now)
    events[~learnt] = np.inf
    events[np.isnan(before)] = np.nan
    return events
