"""Prototypes: far from the centres of k-means, or near them. BNSL in AdaPruner's paper.

Sorscher et al. 2022, *Beyond Neural Scaling Laws: Beating Power Law Scaling via Data Pruning*.
Shape letters: N samples, D features, C classes.
"""

from __future__ import annotations

import numpy as np

from .base import FEATURES, Choice, Evidence, register
from .shared import clusters, finite_features, unit


@register("prototypes", needs=(FEATURES,))
def prototypes(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high, the hard: 1 − cosine of a sample and the nearest centre of its k-means cluster.

    There are as many clusters as classes. The paper takes the features of a self-supervised model;
    a task has none, so they are the trained model's, of unit length. Costs O(N·D·C) an iteration.
    """
    distance, own = prototype_distance(evidence, "prototypes")
    return Choice(-distance, columns={"cluster": own})


@register("prototypes-easy", needs=(FEATURES,))
def prototypes_easy(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep low: as ``prototypes``, from the other end, which the paper advises for few data."""
    distance, own = prototype_distance(evidence, "prototypes-easy")
    return Choice(distance, columns={"cluster": own})


def prototype_distance(evidence: Evidence, method: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) cosine distances in [0, 2], and (N,) clusters."""
    features = unit(finite_features(evidence, method))
    count = len({one for own in evidence.samples.classes for one in own}) or 1
    own, centres = clusters(features, count, evidence.seed)
    return 1.0 - (features * unit(centres)[own]).sum(axis=1), own
