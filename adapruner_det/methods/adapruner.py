"""AdaPruner behind the door for methods.

Yang et al., *Not All Data Matters: An End-to-End Adaptive Dataset Pruning Framework for Enhancing
Model Performance and Efficiency*; the method itself is in :mod:`adapruner_det.core`.
Shape letters: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..core import AdaPruner, cut, end_reasons, end_score, kept_count, reasons
from ..core.cut import ranks
from ..core.ends import DRAWN
from ..errors import DataError
from ..samples import Samples
from ..selection import UNSETTLED, Selection
from ..settings import AUTO, PRUNER_OPTIONS, build_pruner
from .auto import DRAW, OWN, Verdict, candidates, decide
from .base import THUMBNAILS, Choice, Evidence, register
from .stratified import stratified_score

#: The column in which a selection keeps the order of the run's objective where ``score``, by which
#: it is cut, is of an end that was dropped in its place.
OWN_SCORE = "own_score"

#: The column, and the reason, of samples that go first because a list names them.
SUSPECT = "suspect"

#: The column that says what a person changed, ``kept`` or ``dropped``, else empty; and the reason
#: of what was sent away.
OVERRULED = "overruled"


def _wants(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The thumbnails, where near-copies are looked for: so that a grid reads the images once."""
    return (THUMBNAILS,) if options.get("OBJECTIVE") == "inclusion" else ()


def _check(options: Mapping[str, Any], samples: Samples, epochs: int, keep_ratio: float) -> None:
    """A mask of these options can be made; near-copies are not looked for."""
    build_pruner(options, samples, epochs, keep_ratio, look=False)


@register("adapruner", per_ratio=True, options=PRUNER_OPTIONS, wants=_wants, check=_check)
def adapruner(evidence: Evidence, keep_ratio: float) -> Choice:
    """Train with a mask over the samples; keep those that it keeps."""
    looks = THUMBNAILS in evidence.offers and THUMBNAILS in _wants(evidence.options)
    pruner = build_pruner(
        evidence.options,
        evidence.samples,
        evidence.epochs,
        keep_ratio,
        seed=evidence.seed,
        offered=evidence.offers,
        thumbs=evidence.features(THUMBNAILS) if looks else None,
    )
    evidence.train(pruner)
    drop = evidence.options["DROP"]
    if drop != AUTO:
        return choice_of(pruner, drop)
    choice = choice_of(pruner)
    columns = _with_typical(choice.columns, choice.parameters)
    found = settle(columns, choice.score, evidence, keep_ratio)
    return replace(
        choice,
        score=found.score,
        kept=found.kept,
        columns={**choice.columns, "why": found.why, OWN_SCORE: choice.score},
        parameters={**choice.parameters, "drop": AUTO, **found.verdict.parameters()},
    )


class Settled(NamedTuple):
    """What :func:`settle` found: the verdict, and what it makes of the samples, (N,) each."""

    verdict: Verdict
    score: np.ndarray
    kept: np.ndarray
    why: np.ndarray


def settle(
    columns: Mapping[str, np.ndarray], own: np.ndarray, evidence: Evidence, keep_ratio: float
) -> Settled:
    """Which end of the samples of a run goes, found out on samples that are held out.

    Args:
        columns: of the run, ``typical_loss`` among them.
        own: (N,) the score by the run's objective.
        evidence: trains and evaluates.
        keep_ratio: c_r in (0, 1].

    Raises:
        DataError: what :func:`.auto.decide` raises.
    """
    scores = candidates(columns, own)
    seed, samples = evidence.seed, evidence.samples
    verdict = decide(scores, samples, keep_ratio, seed, evidence.respond)
    taken = verdict.taken
    score = stratified_score(samples, seed) if taken == DRAW else scores[taken]
    level = np.zeros(len(score))
    kept = cut(level, score, kept_count(len(score), keep_ratio))
    return Settled(verdict, ranks(level, score), kept, _why(taken, columns, kept))


