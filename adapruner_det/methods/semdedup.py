"""SemDeDup: of what looks alike, one.

Abbas et al. 2023, *SemDeDup: Data-efficient Learning at Web-scale through Semantic Deduplication*.
Shape letters: N samples, D features, n samples of a cluster.
"""

from __future__ import annotations

import numpy as np

from .base import FEATURES, Choice, Evidence, register
from .shared import clusters, finite_features, unit

#: Samples a cluster on average; the paper has 8,800 of 440 million.
PER_CLUSTER = 1000


@register("semdedup", needs=(FEATURES,))
def semdedup(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep low: the largest cosine of a sample to an earlier one of its k-means cluster.

    Earlier is what is less alike the cluster's centre. The paper drops what lies above 1 − ε; the
    keep ratio takes the place of ε, which gives the same sets. Features are the trained model's,
    of unit length. Costs O(N·D·N/1000) an iteration, then O(n²·D) a cluster.
    """
    features = unit(finite_features(evidence, "semdedup"))
    own, centres = clusters(features, -(-len(features) // PER_CLUSTER), evidence.seed)
    score = np.empty(len(features))
    for cluster in np.unique(own):
        members = np.flatnonzero(own == cluster)
        score[members] = likeness_to_earlier(features[members], centres[cluster])
    return Choice(score, columns={"cluster": own})


def likeness_to_earlier(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(n,) of one cluster's (n, D) rows of unit length; the first has −1."""
    order = np.argsort(features @ centre, kind="stable")
    ordered = features[order]
    largest = np.full(len(order), -1.0)
    for place in range(1, len(order)):
        largest[order[place]] = (ordered[:place] @ ordered[place]).max()
    return largest
