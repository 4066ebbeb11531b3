"""What sharing the mask between processes costs a step, in the two ways there are.

    python benchmarks/core_processes.py

routed: any rank may sample any index; the batch's ids and losses are gathered, every rank computes
the same step and writes the rows it owns. This is what adapruner_det.core does.
own shard: a rank samples only indices it owns and steps alone; two scalars are reduced (the kept
and the undecided count). A rank then ranks its losses among its own N/R samples only.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from adapruner_det.core import AdaPruner, Exchange, Schedule

RESULTS = Path(__file__).parent / "results" / "core_processes.md"
N, STEPS, SCHEDULE = 100_000, 200, Schedule(0, 8)


def work(rank: int, world: int, batch: int, file: str, found: dict[tuple[str, int], float]) -> None:
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


def main() -> None:
    lines = [
        "# What sharing the mask between processes costs",
        "",
        "Made by `python benchmarks/core_processes.py`, which says what the two ways are. Median",
        f"step of rank 0 over {STEPS} steps, gloo, {mp.cpu_count()} cores.",
        "",
        "| B of a rank | ranks | routed | own shard |",
        "|---|---|---|---|",
    ]
    with mp.Manager() as manager:
        for batch in (4, 64):
            for world in (1, 2, 4):
                found = manager.dict()
                with tempfile.TemporaryDirectory() as folder:
                    mp.spawn(work, (world, batch, f"{folder}/store", found), nprocs=world)
                routed, own = found["routed", world], found["own shard", world]
                lines.append(f"| {batch} | {world} | {1e3 * routed:.2f} ms | {1e3 * own:.2f} ms |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
