"""Whether a training is long enough for a cut to be judged by it.

Shape letters: E epochs, or as many pieces of a run.
"""

from __future__ import annotations

import numpy as np


def late_fall(losses: np.ndarray) -> float:
    """By what share the mean training loss fell from the third quarter of a run to the last.

    Args:
        losses: (E,) of each epoch, 4 or more; a run of fewer has no quarters and gives NaN.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if len(losses) < 4:
        return float("nan")
    third, last = (np.nanmean(part) for part in np.array_split(losses, 4)[2:])
    return float((third - last) / third) if third > 0 else 0.0
