"""EL2N: the length of the error vector early in training.

Paul et al. 2021, *Deep Learning on a Data Diet: Finding Important Examples Early in Training*.
Shape letters: N samples, E epochs.
"""

from __future__ import annotations

from .base import Choice, Evidence, register
from .shared import kept_last, last_visit

#: The paper's epoch, of 200; there the mean over ten trainings is taken, here one is recorded.
EPOCH = 20


@register("el2n", needs=("error_norm",))
def el2n(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: ‖p − onehot(y)‖₂ at epoch 20; of shorter trainings at the last epoch.

    A sample that was not seen in that epoch has its last value before. Costs O(N).
    """
    return Choice(kept_last(-last_visit(evidence.signal("error_norm"), EPOCH)))
