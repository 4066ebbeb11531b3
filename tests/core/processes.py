"""What test_processes.py runs, `processes.py OUTPUT_DIR`: one run on 1, 2 and 4 processes."""

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from adapruner_det.core import (
    AdaPruner,
    Balance,
    ClassSets,
    Exchange,
    Inclusion,
    Neighbours,
    Schedule,
)
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


def new_inclusion():
    """With all terms on: twins are 2i and 2i + 1 below 20; see signals() for the faults."""
    points = np.random.default_rng(3).normal(size=(N, 6))
    points[1:20:2] = points[0:20:2]
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :15]
    near = Neighbours(index, np.take_along_axis(distance, index, axis=1))
    objective = Inclusion(np.arange(N), 5, KEEP_RATIO, EPOCHS, neighbours=near)
    schedule = Schedule(1, EPOCHS - 1)
    return AdaPruner(N, KEEP_RATIO, schedule, objective=objective, exchange=Exchange.default())


def signals(pruner, ids, losses):
    if not pruner.signals:
        return {}
    q = np.exp(-np.nan_to_num(losses, nan=1.0))
    return {"confidence": q, "fault": np.where(ids % 9 == 0, 0.9, 0.5 * (1 - q))}


def train(pruner, first, last):
    """Each process takes its consecutive part of every batch; the last batch may leave it none."""
    rank, world = pruner.mask.rank, pruner.mask.world
    weights = []
    for epoch in range(first, last):
        for ids, losses in batches(epoch):
            share = -(-len(ids) // world)
            mine = slice(rank * share, (rank + 1) * share)
            weights.append(pruner.weights(ids[mine]).double().sum().item())
            told = signals(pruner, ids[mine], losses[mine])
            pruner.observe(ids[mine], torch.from_numpy(losses[mine]), **told)
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


def finished_inclusion(output_dir, rank, world):
    """The same with the objective that draws."""
    pruner = new_inclusion()
    train(pruner, 0, 6)
    state = pruner.state_dict()
    pruner = new_inclusion()
    pruner.load_state_dict(state)
    train(pruner, 6, EPOCHS)
    result = {name: pruner.mask.full_column(name) for name in (*pruner.mask.saved, "draw")}
    result |= pruner.columns() | {
        "cut": pruner.select(),
        "known": list(state["objective"]["state"].values()),
    }
    np.savez(Path(output_dir) / f"inclusion-{world}-{rank}.npz", **result)


def run(rank, world, output_dir):
    """One of ``world`` processes."""
    torch.set_num_threads(1)
    if world > 1:
        store = f"file://{Path(output_dir).resolve()}/store-{world}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    finished(output_dir, rank, world)
    finished_inclusion(output_dir, rank, world)
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
