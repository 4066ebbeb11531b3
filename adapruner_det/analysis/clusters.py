"""How far classes lie apart, and how wide they are: the numbers of the paper's Figure 3.

A cluster is the points of one class. The paper's text gives the Dunn index (its Eq. 8) and, in
words, the other four; what it leaves open is decided here, each where it is computed.
Shape letters: N points, D dimensions, C clusters, P pairs of adjacent clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist, squareform

from ..errors import DataError

_BLOCK = 1 << 24  # distances at a time: 128 MiB


@dataclass(frozen=True)
class Geometry:
    """Of C clusters. All but the Dunn index are lengths in the unit of the points.

    Attributes:
        dunn: min over pairs of clusters of their single linkage, over max of their spreads (Eq. 8).
        centre_distance: mean distance of the centres of adjacent clusters.
        single_linkage: mean over adjacent clusters of the distance of their two nearest points.
        radius: mean over clusters of the largest distance of a point to its cluster's centre.
        spread: mean over clusters of the mean distance of all pairs of its points, which is what
            the paper's Δ is; it speaks of it as the intra-distance.
        num_points: N.
        num_adjacent: P.
    """

    dunn: float
    centre_distance: float
    single_linkage: float
    radius: float
    spread: float
    num_points: int
    num_adjacent: int


def geometry(points: np.ndarray, labels: np.ndarray) -> Geometry:
    """The geometry of classes.

    It takes O(N²·D) operations, and memory for a block of distances.

    Args:
        points: (N, D) finite.
        labels: (N,) the class of each.

    Raises:
        DataError: fewer than two classes, none with two points or two places, or points that are
            not finite.
    """
    points, labels = np.asarray(points, dtype=np.float64), np.asarray(labels)
    if points.ndim != 2 or labels.shape != points.shape[:1]:
        raise DataError(
            f"points of shape {points.shape} and labels of shape {labels.shape} do not fit; they "
            "must be (N, D) and (N,)"
        )
    if not np.isfinite(points).all():
        raise DataError("points that are not finite have no distances; see how they were made")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f"there is one class, {classes.tolist()}; clusters need two to lie apart")
    clusters = [points[labels == own] for own in classes]
    centres = np.stack([cluster.mean(axis=0) for cluster in clusters])
    spreads = np.array([mean_pair_distance(cluster) for cluster in clusters])
    if not spreads.max() > 0:
        raise DataError("no class has two points in different places, so none has a width")
    linkage = single_linkages(clusters)
    pairs = adjacent_pairs(centres)
    i, j = pairs.T
    return Geometry(
        dunn=float(linkage[np.triu_indices(len(classes), 1)].min() / spreads.max()),
        centre_distance=float(np.linalg.norm(centres[i] - centres[j], axis=1).mean()),
        single_linkage=float(linkage[i, j].mean()),
        radius=float(np.mean([_radius(*pair) for pair in zip(clusters, centres, strict=True)])),
        spread=float(spreads.mean()),
        num_points=len(points),
        num_adjacent=len(pairs),
    )


def adjacent_pairs(centres: np.ndarray) -> np.ndarray:
    """(P, 2) places i < j of clusters that are neighbours, sorted; P ≥ C − 1.

    The paper speaks of adjacent clusters and does not say which are. Here two are where no third
    centre lies in the ball that has theirs at the ends of a diameter: Gabriel's graph, which in the
    plane is a part of Delaunay's triangulation, connects all centres, and is defined in any D.

    Args:
        centres: (C, D).
    """
    squares = squareform(pdist(centres, "sqeuclidean"))
    count = len(centres)
    found = []
    for i in range(count):
        for j in range(i + 1, count):
            others = np.delete(np.arange(count), (i, j))
            # k is within the ball where the angle at k is obtuse.
            if np.all(squares[i, others] + squares[j, others] >= squares[i, j]):
                found.append((i, j))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def single_linkages(clusters: Sequence[np.ndarray]) -> np.ndarray:
    """(C, C) symmetric, the distance of the two nearest points of each two clusters; 0 within one.

    Args:
        clusters: C arrays (n, D).
    """
    count = len(clusters)
    found = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            blocks = _distances(clusters[i], clusters[j])
            found[i, j] = found[j, i] = min(float(block.min()) for block in blocks)
    return found


def mean_pair_distance(cluster: np.ndarray) -> float:
    """Mean distance of all pairs of different points; 0 for a single point, which has none.

    Args:
        cluster: (n, D).
    """
    n = len(cluster)
    if n < 2:
        return 0.0
    return sum(float(block.sum()) for block in _distances(cluster, cluster)) / (n * (n - 1))


def _radius(cluster: np.ndarray, centre: np.ndarray) -> float:
    return float(np.linalg.norm(cluster - centre, axis=1).max())


def _distances(one: np.ndarray, two: np.ndarray) -> Iterator[np.ndarray]:
    """The distances of all points of ``one`` to all of ``two``, some rows at a time."""
    rows = max(_BLOCK // len(two), 1)
    for start in range(0, len(one), rows):
        yield cdist(one[start : start + rows], two)
