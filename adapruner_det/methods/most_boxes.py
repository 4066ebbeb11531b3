"""The images with most boxes: a control that needs no training.

A cut of images is paid for in images, so whoever keeps the crowded ones trains on more objects.
"""

from __future__ import annotations

import numpy as np

from .base import BOXES, Choice, Evidence, register
from .shared import ties_drawn


@register("most-boxes", needs=(BOXES,))
def most_boxes(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: the number of boxes. Which of equal ones stay is drawn. Costs O(N log N)."""
    counts = np.array([len(own) for own in evidence.samples.boxes or ()])
    return Choice(ties_drawn(-counts, evidence.seed), columns={"boxes": counts})
