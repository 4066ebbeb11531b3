"""Training sets of the trials of the objectives: small images, clean, mislabelled or repeated.

A seed draws the training set, the wrong labels and the copies. Shape letters: N samples, D numbers
of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from adapruner_det.classification.image_set import ImageSet
from adapruner_det.classification.packed import load_packed
from adapruner_det.errors import DataError

CONDITIONS = ("clean", "wrong", "twins")
WRONG = 0.15
SOURCES = 0.1  # of the N samples, this many have near-copies, which make up half of the set

#: Images (n, D) float32 and labels (n,) int64, of which seeds draw, and those of the test set.
Pool = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """How one data set is trained on."""

    num_train: int
    epochs: int
    batch: int
    hidden: int
    side: int


SETTINGS = {
    "digits": Setting(num_train=1200, epochs=100, batch=32, hidden=64, side=8),
    "mnist": Setting(num_train=3000, epochs=60, batch=64, hidden=64, side=14),
    "cifar10": Setting(num_train=3000, epochs=60, batch=64, hidden=64, side=8),
}


@dataclass
class Data:
    """One training set: images (N, D) float32, labels (N,), and what was done to it."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    wrong: np.ndarray  # (N,) bool
    source: np.ndarray  # (N,) what a sample is a near-copy of; its own index otherwise


def load_pool(name: str, root: Path | None) -> Pool:
    """What seeds draw their training sets from, and the test set.

    Raises:
        DataError: no folder of a data set that needs one, or what reading it raises.
    """
    side = SETTINGS[name].side
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = (images[order] / 16.0).astype(np.float32), labels[order]
        return images[:1297], labels[:1297], images[1297:], labels[1297:]
    if root is None:
        raise DataError(f"{name} is read from a folder: give it as --root")
    train, test = load_packed(root)
    images, tests = _shrunk(train, side), _shrunk(test, side)
    if name == "cifar10":
        mean, std = images.mean(0), images.std(0)
        images, tests = (images - mean) / std, (tests - mean) / std
    return images, train.labels.numpy(), tests, test.labels.numpy()


def _shrunk(data: ImageSet, side: int) -> np.ndarray:
    """(n, side·side·channels) float32 in [0, 1], by averaging blocks."""
    images = np.asarray(data.images).transpose(0, 2, 3, 1)
    block = images.shape[1] // side
    blocks = images.reshape(len(images), side, block, side, block, -1)
    return (blocks.mean((2, 4)) / 255.0).reshape(len(images), -1).astype(np.float32)


def make_data(name: str, pool: Pool, condition: str, seed: int) -> Data:
    """The training set of a seed in a condition."""
    images, labels, test_images, test_labels = pool
    n = SETTINGS[name].num_train
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    chosen = np.random.default_rng(seed).permutation(len(images))[:n]
    x, y = images[chosen].copy(), labels[chosen].astype(np.int64)
    wrong, source = np.zeros(n, dtype=bool), np.arange(n)
    if condition == "wrong":
        wrong[rng.permutation(n)[: round(WRONG * n)]] = True
        y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    if condition == "twins":
        order = rng.permutation(n)
        copies, sources = order[: n // 2], order[n // 2 : n // 2 + round(SOURCES * n)]
        source[copies] = rng.choice(sources, len(copies))
        noise = 0.05 * images.std() * rng.normal(size=(len(copies), x.shape[1]))
        bright = 1.0 + 0.05 * rng.normal(size=(len(copies), 1))
        x[copies] = bright * x[source[copies]] + noise
        y[copies] = y[source[copies]]
    return Data(
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(y),
        torch.from_numpy(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        wrong,
        source,
    )
