"""Random selection: the baseline that any method has to beat."""

from __future__ import annotations

import numpy as np

from ..samples import Samples
from ..selection import Selection, check_keep_ratio
from .base import Choice, Evidence, make_selection, register


@register("random")
def random(evidence: Evidence, keep_ratio: float) -> Choice:
    """Samples drawn without replacement; cuts of one seed at several ratios are nested."""
    return _drawn(len(evidence.samples), evidence.seed)


def random_selection(samples: Samples, keep_ratio: float, seed: int) -> Selection:
    """What the method selects of ``samples``, for which it needs neither a model nor a task.

    Raises:
        DataError: a keep ratio outside (0, 1].
    """
    check_keep_ratio(keep_ratio)
    choice = _drawn(len(samples), seed)
    return make_selection(choice, samples, method="random", keep_ratio=keep_ratio, seed=seed)


def _drawn(num_samples: int, seed: int) -> Choice:
    return Choice(np.random.default_rng(seed).random(num_samples))
