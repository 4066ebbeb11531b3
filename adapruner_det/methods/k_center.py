"""k-Center: no sample is far from a kept one.

Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*.
Shape letters: N samples, D features.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from .base import FEATURES, Choice, Evidence, register
from .shared import finite_features, places


@register("k-center", needs=(FEATURES,))
def k_center(evidence: Evidence, keep_ratio: float) -> Choice:
    """Greedy: next is the sample farthest from its nearest kept one, argmax_i min_j ‖x_i − x_j‖₂.

    x are the trained model's features as they are; the first sample is drawn by the seed. The
    order serves every ratio. Costs O(N²·D).
    """
    features = finite_features(evidence, "k-center")
    first = int(np.random.default_rng(evidence.seed).integers(len(features)))
    return Choice(places(farthest_first(features, first)))


def farthest_first(features: np.ndarray, first: int) -> np.ndarray:
    """All of (N, D) in the order in which they are taken, from ``first`` on: (N,) int64."""
    x = features - features.mean(axis=0)  # small numbers lose less when they cancel
    square = np.square(x).sum(axis=1)
    distance = np.full(len(x), np.inf, dtype=x.dtype)
    order = np.empty(len(x), dtype=np.int64)
    order[0] = first
    turns = range(1, len(x))
    for turn in tqdm(turns, "k-center", unit=" samples", leave=False, disable=None):
        chosen = order[turn - 1]
        np.minimum(distance, square + square[chosen] - 2.0 * (x @ x[chosen]), out=distance)
        distance[chosen] = -np.inf
        order[turn] = np.argmax(distance)
    return order
