"""Stratified random selection: the reference where classes matter."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..samples import Samples
from .base import Choice, Evidence, register
from .shared import by_class


@register("stratified")
def stratified(evidence: Evidence, keep_ratio: float) -> Choice:
    """The same share of each class, drawn without replacement inside; every cut is nested.

    Where the share is no whole number, which classes have one more is drawn. A sample of several
    classes counts as one of the rarest of them, one without any is of a class of its own;
    ``iterative-stratified`` looks at all. Costs O(N log N).
    """
    return Choice(stratified_score(evidence.samples, evidence.seed))


def stratified_score(samples: Samples, seed: int) -> np.ndarray:
    """(N,) of such a draw, lower is kept first."""
    classes = rarest_class(samples)
    draw = np.random.default_rng(seed).random(len(classes))
    rank = np.empty(len(classes), dtype=np.int64)
    for own in np.unique(classes):
        members = np.flatnonzero(classes == own)
        rank[members[np.argsort(draw[members], kind="stable")]] = np.arange(len(members))
    # Another seed, or what decides the rest would be drawn already.
    return by_class(classes, rank, seed + 1)


def rarest_class(samples: Samples) -> np.ndarray:
    """(N,) int64: of each sample's classes the one that fewest samples have, the lower of equal
    ones; −1 for a sample without any."""
    of_each = [sorted(set(own)) for own in samples.classes]
    counts = Counter(c for own in of_each for c in own)
    return np.array([min(own, key=lambda c: (counts[c], c), default=-1) for own in of_each])
