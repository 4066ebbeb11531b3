"""The end to drop: scores and reasons from the columns that one run has saved.

Shape letters: N samples.

A run ranks its samples by its own objective. Whoever knows the data may want another end of them
gone, and needs no other run for it: every function here reads columns of shape (N,) and gives a
score, lower is kept first. The columns are those of :meth:`.pruner.AdaPruner.columns`:
``mean_loss``, ``times_seen`` and ``typical_loss`` (which may be one number for all); from the
objective ``inclusion`` also ``confidence``, ``uncertainty``, ``draw``, ``flagged`` and ``fault``
(fault gate), ``twin_group`` and ``spare`` (neighbours), and ``parts`` where samples differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .equations import pressure

Columns = Mapping[str, np.ndarray]

#: Why a dropped sample went; ``""`` stands for a kept one.
FAULT, TWIN, FEW, EASY, HARD, DRAWN = "fault", "twin", "few", "easy", "hard", "drawn"
UNSEEN = "unseen"
REASONS = {
    FAULT: "the evidence of many visits is against its annotation",
    TWIN: "a near-copy of it stays",
    FEW: "it has fewer objects than most that stay",
    EASY: "the model is surer of it than of the samples that stay",
    HARD: "the model is less sure of it than of the samples that stay",
    DRAWN: "by lot, among samples that would do as well",
    UNSEEN: "its loss was never finite, so that nothing is known of it",
}


def difficulty(columns: Columns) -> np.ndarray:
    """How hard each sample is, (N,): 1 − the mean confidence, or the mean loss over the typical."""
    if "confidence" in columns:
        return 1.0 - columns["confidence"].astype(np.float64)
    return _relative_loss(columns)


def _relative_loss(columns: Columns) -> np.ndarray:
    typical = np.asarray(columns.get("typical_loss", 1.0), dtype=np.float64)
    return columns["mean_loss"].astype(np.float64) / typical


def _faults(columns: Columns) -> np.ndarray:
    """The fault column; without one the loss over the typical, which finds part of the faults."""
    if "fault" in columns:
        return columns["fault"].astype(np.float64)
    return _relative_loss(columns)


def _twins(columns: Columns) -> np.ndarray:
    """Samples whose twin stays go first; among the others, and among these, the lot decides."""
    if "spare" not in columns:
        raise ValueError(
            "nothing is known of twins: the run looked for no near-copies; prune with the "
            "objective 'inclusion', or choose another end"
        )
    return columns["spare"].astype(np.float64) + 0.5 * (1.0 - columns["draw"].astype(np.float64))


_SCORES: dict[str, Callable[[Columns], np.ndarray]] = {
    "easy": lambda columns: -difficulty(columns),
    "hard": difficulty,
    "both": lambda columns: pressure(_relative_loss(columns)),
    "faults": _faults,
    "twins": _twins,
}

#: The ends there are.
ENDS = tuple(_SCORES)


def end_score(end: str, columns: Columns) -> np.ndarray:
    """What orders the samples if ``end`` is to go: (N,) float64, lower is kept first.

    ``easy`` and ``hard`` take one end of :func:`difficulty`, ``both`` the two of L − log L,
    ``faults`` the samples with most evidence against their annotation, ``twins`` near-copies, of
    which one stays. Samples whose loss was never finite are the last to be kept.

    Raises:
        ValueError: an unknown end, or one that needs columns which the run has not saved.
    """
    if end not in _SCORES:
        raise ValueError(f"there is no end {end!r}; there are {', '.join(ENDS)}")
    score = _SCORES[end](columns)
    if "times_seen" in columns:
        score = np.where(columns["times_seen"] > 0, score, np.inf)
    return score


def end_reasons(end: str, columns: Columns, kept: np.ndarray) -> np.ndarray:
    """Why each sample went where ``end`` was dropped: (N,) str, ``""`` for those in ``kept``.

    Args:
        end: as for :func:`end_score`.
        columns: as for :func:`end_score`.
        kept: (N,) bool, cut by that score.
    """
    if end == "both":
        why = np.where(_relative_loss(columns) < 1.0, EASY, HARD)
    elif end == "twins":
        why = np.where(columns["spare"].astype(bool), TWIN, DRAWN)
    elif end == "faults" and "flagged" in columns:
        why = np.where(columns["flagged"], FAULT, HARD)
    else:
        why = np.full(len(kept), {"faults": HARD}.get(end, end))
    return np.where(kept, "", _unseen(columns, why))


def end_missed(end: str, columns: Columns) -> str:
    """A sentence where a run knows of nothing that ``end`` is named after; else empty.

    Args:
        end: as for :func:`end_score`; of any other nothing is said.
        columns: as for :func:`end_score`.
    """
    if end == "twins" and "spare" in columns and not np.count_nonzero(columns["spare"]):
        return "no near-copies were found, so that what goes is drawn by lot"
    if end == "faults" and "flagged" not in columns:
        return "no faults were looked for, so that the highest losses go, faults or not"
    if end == "faults" and not np.count_nonzero(columns["flagged"]):
        return "no faults were found, so that the most doubtful annotations go, right or not"
    return ""


def reasons(columns: Columns, kept: np.ndarray) -> np.ndarray:
    """Why each sample went in a cut by the objective's own order: (N,) str, ``""`` for the kept.

    With the columns of ``inclusion``, in this order: a flagged sample is a *fault*; one of which a
    twin stays is a *twin*; one that an even draw with the same lots would have kept went because
    its chance was small: it has *few* parts, where their number lies further below that of those
    that stay than its uncertainty does, else it is *easy* or *hard* beside their mean confidence;
    the rest were *drawn*. Without them, by the paper's objective, a loss below the typical is
    *easy* and one above it *hard*.

    Args:
        columns: those of one run.
        kept: (N,) bool.
    """
    kept = np.asarray(kept, dtype=bool)
    if "draw" not in columns:
        return end_reasons("both", columns, kept)
    why = np.full(len(kept), DRAWN, dtype="<U5")
    confidence = columns["confidence"].astype(np.float64)
    even = np.zeros(len(kept), dtype=bool)
    even[np.argsort(-columns["draw"], kind="stable")[: np.count_nonzero(kept)]] = True
    side = np.where(confidence > confidence[kept].mean(), EASY, HARD)
    why[even] = np.where(_few(columns, kept), FEW, side)[even]
    if "twin_group" in columns:
        group = columns["twin_group"]
        why[columns["spare"].astype(bool) & np.isin(group, group[kept])] = TWIN
    if "flagged" in columns:
        why[columns["flagged"].astype(bool)] = FAULT
    return np.where(kept, "", _unseen(columns, why))


def _few(columns: Columns, kept: np.ndarray) -> np.ndarray:
    """(N,) bool: whose number of parts makes its chance smaller than its uncertainty does."""
    if "parts" not in columns:
        return np.zeros(len(kept), dtype=bool)
    parts, moves = (columns[name].astype(np.float64) for name in ("parts", "uncertainty"))
    parts, moves = parts / parts[kept].mean(), moves / max(moves[kept].mean(), 1e-12)
    return (parts < 1.0) & (parts < moves)


def _unseen(columns: Columns, why: np.ndarray) -> np.ndarray:
    """``why``, with a reason of its own for samples whose loss was never finite."""
    seen = np.asarray(columns.get("times_seen", 1)) > 0
    return np.where(seen, why, UNSEEN)
