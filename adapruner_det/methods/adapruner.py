"""AdaPruner behind the door for methods.

Yang et al., *Not All Data Matters: An End-to-End Adaptive Dataset Pruning Framework for Enhancing
Model Performance and Efficiency*; the method itself is in :mod:`adapruner_det.core`.
Shape letters: N samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core import AdaPruner, cut, end_reasons, end_score, kept_count, reasons
from ..core.cut import ranks
from ..errors import DataError
from ..selection import Selection
from ..settings import build_pruner
from .base import Choice, Evidence, register


@register("adapruner", per_ratio=True)
def adapruner(evidence: Evidence, keep_ratio: float) -> Choice:
    """Train with a mask over the samples; keep those that it keeps."""
    pruner = build_pruner(
        evidence.options,
        evidence.samples,
        evidence.epochs,
        keep_ratio,
        seed=evidence.seed,
        offered=evidence.offers,
    )
    evidence.train(pruner)
    return choice_of(pruner, evidence.options["DROP"])


def choice_of(pruner: AdaPruner, drop: str = "") -> Choice:
    """What a finished run of ``pruner`` chooses. A collective call where several processes train.

    The score is a sample's place in the order in which samples are kept, and the column ``why``
    says of each dropped one which of :data:`.core.ends.REASONS` sent it away.

    Args:
        pruner: the mask of the run.
        drop: one of :data:`.core.ends.ENDS` that goes in place of what the objective would drop.

    Raises:
        DataError: an end that needs to know what the objective of the run does not.
    """
    columns = {name: column for name, column in pruner.columns().items() if name != "score"}
    kept, score = pruner.select(), pruner.ranks()
    if drop:
        score, kept = _by_end(drop, columns, pruner.keep_ratio)
    columns["why"] = _why(drop, columns, kept)
    parameters = {**pruner.ranking_parameters(), "objective": pruner.objective.name, "drop": drop}
    if not columns["typical_loss"].ndim:
        parameters["typical_loss"] = float(columns.pop("typical_loss"))
    return Choice(score, kept, columns, pruner.status().ratio, parameters)


def drop_end(selection: Selection, drop: str, keep_ratio: float) -> Selection:
    """``selection`` cut anew, so that another end of its samples goes.

    Args:
        selection: of a run of this method.
        drop: one of :data:`.core.ends.ENDS`; empty cuts by the score that the selection has.
        keep_ratio: c_r in (0, 1].

    Raises:
        DataError: a keep ratio outside (0, 1], or columns that the selection does not have.
    """
    found = selection.cut(keep_ratio)
    if drop and "mean_loss" not in selection.columns:
        raise DataError(
            f"the selection by {selection.method!r} has no losses that tell which end to drop; "
            "--drop takes the selection of a pruning run"
        )
    if not drop and "why" not in selection.columns:
        return found
    typical = {"typical_loss": np.array(selection.parameters.get("typical_loss", 1.0))}
    columns = {**typical, **found.columns}
    if drop:
        columns["score"], columns["kept"] = _by_end(drop, columns, keep_ratio)
    # An end that was dropped already stays the reason of what goes.
    why = _why(drop or str(selection.parameters.get("drop", "")), columns, columns["kept"])
    own = {name: columns[name] for name in found.columns}
    return replace(
        found,
        columns={**own, "why": why},
        parameters={**selection.parameters, **({"drop": drop} if drop else {})},
    )


def _by_end(
    drop: str, columns: dict[str, np.ndarray], keep_ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """(score, kept), (N,) each, where ``drop`` goes."""
    try:
        order = end_score(drop, columns)
    except ValueError as error:
        raise DataError(str(error)) from error
    level = np.zeros(len(order))
    return ranks(level, order), cut(level, order, kept_count(len(order), keep_ratio))


def _why(drop: str, columns: dict[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    """(N,) str; empty for those that are kept."""
    return end_reasons(drop, columns, kept) if drop else reasons(columns, kept)
