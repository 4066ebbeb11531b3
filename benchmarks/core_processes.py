"""What sharing the mask between processes costs a step, in the two ways there are.

    python benchmarks/core_processes.py

routed: any rank may sample any index; the batch's ids and losses are gathered, every rank computes
the same step and writes the rows it owns. This is what adapruner_det.core does.
own shard: a rank samples only indices it owns and steps alone; two scalars are reduced (the kept
and the undecided count). A rank then ranks its losses among its own N/R samples only.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from adapruner_det.core import AdaPruner, Exchange, Schedule

RESULTS = Path(__file__).parent / "results" / "core_processes.md"
N, STEPS, SCHEDULE = 100_000, 200, Schedule(0, 8)
BATCHES, WORLDS, WAYS = (4, 64), (1, 2, 4), ("routed", "own shard")


def work(
    rank: int, world: int, batch: int, file: str, found: MutableMapping[tuple[str, int], float]
) -> None:
    """Steps of one rank in both ways; rank 0 writes the median seconds of each into ``found``."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    pruners = {
        "routed": AdaPruner(N, 0.9, SCHEDULE, exchange=Exchange.default()),
        "own shard": AdaPruner(N // world, 0.9, SCHEDULE),
    }
    rng = np.random.default_rng(rank)
    for name, pruner in pruners.items():
        pruner.epoch = 5
        times = []
        for _ in range(STEPS):
            ids = rng.integers(0, pruner.num_samples, size=batch)
            losses = np.exp(rng.normal(size=batch))
            start = time.perf_counter()
            pruner.weights(ids)
            pruner.observe(ids, losses)
            if name == "own shard" and world > 1:
                dist.all_reduce(torch.zeros(2, dtype=torch.float64))
            times.append(time.perf_counter() - start)
        if rank == 0:
            found[name, world] = float(np.median(times[STEPS // 10 :]))
    if world > 1:
        dist.destroy_process_group()


def page(found: dict[tuple[int, int, str], float]) -> str:
    """Of (batch of a rank, ranks, way) → seconds of a step."""
    lines = [
        "# What sharing the mask between processes costs",
        "",
        "Made by `python benchmarks/core_processes.py`, which says what the two ways are. Median",
        f"step of rank 0 over {STEPS} steps, gloo, {mp.cpu_count()} cores.",
        "",
        "| B of a rank | ranks | routed | own shard |",
        "|---|---|---|---|",
    ]
    for batch, world in dict.fromkeys(place[:2] for place in found):
        routed, own = (1e3 * found[batch, world, way] for way in WAYS)
        lines.append(f"| {batch} | {world} | {routed:.2f} ms | {own:.2f} ms |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    found = {}
    with mp.Manager() as manager:
        for batch, world in itertools.product(BATCHES, WORLDS):
            own = manager.dict()
            with tempfile.TemporaryDirectory() as folder:
                mp.spawn(work, (world, batch, f"{folder}/store", own), nprocs=world)
            found |= {(batch, world, way): own[way, world] for way in WAYS}
    text = page(found)
    print(text)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
