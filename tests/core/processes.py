"""What each process of test_processes.py runs: `torchrun ... processes.py OUTPUT_DIR`."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from adapruner_det.core import AdaPruner, Balance, ClassSets, Exchange, Schedule
from adapruner_det.core.mask import COLUMNS

N, BATCH, EPOCHS, KEEP_RATIO = 101, 20, 9, 0.8


def batches(epoch):
    """The same samples in the same order, however many processes there are."""
    rng = np.random.default_rng(epoch)
    base = np.exp(np.random.default_rng(99).normal(size=N))
    order = np.append(rng.permutation(N), rng.integers(0, N, size=5))  # some repeated
    for start in range(0, len(order), BATCH):
        ids = order[start : start + BATCH]
        losses = base[ids] * np.exp(0.3 * rng.normal(size=len(ids)))
        losses[rng.random(len(ids)) < 0.01] = np.nan
        yield ids, losses


def new_pruner():
    sets = ClassSets.from_sets(([i % 3] for i in range(N)), 3)
    return AdaPruner(
        N,
        KEEP_RATIO,
        Schedule(1, EPOCHS - 1),
        sizes=np.arange(N) % 4,
        balance=Balance(sets),
        exchange=Exchange.default(),
    )


def train(pruner, first, last):
    """Each process takes its consecutive part of every batch; the last batch may leave it none."""
    rank, world = pruner.mask.rank, pruner.mask.world
    weights = []
    for epoch in range(first, last):
        for ids, losses in batches(epoch):
            share = -(-len(ids) // world)
            mine = slice(rank * share, (rank + 1) * share)
            weights.append(pruner.weights(ids[mine]).double().sum().item())
            pruner.observe(ids[mine], torch.from_numpy(losses[mine]))
        pruner.end_epoch()
    return float(np.sum(weights))


def main(output_dir):
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo")
    pruner = new_pruner()
    weights = train(pruner, 0, 5)
    state = pruner.state_dict()
    pruner = new_pruner()
    pruner.load_state_dict(state)  # resuming, too, is the same on any number of processes
    weights += train(pruner, 5, EPOCHS)
    kept = pruner.select()
    status = pruner.status()
    result = {name: pruner.mask.full_column(name) for name in COLUMNS}
    owned = len(pruner.mask.column("logit"))
    world, rank = pruner.mask.world, pruner.mask.rank
    total = pruner.mask.exchange.sum(np.array([weights, owned]))
    result |= {
        "cut": kept,
        "typical": pruner.typical_losses(),
        "numbers": [status.ratio, status.multiplier, status.binary_share, status.nonfinite],
        "dual": pruner.state_dict()["duals"]["dual"].numpy(),
        "weights": total[0],
        "owned": [owned, total[1]],
    }
    np.savez(Path(output_dir) / f"{world}-{rank}.npz", **result)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
