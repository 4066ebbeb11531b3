"""VPS: what a detector's predictions of the boxes move most at while it trains.

Yagi 2025, *Extending Dataset Pruning to Object Detection: A Variance-based Approach*. Shape
letters: N samples, G boxes of the sample that has most, E epochs.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import kept_last, mean_and_spread, mean_over_boxes


@register("vps", needs=("box_iou", "box_confidence"), epochs=2)
def vps(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: the mean over an image's boxes of Var_t(IoU) + Var_t(confidence).

    Both are of one prediction: the paper matches a box with predictions of its class first, by IoU
    among those; the one that is recorded has the largest IoU · confidence in the box's class. The
    variances are over the epochs in which the box was seen, and divided by their number. An image
    without boxes has 0. A training of one epoch is refused. Costs O(E·N·G).
    """
    iou, confidence = (_variance(evidence.signal(name)) for name in ("box_iou", "box_confidence"))
    both = [mean_over_boxes(values, evidence.samples) for values in (iou, confidence)]
    columns = {"iou_variance": both[0], "confidence_variance": both[1]}
    return Choice(kept_last(-(both[0] + both[1])), columns=columns)


def _variance(values: np.ndarray) -> np.ndarray:
    """(E, N, G) → (N, G), NaN of what was never seen."""
    _, spread = mean_and_spread(values.reshape(len(values), -1))
    return np.square(spread).reshape(values.shape[1:])
