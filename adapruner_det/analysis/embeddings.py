"""t-SNE of features.

Shape letters: N samples, D features.
"""

from __future__ import annotations

import logging

import numpy as np
from openTSNE import TSNE
from sklearn.decomposition import PCA

from ..errors import DataError

logger = logging.getLogger(__name__)

#: t-SNE's own authors reduce to so many dimensions first, which hardly moves neighbours.
PCA_DIMENSIONS = 50

#: Neighbours that count; t-SNE needs three times as many points.
PERPLEXITY = 30.0

#: Of fewer samples there is no embedding.
LEAST = 5


def tsne(features: np.ndarray, seed: int, perplexity: float = PERPLEXITY) -> np.ndarray:
    """(N, 2) float64, without unit: the embedding of features by t-SNE (van der Maaten, 2008).

    Of more than :data:`PCA_DIMENSIONS` features the principal components are embedded. It begins at
    random, as its authors have it: begun from principal components, all seeds would give one layout
    and none would say how much of it is chance. Beyond some thousand samples neighbours are looked
    for by trees (Annoy), beyond ten thousand the forces are interpolated (FIt-SNE, Linderman et
    al., 2019): the time grows with N, and no longer with N·log N. A seed repeats, up to the order
    in which threads add.

    Args:
        features: (N, D) finite.
        seed: of the layout that it begins from, of components and of trees.
        perplexity: lowered to (N − 1) / 3 where there are few points.

    Raises:
        DataError: features that are not finite, none, or of fewer than :data:`LEAST` samples.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not features.shape[1] or not np.isfinite(features).all():
        raise DataError(
            f"features of shape {features.shape} must be (N, D), with D of 1 or more, and finite"
        )
    n, d = features.shape
    if n < LEAST:
        raise DataError(f"{n} samples are too few for t-SNE; it needs {LEAST}")
    if d > PCA_DIMENSIONS and n > PCA_DIMENSIONS:
        features = PCA(PCA_DIMENSIONS, random_state=seed).fit_transform(features)
    most = (n - 1) / 3
    if perplexity > most:
        logger.warning(
            "t-SNE of %d samples has the perplexity %.3g in place of %g", n, most, perplexity
        )
    model = TSNE(
        perplexity=min(perplexity, most), initialization="random", random_state=seed, n_jobs=-1
    )
    return np.array(model.fit(features), dtype=np.float64)
