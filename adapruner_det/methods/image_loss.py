"""Per-image loss: what a training finds hard on the whole.

The plainest ranking that a training gives, and the one that crowded images win where a loss sums
over objects. Shape letters: N samples, E epochs.
"""

from __future__ import annotations

from .base import Choice, Evidence, register
from .recorder import LOSS
from .shared import kept_last, loss_columns, mean_of_visits


@register("image-loss", needs=(LOSS,))
def image_loss(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: (1/E) Σ_t L_t, the mean over the epochs in which it was seen. Costs O(E·N)."""
    losses = evidence.signal(LOSS)
    return Choice(kept_last(-mean_of_visits(losses)), columns=loss_columns(losses))
