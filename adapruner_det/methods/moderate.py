"""Moderate: neither the typical of a class nor the odd.

Xia et al. 2023, *Moderate Coreset: A Universal Method of Data Selection for Real-world
Data-efficient Deep Learning*. Shape letters: N samples, D features.
"""

from __future__ import annotations

import numpy as np

from .base import FEATURES, Choice, Evidence, register
from .shared import class_of_each, finite_features


@register("moderate", needs=(FEATURES,), one_class=True)
def moderate(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep low: |d_i − median of d|, d the distance of a sample to the mean of its class.

    Distances are Euclidean, in the trained model's features as they are; the median is over all
    samples. Costs O(N·D).

    Raises:
        DataError: samples with no class or several.
    """
    classes = class_of_each(evidence.samples, "moderate")
    features = finite_features(evidence, "moderate").astype(np.float64)
    distance = np.empty(len(classes))
    for own in np.unique(classes):
        members = classes == own
        centre = features[members].mean(axis=0)
        distance[members] = np.linalg.norm(features[members] - centre, axis=1)
    return Choice(np.abs(distance - np.median(distance)), columns={"centre_distance": distance})
