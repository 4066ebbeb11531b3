"""What a run of samples shows, and the objective ``inclusion`` on it."""

import numpy as np

from adapruner_det.core import AdaPruner, Inclusion, Schedule
from adapruner_det.core.neighbours import Neighbours


def digests(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def twin_pairs(n, pairs):
    """Neighbours of n samples of which 2i and 2i + 1 are exact copies, for i below ``pairs``."""
    rng = np.random.default_rng(5)
    points = rng.normal(size=(n, 8))
    points[1 : 2 * pairs : 2] = points[0 : 2 * pairs : 2]
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :15]
    return Neighbours(index, np.take_along_axis(distance, index, axis=1))


class Stream:
    """What a run of E epochs shows: (E, N) losses, confidences and fault signals."""

    def __init__(self, n, epochs, seed=0, wrong=0):
        rng = np.random.default_rng(seed)
        ease = 0.45 + 0.5 * rng.beta(2, 1, n)
        ease[:wrong] = 0.05
        noise = 0.1 * rng.normal(size=(epochs, n))
        self.confidence = np.clip(ease + noise, 0.01, 0.99)
        self.losses = -np.log(self.confidence)
        other = np.where(np.arange(n) < wrong, 0.9, 0.5) * (1.0 - self.confidence)
        self.fault = (1.0 - self.confidence + other) / 2.0


def inclusion(n, keep_ratio=0.7, epochs=20, **options):
    return Inclusion(digests(n), 3, keep_ratio, epochs, **options)


def new(n, keep_ratio=0.7, epochs=20, pruner=None, **options):
    objective = inclusion(n, keep_ratio, epochs, **options)
    schedule = Schedule(5, epochs - 5)
    return AdaPruner(
        n, keep_ratio, schedule, objective=objective, normalize="none", **(pruner or {})
    )


def train(pruner, stream, first=0, last=None, batch=16, signals=("confidence", "fault")):
    n = pruner.num_samples
    for epoch in range(first, last or pruner.schedule.epochs):
        order = np.random.default_rng(epoch).permutation(n)
        for start in range(0, n, batch):
            ids = order[start : start + batch]
            given = {name: getattr(stream, name)[epoch, ids] for name in signals}
            pruner.observe(ids, stream.losses[epoch, ids], **given)
        pruner.end_epoch()
    return pruner
