"""Stratified selection where samples have several classes: each class keeps its share of images.

Sechidis, Tsoumakas and Vlahavas 2011, *On the Stratification of Multi-label Data*. Shape letters: N
samples, C classes, P parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import Choice, Evidence, register

#: P: of keep ratios that are tenths every cut is of whole parts.
PARTS = 10


@register("iterative-stratified")
def iterative_stratified(evidence: Evidence, keep_ratio: float) -> Choice:
    """Ten parts that are alike in all classes, one after the other; every cut is nested.

    The images are dealt out class by class, the one of which fewest are left first: each goes to
    the part that lacks most of that class, of such the one that lacks most images, of such to a
    drawn one. What has no class is dealt out last. Inside a part the order is drawn.
    ``stratified`` counts an image for its rarest class alone, so common classes may be off by more;
    with one class a sample there is little between them. Costs O(N·C·P).
    """
    part = parts(evidence.samples.classes, PARTS, evidence.seed)
    # Which part comes first is drawn already: what decides between equal ones is.
    score = part + np.random.default_rng([evidence.seed, PARTS]).random(len(part))
    return Choice(score, columns={"part": part})


def parts(classes: Sequence[Sequence[int]], count: int, seed: int) -> np.ndarray:
    """(N,) int64, the part of 0..count−1 that each sample is dealt to.

    Args:
        classes: of each sample; one that is there twice counts once.
        count: P.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    own = [sorted(set(each)) for each in classes]
    open_ = {c: {i for i, each in enumerate(own) if c in each} for c in sorted(set().union(*own))}
    lacking = {c: np.full(count, len(members) / count) for c, members in open_.items()}
    room, found = np.full(count, len(own) / count), np.full(len(own), -1, dtype=np.int64)

    def deal(sample: int, wanting: np.ndarray) -> None:
        best = np.flatnonzero(wanting == wanting.max())
        best = best[room[best] == room[best].max()]
        part = int(rng.choice(best))
        found[sample] = part
        room[part] -= 1
        for c in own[sample]:
            lacking[c][part] -= 1
            open_[c].discard(sample)

    while rest := {c: len(members) for c, members in open_.items() if members}:
        rarest = min(rest, key=lambda c: (rest[c], c))
        for sample in rng.permutation(sorted(open_[rarest])):
            deal(int(sample), lacking[rarest])
    for sample in rng.permutation(np.flatnonzero(found < 0)):
        deal(int(sample), room)
    return found
