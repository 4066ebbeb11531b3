"""GraNd: the norm of the loss's gradient early in training.

Paul et al. 2021, *Deep Learning on a Data Diet: Finding Important Examples Early in Training*.
Shape letters: N samples, E epochs.
"""

from __future__ import annotations

from .base import Choice, Evidence, register
from .shared import kept_last, last_visit

#: Early: the weights of the first epochs move so fast that a sample's place in the order of an
#: epoch decides its norm. The paper averages over ten initialisations, here one is recorded.
EPOCH = 10


@register("grand", needs=("gradient_norm",))
def grand(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: ‖∇ loss‖₂ at epoch 10; of shorter trainings at the last epoch.

    The gradient is that by the last layer, ‖p − onehot(y)‖₂ · ‖(h, 1)‖₂ with the layer's input h,
    which is exact; the paper's is by all weights. A sample that was not seen in that epoch has its
    last value before. Costs O(N).
    """
    return Choice(kept_last(-last_visit(evidence.signal("gradient_norm"), EPOCH)))
