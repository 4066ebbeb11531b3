"""Folds of samples that are held out in turn, near-copies always in one.

What is judged by a model that was not trained on it must not have a copy in what it was trained on:
of a video, a random half tells how well the other half was learnt by heart. Shape letters: N
samples, K folds.
"""

from __future__ import annotations

import numpy as np

from .neighbours import can_compare, look_alikes, thumbnails
from .samples import Samples


def near_copies(samples: Samples) -> np.ndarray:
    """(N,) int64: a number that near-copies share, by their thumbnails; else a sample's own index.

    Of samples whose images cannot be read one by one none is a copy.

    Raises:
        DataError: what reading an image raises.
    """
    if not can_compare(samples):
        return np.arange(len(samples))
    return look_alikes(thumbnails(samples)).twins().group


def assign_folds(group: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(N,) int64: the fold of each sample, at random, those of a group in one fold.

    The largest group goes first, each to the fold that has the fewest samples (Graham 1969), so
    without groups sizes differ by one. A group of more than N/K samples, as a still camera gives,
    is cut into runs of successive ones. scikit-learn's GroupKFold does as much but for the seed;
    its order of groups of one size hangs on the processor.

    Args:
        group: (N,) a number that the members of a group share.
        folds: K, from 2 to N.
        seed: of the order.

    Raises:
        ValueError: folds outside 2 to N.
    """
    if not 2 <= folds <= len(group):
        raise ValueError(f"{folds} folds of {len(group)} samples")
    place = np.random.default_rng([seed, folds]).permutation(len(group))
    units = [run for own in _members(group) for run in _runs(own, len(group) // folds)]
    units.sort(key=lambda unit: (-len(unit), place[unit[0]]))
    found, filled = np.empty(len(group), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for unit in units:
        fold = int(filled.argmin())
        found[unit] = fold
        filled[fold] += len(unit)
    return found


def _members(group: np.ndarray) -> list[np.ndarray]:
    """The indices of each group, rising."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _runs(members: np.ndarray, most: int) -> list[np.ndarray]:
    """``members`` in as few runs as are of ``most`` or fewer."""
    return np.array_split(members, -(-len(members) // most))
