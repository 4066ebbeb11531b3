"""Small perceptrons, many trained side by side, with masks or a recorder in their trainings.

Shape letters: N samples, E epochs, C classes, M models side by side, B samples of a batch, D
numbers of an image.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapruner_det.core import AdaPruner

sys.path.insert(0, str(Path(__file__).parent))

from objective_data import Data, Setting  # noqa: E402


class Recorder:
    """Stands in a training as a mask does and changes nothing: what a plain run shows, (E, N).

    ``label`` is p of the given label at each visit, ``other`` that of the best other class.
    """

    signals = frozenset({"confidence", "fault"})

    def __init__(self, epochs: int, num_samples: int) -> None:
        self.label, self.other = np.zeros((2, epochs, num_samples), dtype=np.float16)
        self._epoch = 0

    def weights(self, ids: np.ndarray) -> Tensor:
        return torch.ones(len(ids))

    def observe(self, ids: np.ndarray, losses: Tensor, confidence: Tensor, fault: Tensor) -> None:
        self.label[self._epoch, ids] = confidence
        self.other[self._epoch, ids] = 2.0 * fault - 1.0 + confidence

    def end_epoch(self) -> None:
        self._epoch += 1


def train(
    setting: Setting,
    data: Data,
    seed: int,
    parts: np.ndarray,
    guides: Sequence[Recorder | AdaPruner] = (),
) -> tuple[Tensor, Tensor]:
    """Train M perceptrons side by side, on parts of equal size.

    One step of M small models costs far less than M steps. All have the same initial weights and
    the same order of batches.

    Args:
        setting: how to train.
        data: what to train on.
        seed: of weights and batches.
        parts: (M, N) bool.
        guides: M of them, one a model, where each part is all samples.

    Returns:
        Accuracy on the test set in percent, and the last epoch's mean training loss; (M,) each.
    """
    rows = torch.from_numpy(np.stack([np.flatnonzero(kept) for kept in parts]))
    count, n = rows.shape
    weights = _weights((data.images.shape[1], setting.hidden, setting.hidden, 10), count, seed)
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)
    steps = max(1, n // setting.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.epochs * steps)
    total = torch.zeros(count)
    for epoch in range(setting.epochs):
        rng = np.random.default_rng([seed, epoch])
        total.zero_()
        for ids in np.array_split(rng.permutation(n), steps):
            batch = rows[:, torch.from_numpy(ids)]
            labels = data.labels[batch]
            logits = _forward(weights, data.images[batch])
            losses = functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="none"
            ).view(count, -1)
            weighted = losses
            if guides:
                weighted = losses * torch.stack([guide.weights(ids) for guide in guides])
            optimizer.zero_grad()
            weighted.mean(1).sum().backward()
            optimizer.step()
            schedule.step()
            _tell(guides, ids, losses.detach(), logits.detach(), labels)
            total += losses.detach().sum(1) / n
        for guide in guides:
            guide.end_epoch()
    right = torch.zeros(count)
    with torch.no_grad():
        for x, y in zip(data.test_images.split(500), data.test_labels.split(500), strict=True):
            right += (_forward(weights, x.expand(count, *x.shape)).argmax(2) == y).sum(1)
    return 100.0 * right / len(data.test_labels), total


def _weights(sizes: Sequence[int], count: int, seed: int) -> list[Tensor]:
    """Weights and biases of ``count`` equal perceptrons, (count, in, out) and (count, 1, out)."""
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return [
        tensor.detach().expand(count, *tensor.shape).clone().requires_grad_()
        for layer in layers
        for tensor in (layer.weight.T, layer.bias[None])
    ]


def _forward(weights: list[Tensor], x: Tensor) -> Tensor:
    """Logits (M, B, C) of inputs (M, B, D)."""
    for k in range(0, len(weights), 2):
        x = torch.baddbmm(weights[k + 1], x, weights[k])
        x = x if k == len(weights) - 2 else x.relu()
    return x


def _tell(
    guides: Sequence[Recorder | AdaPruner],
    ids: np.ndarray,
    losses: Tensor,
    logits: Tensor,
    labels: Tensor,
) -> None:
    """Let each of M guides observe its model's batch: losses (M, B), logits (M, B, C)."""
    if not guides:
        return
    p = logits.softmax(2)
    label = p.gather(2, labels[..., None])[..., 0]
    other = p.scatter(2, labels[..., None], 0.0).amax(2)
    known = {"confidence": label, "fault": (1.0 - label + other) / 2.0}
    for k, guide in enumerate(guides):
        guide.observe(ids, losses[k], **{name: known[name][k] for name in guide.signals})
