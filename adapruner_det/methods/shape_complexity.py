"""Shape complexity: what the annotations alone say of how hard objects are.

The class-balanced, scale-invariant score of Dai et al. 2025, *Training-Free Dataset Pruning for
Instance Segmentation*, of boxes in place of outlines, of which a detector has none. Shape letters:
N samples, M boxes of all samples.
"""

from __future__ import annotations

import numpy as np

from .base import BOXES, Choice, Evidence, register
from .shared import sum_of_class_shares, ties_drawn


@register("shape-complexity", needs=(BOXES,))
def shape_complexity(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: Σ over an image's boxes of s / (Σ of s over all boxes of the class).

    s = perimeter / (2√(π · area)) is 1 for a circle, the same at any scale, and for boxes grows
    with the ratio of their sides. A box without area has 0, and an image without boxes. Which of
    equal ones stay is drawn. Costs O(M + N log N).
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(evidence.samples.boxes or ())])
    worth = sum_of_class_shares(evidence.samples, complexity(boxes))
    return Choice(ties_drawn(-worth, evidence.seed), columns={"shape_complexity": worth})


def complexity(boxes: np.ndarray) -> np.ndarray:
    """s (M,) of boxes (M, 4)."""
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0.0)
    area = sides.prod(axis=1)
    round_one = 2.0 * np.sqrt(np.pi * area)
    perimeter = 2.0 * sides.sum(axis=1)
    return np.divide(perimeter, round_one, out=np.zeros(len(boxes)), where=area > 0)
