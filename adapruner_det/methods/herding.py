"""Herding: a kept mean that follows the class mean.

Welling 2009, *Herding Dynamical Weights to Learn*; Rebuffi et al. 2017, *iCaRL: Incremental
Classifier and Representation Learning*. Shape letters: n samples of a class, D features.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from .base import FEATURES, Choice, Evidence, register
from .shared import by_class, class_of_each, finite_features, places


@register("herding", needs=(FEATURES,), one_class=True)
def herding(evidence: Evidence, keep_ratio: float) -> Choice:
    """Greedy in each class: next is what brings the mean of the kept nearest to the class mean.

    argmin_i ‖μ − (x_i + Σ_kept x_j) / k‖₂ with the trained model's features x as they are and k
    the number kept with i. Every cut takes from each class in proportion to its size.
    Costs O(n²·D) a class.

    Raises:
        DataError: samples with no class or several.
    """
    classes = class_of_each(evidence.samples, "herding")
    features = finite_features(evidence, "herding")
    rank = np.empty(len(classes), dtype=np.int64)
    each = np.unique(classes)
    for own in tqdm(each, "herding", unit=" classes", leave=False, disable=None):
        members = np.flatnonzero(classes == own)
        rank[members] = places(herding_order(features[members]))
    return Choice(by_class(classes, rank, evidence.seed))


def herding_order(features: np.ndarray) -> np.ndarray:
    """The order in which the samples of one class, (n, D), are taken: (n,) int64."""
    # About the class mean the target is 0, so the distance is that of the sum: |x|² + 2·x·Σ.
    x = features - features.mean(axis=0, dtype=np.float64).astype(features.dtype)
    distance = np.square(x, dtype=np.float64).sum(axis=1)
    order = np.empty(len(x), dtype=np.int64)
    for turn in range(len(x)):
        order[turn] = chosen = np.argmin(distance)
        distance += 2.0 * (x @ x[chosen])
        distance[chosen] = np.inf
    return order
