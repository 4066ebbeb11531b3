"""Whether a training is long enough for a cut to be judged by it.

A cut is trained on for as many epochs as all samples are, so for fewer steps. Where a training is
short, those steps are worth more than the samples, and any selection loses to all samples; where it
is long, the loss has flattened and the samples decide. The two limits are measured:
``benchmarks/enough_training.py``.

Shape letters: E epochs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Steps on the kept part below which a cut costs steps, for a model that begins at random.
ENOUGH_STEPS = 1500
#: A loss that falls by more than this part of its whole fall in the last quarter still falls.
STILL_FALLS = 0.05


def late_fall(losses: Sequence[float] | np.ndarray) -> float:
    """How much of what the mean training loss fell in all it fell from the third quarter of a run
    to the last.

    Not of what is left of the loss, for near 0 that halves for ever.

    Args:
        losses: (E,) of each epoch, 4 or more; a run of fewer has no quarters and gives NaN.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if len(losses) < 4:
        return float("nan")
    third, last = (np.nanmean(part) for part in np.array_split(losses, 4)[2:])
    in_all = losses[0] - last
    return float((third - last) / in_all) if in_all > 0 else 0.0


def too_few_steps(steps: int) -> str:
    """What to say of a training of so many steps on a kept part; empty where they are enough."""
    if steps >= ENOUGH_STEPS:
        return ""
    return (
        f"{steps} steps on the kept part are few: below some {ENOUGH_STEPS} a cut costs more in "
        "steps than it wins in data; train for more epochs, or as many steps as on all"
    )


def still_falling(losses: Sequence[float] | np.ndarray) -> str:
    """What to say of a run of such losses (E,); empty where they have flattened."""
    fall = late_fall(losses)
    if not fall > STILL_FALLS:
        return ""
    return (
        f"{100 * min(fall, 1.0):.0f}% of the loss's fall came in the last quarter of the run: "
        "train for more epochs before judging a selection by it"
    )
