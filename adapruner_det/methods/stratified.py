"""Stratified random selection: the reference where classes matter."""

from __future__ import annotations

import numpy as np

from .base import Choice, Evidence, register
from .shared import by_class, class_of_each


@register("stratified")
def stratified(evidence: Evidence, keep_ratio: float) -> Choice:
    """The same share of each class, drawn without replacement inside; every cut is nested.

    Where the share is no whole number, which classes have one more is drawn. Costs O(N log N).

    Raises:
        DataError: samples with no class or several.
    """
    classes = class_of_each(evidence.samples, "stratified")
    draw = np.random.default_rng(evidence.seed).random(len(classes))
    rank = np.empty(len(classes), dtype=np.int64)
    for own in np.unique(classes):
        members = np.flatnonzero(classes == own)
        rank[members[np.argsort(draw[members], kind="stable")]] = np.arange(len(members))
    # Another seed, or what decides the rest would be drawn already.
    return Choice(by_class(classes, rank, evidence.seed + 1))
