"""AdaPruner behind the door for methods.

Yang et al., *Not All Data Matters: An End-to-End Adaptive Dataset Pruning Framework for Enhancing
Model Performance and Efficiency*; the method itself is in :mod:`adapruner_det.core`.
Shape letters: N samples.
"""

from __future__ import annotations

from ..core import AdaPruner
from ..settings import build_pruner
from .base import Choice, Evidence, register


@register("adapruner", per_ratio=True)
def adapruner(evidence: Evidence, keep_ratio: float) -> Choice:
    """Train with a mask over the samples; keep those that it keeps."""
    pruner = build_pruner(evidence.options, evidence.samples, evidence.epochs, keep_ratio)
    evidence.train(pruner)
    return choice_of(pruner)


def choice_of(pruner: AdaPruner) -> Choice:
    """What a finished run of ``pruner`` chooses. A collective call where several processes train.

    The score is a sample's place in the order in which the mask keeps samples.
    """
    kept = pruner.select()
    columns = {name: column for name, column in pruner.columns().items() if name != "score"}
    parameters = pruner.ranking_parameters()
    if not columns["typical_loss"].ndim:
        parameters["typical_loss"] = float(columns.pop("typical_loss"))
    return Choice(pruner.ranks(), kept, columns, pruner.status().ratio, parameters)
