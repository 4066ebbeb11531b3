"""Class-balanced boxes: as many boxes as can be, where one of a rare class counts for many.

A control that needs no training. Shape letters: N samples, M boxes of all samples.
"""

from __future__ import annotations

import numpy as np

from .base import BOXES, Choice, Evidence, register
from .shared import sum_of_class_shares, ties_drawn


@register("balanced-boxes", needs=(BOXES,))
def balanced_boxes(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: Σ over the boxes of an image of 1 / (boxes of that class in the whole set).

    So every class counts for 1 in all. An image without boxes has 0. Which of equal ones stay is
    drawn. Costs O(M + N log N).
    """
    boxes = evidence.samples.boxes or ()
    worth = sum_of_class_shares(evidence.samples, np.ones(sum(map(len, boxes))))
    return Choice(ties_drawn(-worth, evidence.seed), columns={"worth": worth})
