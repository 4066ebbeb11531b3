"""L / typical: the loss of an image beside that of images with about as many objects.

The quantity that this project's mask follows (:mod:`adapruner_det.core.typical`), taken of a whole
training at its end, and ranked at its hard end alone. Shape letters: N samples, E epochs.
"""

from __future__ import annotations

import sys

import numpy as np

from ..core.typical import TypicalLoss, size_levels
from .base import Choice, Evidence, register
from .recorder import LOSS
from .shared import kept_last, loss_columns, mean_of_visits


@register("typical-loss", needs=(LOSS,))
def typical_loss(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: L̄_i / typical(size_i), L̄ the mean loss over the epochs in which it was seen.

    The typical loss of a size is interpolated between the medians of groups of at least 32 samples
    of neighbouring sizes, and goes on beyond the last as :class:`.core.typical.TypicalLoss` has it.
    Where all samples have one object it is the median of all. Costs O(E·N + N log N).
    """
    losses = evidence.signal(LOSS)
    mean = mean_of_visits(losses)
    typical = typical_of(mean, evidence.samples.sizes)
    columns = {**loss_columns(losses), "typical_loss": typical}
    return Choice(kept_last(-mean / typical), columns=columns)


class _OfAll(TypicalLoss):
    """Looks at all samples, not at the last of a stream."""

    WINDOW = sys.maxsize


def typical_of(mean: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N,), above 0, from the mean losses (N,), NaN of those never seen, and sizes (N,)."""
    levels, level = size_levels(sizes)
    typical, seen = _OfAll(len(mean), levels), ~np.isnan(mean)
    if seen.any():
        typical.add(mean[seen], level[seen])
    return typical.of(level)
