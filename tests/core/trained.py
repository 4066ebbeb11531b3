"""A mask that is trained on given losses, and compared with another one."""

import numpy as np

from adapruner_det.core.mask import COLUMNS


def columns(pruner):
    return {name: pruner.mask.column(name).copy() for name in COLUMNS}


def assert_same(pruner, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(pruner.mask.column(name), other.mask.column(name), name)
    assert pruner.status() == other.status()


def train(pruner, losses, epochs, batch=16, seed=0):
    """Visit every sample once an epoch, in a new order."""
    rng = np.random.default_rng(seed)
    n = pruner.num_samples
    for _ in range(epochs):
        order = rng.permutation(n)
        for start in range(0, n, batch):
            ids = order[start : start + batch]
            pruner.observe(ids, losses[ids])
        pruner.end_epoch()