def choice_of(pruner: AdaPruner, drop: str = "") -> Choice:
    """What a finished run of ``pruner`` chooses. A collective call where several processes train.

    The score is a sample's place in the order in which samples are kept, and the column ``why``
    says of each dropped one which of :data:`.core.ends.REASONS` sent it away.

    Args:
        pruner: the mask of the run.
        drop: one of :data:`.core.ends.ENDS` that goes in place of what the objective would drop;
            of ``auto``, which takes trainings, the objective's own is what there is before them.

    Raises:
        DataError: an end that needs to know what the objective of the run does not.
    """
    waits = drop == AUTO
    if waits:
        drop = ""
    columns = {name: column for name, column in pruner.columns().items() if name != "score"}
    kept, score = pruner.select(), pruner.ranks()
    if drop:
        columns[OWN_SCORE] = score
        score, kept = _by_end(drop, columns, pruner.keep_ratio)
    columns["why"] = _why(drop, columns, kept)
    parameters = {**pruner.ranking_parameters(), "objective": pruner.objective.name, "drop": drop}
    if waits:
        parameters[UNSETTLED] = True
    # Sums over several processes differ in their last bits.
    parameters["epoch_losses"] = [float(f"{loss:.6g}") for loss in pruner.epoch_losses]
    if not columns["typical_loss"].ndim:
        parameters["typical_loss"] = float(columns.pop("typical_loss"))
    return Choice(score, kept, columns, pruner.status().ratio, parameters)


def drop_end(selection: Selection, drop: str, keep_ratio: float) -> Selection:
    """``selection`` cut anew, so that another end of its samples goes.

    Args:
        selection: of a run of this method; with an empty ``drop`` of any.
        drop: one of :data:`.core.ends.ENDS`; empty cuts by the score that the selection has.
        keep_ratio: c_r in (0, 1].

    Raises:
        DataError: a keep ratio outside (0, 1], columns that the selection does not have, or an end
            in place of what a person has said.
    """
    found = selection.cut(keep_ratio)
    if drop:
        _require_losses(selection)
    elif "why" not in selection.columns:
        return found
    elif "mean_loss" not in selection.columns:  # of another method, which alone knows its reasons
        kept = found.columns["kept"]
        why = _said(np.where(kept, "", selection.columns["why"]), selection.columns, kept)
        return replace(found, columns={**found.columns, "why": why})
    columns = _with_typical(found.columns, selection.parameters)
    if drop:
        columns["score"], columns["kept"] = _by_end(drop, columns, keep_ratio)
    # An end that was dropped already stays the reason of what goes.
    before = str(selection.parameters.get("drop", ""))
    if before == AUTO:
        before = str(selection.parameters.get("auto", OWN))
    why = _why(drop or before, columns, columns["kept"])
    own = {name: columns[name] for name in found.columns}
    if drop and not before:
        own[OWN_SCORE] = selection.columns["score"]
    return replace(
        found,
        columns={**own, "why": why},
        parameters={**_settled(selection), "drop": drop} if drop else selection.parameters,
    )


def suspects_first(selection: Selection, place: np.ndarray) -> Selection:
    """``selection`` in another order: the samples of a list go first, the others as they did.

    As many stay as before. Later cuts hold to it, and give ``suspect`` as the reason.

    Args:
        selection: of any method.
        place: (N,) whole numbers, the place in the list from 1; 0 of samples that are not on it.

    Raises:
        DataError: a selection that a person has overruled.
    """
    _require_not_said(selection)
    columns, listed = selection.columns, place > 0
    # What was kept as a set, whatever its score, stays ahead of what was not.
    level = np.where(listed, -1.0, columns["kept"].astype(np.float64))
    score = ranks(level, np.where(listed, -place, columns["score"]))
    new = {
        "score": score,
        "kept": cut(np.zeros(len(score)), score, selection.num_kept),
        OWN_SCORE: columns.get(OWN_SCORE, columns["score"]),
        SUSPECT: listed,
    }
    parameters = {**selection.parameters, "suspects": int(listed.sum())}
    return replace(selection, columns={**columns, **new}, parameters=parameters)


