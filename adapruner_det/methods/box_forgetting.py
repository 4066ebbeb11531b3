"""Forgetting on matches: how often a training unlearns the boxes of an image.

Toneva et al. 2019, *An Empirical Study of Example Forgetting during Deep Neural Network Learning*,
counts the falls of a sample from right to wrong; here the boxes of an image take the place of the
samples. Shape letters: N samples, G boxes of the sample that has most, E epochs.
"""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .forgetting import forgetting_events
from .shared import kept_last, mean_over_boxes, ties_drawn

#: A box is learnt where the prediction that fits it best overlaps it so far, and has at least this
#: confidence in its class, below which Detectron2 takes nothing for a detection.
OVERLAP, CONFIDENT = 0.5, 0.05


@register("box-forgetting", needs=("box_iou", "box_confidence"), epochs=2)
def box_forgetting(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: the mean over an image's boxes of Σ_t [learnt at t and not at t+1].

    A box that is never learnt counts E, more than there can be. Over epochs in which a box was not
    seen its last state stands. An image without boxes has 0: there is nothing to forget. The mean,
    for a sum would rank crowded images. Which of equal ones stay is drawn. A training of one epoch
    is refused. Costs O(E·N·G).
    """
    iou = evidence.signal("box_iou")
    confidence = evidence.signal("box_confidence")
    learnt = np.where(np.isnan(iou), np.nan, (iou >= OVERLAP) & (confidence >= CONFIDENT))
    events = forgetting_events(learnt.reshape(len(learnt), -1)).reshape(learnt.shape[1:])
    mean = mean_over_boxes(np.minimum(events, len(learnt)), evidence.samples)
    score = ties_drawn(kept_last(-mean), evidence.seed)
    return Choice(score, columns={"forgetting_events": mean})
