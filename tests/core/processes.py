"""What test_processes.py runs, `processes.py OUTPUT_DIR`: one run on 1, 2 and 4 processes."""

import multiprocessing
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


def finished(output_dir, rank, world):
    """Train, resume and select; what came of it goes to a file of this rank."""
    pruner = new_pruner()
    weights = train(pruner, 0, 5)
    state = pruner.state_dict()
    pruner = new_pruner()
    pruner.load_state_dict(state)  # resuming, too, is the same on any number of processes
    weights += train(pruner, 5, EPOCHS)
    kept = pruner.select()
    status = pruner.status()
    result = {name: pruner.mask.full_column(name) for name in COLUMNS}
    exchange = pruner.mask.exchange
    owned = len(pruner.mask.column("logit"))
    total = exchange.sum(np.array([weights, owned]))
    # Rank k tells the others k + 1 numbers: k, k + 1, ...; and the tens of them.
    own = np.stack([np.arange(rank + 1) + rank, 10 * (np.arange(rank + 1) + rank)])
    told, mine = exchange.gather(own)
    result |= {
        "cut": kept,
        "typical": pruner.typical_losses(),
        "numbers": [status.ratio, status.multiplier, status.binary_share, status.nonfinite],
        "dual": pruner.state_dict()["duals"]["dual"].numpy(),
        "weights": total[0],
        "owned": [owned, total[1]],
        "told": told,
        "mine": told[:, mine],
        "summed": exchange.sum(np.array([[rank, 1], [10 * rank, 2]])),
    }
    np.savez(Path(output_dir) / f"{world}-{rank}.npz", **result)


def run(rank, world, output_dir):
    """One of ``world`` processes."""
    torch.set_num_threads(1)
    if world > 1:
        store = f"file://{Path(output_dir).resolve()}/store-{world}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    finished(output_dir, rank, world)
    if world > 1:
        dist.destroy_process_group()


def main(output_dir):
    # Forked, so that PyTorch is imported once; torchrun starts those of tests/detection.
    context = multiprocessing.get_context("fork")
    for world in (1, 2, 4):
        group = [context.Process(target=run, args=(r, world, output_dir)) for r in range(world)]
        for process in group:
            process.start()
        for process in group:
            process.join()
        if any(process.exitcode for process in group):
            sys.exit(f"of {world} processes one failed")


if __name__ == "__main__":
    main(sys.argv[1])
