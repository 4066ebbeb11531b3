"""Near-duplicate thinning: of frames that look alike one stays, whatever a model says of them.

Twins are found among thumbnails, as the mask finds them (:mod:`adapruner_det.core.neighbours`).
Shape letters: N samples, k neighbours of each, D features.
"""

from __future__ import annotations

import numpy as np

from ..core.neighbours import TWIN, Neighbours
from ..neighbours import look_alikes
from .base import THUMBNAILS, Choice, Evidence, register
from .shared import finite_features
from .stratified import stratified_score


@register("thinning", needs=(THUMBNAILS,))
def thinning(evidence: Evidence, keep_ratio: float) -> Choice:
    """Drop spare twins first, those nearest to a twin that stays before others; then by a draw.

    In the order of a class-stratified draw a sample stays unless a twin of it has. Closeness is
    exp(−d² / (0.15·s_i·s_j)), s the distance to the 15th neighbour; twins have 0.5 or more. So a
    cut that is lighter than the share of spare twins drops these alone, and a deeper one is a
    stratified draw of the rest. Costs O(N²·D), with faiss less.
    """
    draw = stratified_score(evidence.samples, evidence.seed)  # in [0, 1)
    features = finite_features(evidence, "thinning", THUMBNAILS)
    if len(features) < 2:
        return Choice(draw, columns={"spare": np.zeros(len(features), dtype=bool)})
    near = look_alikes(features)
    stays = near.twins().representatives(draw)
    score = np.where(stays, draw, 1.0 + nearness(near, stays))
    return Choice(score, columns={"spare": ~stays})


def nearness(near: Neighbours, stays: np.ndarray) -> np.ndarray:
    """(N,) the largest closeness of each sample to one that ``stays`` (N,), in either's list.

    A list holds ten. Of more copies, those that are in no list with the one that stays have the
    largest closeness of the others.
    """
    close = near.closeness
    found = np.zeros(len(stays))
    index = near.index[:, : close.shape[1]]
    np.maximum.at(found, np.arange(len(stays)), np.where(stays[index], close, 0.0).max(axis=1))
    np.maximum.at(found, index[stays].ravel(), close[stays].ravel().astype(np.float64))
    if near.alike is not None:
        largest = np.zeros(len(stays))
        np.maximum.at(largest, near.alike, found)
        found = np.where(~stays & (found < TWIN), largest[near.alike], found)
    return found
