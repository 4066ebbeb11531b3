"""CG-score: how much more complex a function must be that fits the sample too.

Nohyun, Choi and Chung 2023, *Data Valuation Without Training of a Model*.
Shape letters: N samples, n samples of a subset, D features.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from .base import THUMBNAILS, Choice, Evidence, register
from .shared import class_of_each, finite_features, unit

#: A subset has at most so many samples of a class, and as many of the others.
HALF = 1000
#: Over how many draws of subsets a score is averaged.
DRAWS = 3
#: Added to the diagonal, or two like images would leave no inverse.
RIDGE = 1e-6


@register("cg-score", needs=(THUMBNAILS,), one_class=True)
def cg_score(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: yᵀ H⁻¹ y − the same without the sample, averaged over subsets; without training.

    H_ij = c·(π − arccos c) / 2π with c = x_iᵀx_j is the infinite-width Gram matrix of a ReLU layer;
    the difference is (H⁻¹y)_i² / (H⁻¹)_ii, by Schur's complement. Each class stands against the
    others, y = 1 and −1: in subsets of at most 1,000 of it, each with as many of the others, drawn
    three times by the seed; a sample's score is that of its own class. x are the thumbnails, of
    unit length; the paper takes whole images. Costs O(3·N·n²).

    Raises:
        DataError: samples with no class or several.
    """
    classes = class_of_each(evidence.samples, "cg-score")
    # Of unit length in float64 too: near 1 the arccosine magnifies what float32 has lost.
    x = unit(finite_features(evidence, "cg-score", THUMBNAILS).astype(np.float64))
    x = np.hstack([x, ~x.any(axis=1, keepdims=True)])  # images of one colour are like each other
    total = np.zeros(len(x))
    rng = np.random.default_rng(evidence.seed)
    turns = [own for _ in range(DRAWS) for own in np.unique(classes)]
    for own in tqdm(turns, "cg-score", unit=" classes", leave=False, disable=None):
        members, others = np.flatnonzero(classes == own), np.flatnonzero(classes != own)
        parts = -(-len(members) // HALF)
        for part in np.array_split(rng.permutation(members), parts):
            against = rng.choice(others, min(len(part), len(others)), replace=False)
            y = np.repeat([1.0, -1.0], [len(part), len(against)])
            gaps = complexity_gaps(x[np.concatenate([part, against])], y)
            total[part] += gaps[: len(part)]
    return Choice(-total / DRAWS)


def complexity_gaps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) of rows (n, D) of unit length and their (n,) signs."""
    cosine = np.clip(x @ x.T, -1.0, 1.0)
    gram = cosine * (np.pi - np.arccos(cosine)) / (2.0 * np.pi)
    np.fill_diagonal(gram, 0.5 + RIDGE)
    inverse = np.linalg.inv(gram)
    return np.square(inverse @ y) / np.diag(inverse)