def settle_selection(
    selection: Selection, evidence: Evidence, keep_ratio: float
) -> tuple[Selection, Verdict]:
    """``selection`` cut anew as :func:`settle` finds, and the verdict.

    Args:
        selection: of a run of this method, on the samples of ``evidence``.
        evidence: trains and evaluates.
        keep_ratio: c_r in (0, 1].

    Raises:
        DataError: a selection of other samples, without losses or without its objective's order,
            one that a person has overruled, or too few samples.
    """
    _require_losses(selection)
    selection.check(evidence.samples.keys, evidence.samples.digests)
    found = selection.cut(keep_ratio)
    columns = _with_typical(selection.columns, selection.parameters)
    own = _own_score(selection)
    verdict, score, kept, why = settle(columns, own, evidence, keep_ratio)
    new = {"score": score, "kept": kept, "why": why, OWN_SCORE: own}
    chosen = replace(
        found,
        columns={**found.columns, **new},
        parameters={**_settled(selection), "drop": AUTO, **verdict.parameters()},
    )
    return chosen, verdict


def _settled(selection: Selection) -> dict[str, Any]:
    """The parameters of a selection of which it is known which end goes."""
    return {name: own for name, own in selection.parameters.items() if name != UNSETTLED}


def _own_score(selection: Selection) -> np.ndarray:
    """(N,) the order of the run's objective, whatever end was dropped since."""
    if OWN_SCORE in selection.columns:
        return selection.columns[OWN_SCORE]
    if dropped := selection.parameters.get("drop"):
        raise DataError(
            f"the selection has lost the order of its objective when {dropped!r} was dropped: give "
            "the run's own selection, or prune anew"
        )
    return selection.columns["score"]


def _require_not_said(selection: Selection) -> None:
    """Raise a DataError where a person or a list has said what goes."""
    if OVERRULED in selection.parameters:
        raise DataError(
            "a person has overruled the selection, which another end to drop would undo: drop that "
            "end of the run's own selection, and overrule what comes of it"
        )
    if SUSPECT in selection.columns:
        raise DataError(
            "a list of suspects went first in the selection, which another end to drop would undo: "
            "give the run's own selection, with the end and the list at once"
        )


def _require_losses(selection: Selection) -> None:
    _require_not_said(selection)
    if "mean_loss" not in selection.columns:
        raise DataError(
            f"the selection by {selection.method!r} has no losses that tell which end to drop; "
            "--drop takes the selection of a pruning run"
        )


def _with_typical(
    columns: Mapping[str, np.ndarray], parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """``columns`` with ``typical_loss``, which is a parameter where one number is for all."""
    return {"typical_loss": np.array(parameters.get("typical_loss", 1.0)), **columns}


def _by_end(
    drop: str, columns: Mapping[str, np.ndarray], keep_ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """(score, kept), (N,) each, where ``drop`` goes."""
    try:
        order = end_score(drop, columns)
    except ValueError as error:
        raise DataError(str(error)) from error
    level = np.zeros(len(order))
    return ranks(level, order), cut(level, order, kept_count(len(order), keep_ratio))


def _why(drop: str, columns: Mapping[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    """(N,) str, empty for those that are kept, where ``drop`` or what ``auto`` took has gone."""
    if drop == DRAW:
        why = np.where(kept, "", DRAWN)
    else:
        why = reasons(columns, kept) if drop in ("", OWN) else end_reasons(drop, columns, kept)
    return _said(why, columns, kept)


def _said(why: np.ndarray, columns: Mapping[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    """(N,) str, ``why`` where neither a list nor a person sent a sample away."""
    listed = columns.get(SUSPECT, np.zeros(len(kept), dtype=bool))
    sent_away = columns.get(OVERRULED, np.zeros(len(kept), dtype="<U7")) == "dropped"
    why = np.where(listed & ~kept, SUSPECT, why)
    return np.where(sent_away & ~kept, OVERRULED, why)
