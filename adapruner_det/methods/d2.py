"""D2: difficulty and diversity, by messages between neighbours.

Maharana et al. 2024, *D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data
Pruning*. Shape letters: N samples, D features, k neighbours.
"""

from __future__ import annotations

import numpy as np

from ..neighbours import neighbours, search_for
from .base import FEATURES, Choice, Evidence, register
from .shared import finite_features, mean_of_visits, places, unit

#: The paper's k and γ, of those that it tries.
NEIGHBOURS, GAMMA = 5, 0.1


@register("d2", needs=(FEATURES, "margin"))
def d2(evidence: Evidence, keep_ratio: float) -> Choice:
    """Greedy argmax of x, where the k nearest of what is chosen lose by it.

    x_i is the difficulty, from 1 of the lowest AUM to 0 of the highest. Each takes in what its 5
    nearest j have, x_i += Σ_j exp(−d_ij)·x_j; whenever i is chosen, each of its 5 nearest loses
    exp(−0.1·d_ij)·x_i. d is Euclidean, in the trained model's features of unit length. A sample
    that was never seen is chosen last. The order serves every ratio. Costs O(N²·D).
    """
    features = unit(finite_features(evidence, "d2"))
    margin = mean_of_visits(evidence.signal("margin"))
    difficulty = (np.nanmax(margin) - margin) / (np.nanmax(margin) - np.nanmin(margin) or 1.0)
    indices, distances = neighbours(features, NEIGHBOURS)
    order = message_order(np.nan_to_num(difficulty), indices, distances)
    unseen = np.isnan(margin[order])
    order = np.concatenate([order[~unseen], order[unseen]])
    return Choice(places(order), parameters={"neighbour_search": search_for(len(order))})


def message_order(difficulty: np.ndarray, indices: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The order in which all are chosen, of (N,) difficulties and (N, k) neighbours: (N,) int64."""
    value = difficulty + (np.exp(-distances) * difficulty[indices]).sum(axis=1)
    lost = np.exp(-GAMMA * distances)
    order = np.empty(len(value), dtype=np.int64)
    for turn in range(len(value)):
        order[turn] = chosen = np.argmax(value)
        value[indices[chosen]] -= lost[chosen] * value[chosen]
        value[chosen] = -np.inf
    return order
