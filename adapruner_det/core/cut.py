"""The final cut: exactly so many samples, by one total order that serves every keep ratio."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .equations import pressure


def kept_count(num_samples: int, keep_ratio: float) -> int:
    """round(c_r·N), and never less than one sample."""
    return max(1, round(keep_ratio * num_samples))


def cut(logit: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Keep the ``count`` first samples: larger logit, then smaller score, then smaller index.

    The order is total, so smaller counts give subsets of larger ones, and since indices follow
    the sorted keys the same columns give the same set everywhere.

    Args:
        logit: (N,) logits.
        score: (N,) what orders samples whose logits are equal; lower is kept first.
        count: K in [0, N].

    Returns:
        (N,) bool with exactly ``count`` true.

    Raises:
        ValueError: a count outside [0, N], shapes that differ, or a NaN, which has no order.
    """
    if logit.shape != score.shape:
        raise ValueError(f"logits have shape {logit.shape}, scores {score.shape}; they must agree")
    if not 0 <= count <= len(logit):
        raise ValueError(f"cannot keep {count} of {len(logit)} samples")
    for name, column in (("logit", logit), ("score", score)):
        if np.isnan(column).any():
            raise ValueError(f"the {name} of sample {int(np.isnan(column).argmax())} is NaN")
    if count == 0:
        return np.zeros(len(logit), dtype=bool)
    # Partition instead of sorting N rows: only those at the threshold need the full order.
    threshold = np.partition(logit, len(logit) - count)[len(logit) - count]
    kept = logit > threshold
    tied = np.flatnonzero(logit == threshold)
    order = np.lexsort((tied, score[tied]))
    kept[tied[order[: count - np.count_nonzero(kept)]]] = True
    return kept


def cut_order(logit: np.ndarray, score: np.ndarray) -> np.ndarray:
    """All indices in the order in which :func:`cut` keeps them, (N,). Costs O(N log N)."""
    return np.lexsort((np.arange(len(logit)), score, -logit))


def ranks(logit: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Each sample's place in the order in which :func:`cut` keeps them, from 0: (N,) int64."""
    places = np.empty(len(logit), dtype=np.int64)
    places[cut_order(logit, score)] = np.arange(len(logit))
    return places


def ranking(
    logit: np.ndarray,
    mean_loss: np.ndarray,
    typical: np.ndarray,
    times_seen: np.ndarray | None,
    terms: Mapping[str, bool],
) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`cut` orders samples by.

    Where no loss was ever finite the logit still is what it started as, which would put the sample
    before all that the losses push out. It is −∞ here: such samples are kept last of all.

    Args:
        logit: (N,) logits.
        mean_loss: (N,) finite, 0 or more.
        typical: (N,) or (), above 0: what mean losses are divided by.
        times_seen: (N,) how often each sample had a finite loss; None if that is not known.
        terms: the switches of :func:`.objective.pressure`.

    Returns:
        (logit, score), (N,) each and without NaN.
    """
    with np.errstate(over="ignore"):  # the largest loss there is, by a small one
        loss = mean_loss / typical
    score = pressure(np.minimum(loss, np.finfo(loss.dtype).max), **terms)
    return (logit if times_seen is None else np.where(times_seen > 0, logit, -np.inf)), score
