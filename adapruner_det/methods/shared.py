"""What several methods do alike with classes, boxes, recorded visits, features and orders.

A visit is an epoch in which a sample was seen. Shape letters: N samples, M boxes of all samples, G
boxes of the sample that has most, E epochs, D features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from ..errors import DataError
from ..samples import Samples
from .base import BOX_FEATURES, THUMBNAILS, Evidence, require_one_class


def class_of_each(samples: Samples, method: str) -> np.ndarray:
    """(N,) int64, the one class of each sample.

    Raises:
        DataError: samples of which one has no class or several, with the name of the method.
    """
    require_one_class(method, samples)
    return np.array([own[0] for own in samples.classes], dtype=np.int64)


def sample_of_each_box(samples: Samples) -> np.ndarray:
    """(M,) int64, the index of the sample that each box is in."""
    return np.repeat(np.arange(len(samples)), samples.sizes)


def class_of_each_box(samples: Samples) -> np.ndarray:
    """(M,) int64."""
    return np.array([c for own in samples.classes for c in own], dtype=np.int64)


def sum_of_class_shares(samples: Samples, value: np.ndarray) -> np.ndarray:
    """(N,) sums over the boxes of a sample of the part that each has of its class's ``value``.

    Args:
        samples: N with M boxes.
        value: (M,) of each box, 0 or more.
    """
    classes = class_of_each_box(samples)
    of_class = np.bincount(classes, value)[classes] if len(classes) else np.empty(0)
    share = np.divide(value, of_class, out=np.zeros(len(classes)), where=of_class > 0)
    return np.bincount(sample_of_each_box(samples), share, minlength=len(samples))


def mean_over_boxes(values: np.ndarray, samples: Samples) -> np.ndarray:
    """(N, G), NaN where a sample has no box or it was never seen → (N,) float64.

    A sample without boxes has 0, and one whose boxes were never seen NaN.
    """
    return np.where(samples.sizes == 0, 0.0, mean_of_visits(values.T))


def mean_of_visits(values: np.ndarray) -> np.ndarray:
    """(E, N) → (N,) float64, over the epochs that have a value; NaN where none has."""
    seen = ~np.isnan(values)
    total = np.where(seen, values, 0.0).sum(axis=0, dtype=np.float64)
    count = seen.sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def loss_columns(losses: np.ndarray) -> dict[str, np.ndarray]:
    """``mean_loss`` and ``times_seen``, (N,) each, of the losses (E, N), as a mask has them: both
    are 0 of a sample that was never seen."""
    seen = np.count_nonzero(~np.isnan(losses), axis=0)
    return {
        "mean_loss": np.nan_to_num(mean_of_visits(losses)),
        "times_seen": seen.astype(np.uint16),
    }


def last_visit(values: np.ndarray, epochs: int) -> np.ndarray:
    """(E, N) → (N,), each sample's last value within the first ``epochs``; NaN where none is."""
    found = np.full(values.shape[1], np.nan)
    for epoch in values[:epochs]:
        found = np.where(np.isnan(epoch), found, epoch)
    return found


def windows(values: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Every run of ``width`` epochs of (E, N); of fewer epochs, the one window of all."""
    width = min(width, len(values))
    for start in range(len(values) - width + 1):
        yield values[start : start + width]


def mean_and_spread(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the visits of (E, N): (N,) each.

    The deviation is divided by the number of visits, not by one less: within windows of one width
    that is a common factor, which no order depends on.
    """
    mean = mean_of_visits(window)
    return mean, np.sqrt(mean_of_visits(np.square(window - mean)))


def kept_last(score: np.ndarray) -> np.ndarray:
    """``score``, with those that have none, since they were never seen, behind all others."""
    return np.where(np.isnan(score), np.inf, score)


def places(order: np.ndarray) -> np.ndarray:
    """The place of each sample in ``order``, (N,) indices: (N,) int64. A score, and a rank."""
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order))
    return found


def ties_drawn(score: np.ndarray, seed: int) -> np.ndarray:
    """(N,) places in the order of ``score``, in which equal ones have an order drawn by the seed.

    By index, what stands late in the data set would go.
    """
    return places(np.lexsort((np.random.default_rng(seed).random(len(score)), score)))


def by_class(classes: np.ndarray, rank: np.ndarray, seed: int) -> np.ndarray:
    """A score that takes from every class in proportion to its size, in the order of ``rank``.

    Where classes are alike in size, every cut has as many of each, or one more; which have one
    more is drawn.

    Args:
        classes: (N,).
        rank: (N,), each sample's place within its class, from 0.
        seed: of the draw.
    """
    _, own, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    offset = np.random.default_rng(seed).random(len(sizes))
    return (rank + offset[own]) / sizes[own]


def finite_features(evidence: Evidence, method: str, source: str = "model") -> np.ndarray:
    """(N, D) float32; of ``box_features`` (M, D).

    Raises:
        DataError: a feature that is NaN or infinite, with the sample's key.
    """
    values = np.asarray(evidence.features(source), dtype=np.float32)
    if not (finite := np.isfinite(values).all(axis=1)).all():
        row = int(np.argmin(finite))
        row = int(sample_of_each_box(evidence.samples)[row]) if source == BOX_FEATURES else row
        key = evidence.samples.keys[row]
        whose = "the thumbnail" if source == THUMBNAILS else "the trained model's features"
        raise DataError(
            f"the method {method!r} needs finite features, and {whose} of {key} are not; "
            "where the training diverged, lower the learning rate"
        )
    return values


def unit(rows: np.ndarray) -> np.ndarray:
    """(N, D) rows of unit length; one of zeros stays so."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def clusters(features: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means of (N, D) from one k-means++ start: each sample's cluster (N,), centres (count, D).

    On one thread, since sums of several differ in their last bits from run to run.
    Costs O(N·D·count) an iteration.
    """
    from sklearn.cluster import KMeans  # takes a second to import
    from threadpoolctl import threadpool_limits

    model = KMeans(min(count, len(features)), n_init=1, random_state=seed % 2**32)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer different samples than clusters
        own = model.fit_predict(features)
    return own, model.cluster_centers_
