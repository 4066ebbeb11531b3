"""What the mask costs: time of a step and of an epoch's end, and memory, as N grows.

    python benchmarks/core_cost.py              # up to 1e9 samples: 16 GB of disk, some minutes
    python benchmarks/core_cost.py --most 1e8   # without the billion; nothing is written

Shape letters: N samples, B batch. A step is ``weights(ids)`` and ``observe(ids, losses)`` for ids
drawn uniformly from all N, in the second half of a run, when all parts of the step are active.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.core.mask import Totals

RESULTS = Path(__file__).parent / "results"
EPOCHS, MIDDLE = 30, 20
BYTES = 16  # a sample; tests/core/test_mask.py counts them


def prepared(num_samples: int, directory: str | None = None, fill: bool = True) -> AdaPruner:
    """A mask in the middle of its run, every row of it written where ``fill``."""
    pruner = AdaPruner(num_samples, 0.9, Schedule(0, EPOCHS), directory=directory)
    if fill:
        rng = np.random.default_rng(0)
        for start in range(0, num_samples, 1 << 20):
            rows = slice(start, start + (1 << 20))
            logit = pruner.mask.column("logit")[rows]
            logit[:] = rng.random(len(logit), dtype=np.float32) - 0.1
            pruner.mask.column("mean_loss")[rows] = 1.0 + logit
            pruner.mask.column("last_loss")[rows] = 1.0
            pruner.mask.column("times_seen")[rows] = MIDDLE
        # Nine logits in ten are above 0: the ratio is held.
        pruner.mask.totals.positive, pruner.mask.totals.undecided = round(0.9 * num_samples), 0
    pruner.epoch = MIDDLE
    pruner.mask.recount(pruner.schedule.alpha(MIDDLE))
    return pruner


def step_seconds(pruner: AdaPruner, batch: int, rng: np.random.Generator) -> float:
    """One step. What it moved is put back after the clock has stopped, or a small mask, whose
    samples come up again and again, would set and its steps have less to do."""
    ids = rng.integers(0, pruner.num_samples, size=2 * batch)
    ids = rng.permutation(np.unique(ids))[:batch]
    losses = np.exp(rng.normal(size=batch))
    totals = Totals(**vars(pruner.mask.totals))
    start = time.perf_counter()
    pruner.weights(ids)
    pruner.observe(ids, losses)
    seconds = time.perf_counter() - start
    logit = rng.random(batch) - 0.1
    pruner.mask.write(ids, logit, losses, 1.0 + logit, np.full(batch, MIDDLE))
    pruner.mask.totals = totals
    return seconds


def paired_steps(sizes: list[int], batches: tuple[int, ...], repeats: int) -> list[str]:
    """Steps at every N in turn, so that what else the machine does meets all of them alike."""
    pruners = {n: prepared(n) for n in sizes}
    rng = np.random.default_rng(1)
    lines = [
        "| B | " + " | ".join(f"N = {n:.0e}" for n in sizes) + " | paired ratio | of medians |"
    ]
    lines.append("|---|" + "---|" * (len(sizes) + 2))
    for batch in batches:
        rows = [
            [step_seconds(pruner, batch, rng) for pruner in pruners.values()]
            for _ in range(repeats)
        ]
        times = np.array(rows[repeats // 10 :])
        median = np.median(times, axis=0)
        paired = np.median(times[:, -1] / times[:, 0])
        cells = " | ".join(f"{1e6 * m:.0f} µs" for m in median)
        lines.append(f"| {batch} | {cells} | {paired:.2f} | {median[-1] / median[0]:.2f} |")
    return lines


def epoch_ends(sizes: list[int], repeats: int) -> list[str]:
    """The pass of an epoch's end against a numpy copy of the bytes that it reads, in turn."""
    lines = ["| N | pass | copy() of the logits | ratio | copyto() | ratio |", "|---|" + "---|" * 5]
    for n in sizes:
        pruner, rows = prepared(n), []
        logit = pruner.mask.column("logit")
        target = np.empty_like(logit)
        for _ in range(repeats):
            marks = [time.perf_counter()]
            pruner.mask.recount(3.0)
            marks.append(time.perf_counter())
            logit.copy()
            marks.append(time.perf_counter())
            np.copyto(target, logit)
            marks.append(time.perf_counter())
            rows.append(np.diff(marks))
        times = np.array(rows)
        a, b, c = (f"{1e3 * m:.1f} ms" for m in np.median(times, axis=0))
        ratios = np.median(times[:, :1] / times[:, 1:], axis=0)
        lines.append(f"| {n:.0e} | {a} | {b} | {ratios[0]:.2f} | {c} | {ratios[1]:.2f} |")
    return lines


def memory(field: str) -> float:
    """A field of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def mapped_run(num_samples: int, directory: str, steps: int, batch: int) -> dict[str, float]:
    """Steps and an epoch's end from memory-mapped files; its own process, for its own peaks."""
    torch.set_num_threads(1)
    before = memory("RssAnon")
    pruner = prepared(num_samples, directory, fill=False)
    rng = np.random.default_rng(2)
    start = time.perf_counter()
    times, own = [], before
    for step in range(steps):
        times.append(step_seconds(pruner, batch, rng))
        if step % 500 == 0:
            own = max(own, memory("RssAnon"))
    loop = time.perf_counter() - start
    start = time.perf_counter()
    pruner.end_epoch()
    return {
        "median step": float(np.median(times)),
        "p99": float(np.quantile(times, 0.99)),
        "all steps": loop,
        "epoch end": time.perf_counter() - start,
        "own": max(own, memory("RssAnon")) - before,
        "peak": memory("VmHWM"),
        "ratio": pruner.status().ratio,
    }


def mapped_runs(sizes: list[int], steps: int, batch: int, disk: str) -> dict[int, dict[str, float]]:
    found = {}
    for n in sizes:
        folder = tempfile.TemporaryDirectory(dir=disk)
        with folder as directory, multiprocessing.get_context("spawn").Pool(1) as pool:
            found[n] = pool.apply(mapped_run, (n, directory, steps, batch))
    return found


def mapped_table(runs: dict[int, dict[str, float]], steps: int, batch: int) -> list[str]:
    lines = [f"| N | files | {steps:,} steps of {batch} | median step | 99% | epoch's end |"]
    lines[0] += " peak resident | of it not the files' pages |"
    lines.append("|---|" + "---|" * 7)
    for n, run in runs.items():
        lines.append(
            f"| {n:.0e} | {BYTES * n / 1e9:.3f} GB | {run['all steps']:.1f} s "
            f"| {1e6 * run['median step']:.0f} µs | {1e6 * run['p99']:.0f} µs "
            f"| {run['epoch end']:.3f} s | {run['peak']:.0f} MB | {run['own']:.0f} MB |"
        )
    return lines


def plot(runs: dict[int, dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        "median step (ms)": [1e3 * run["median step"] for run in runs.values()],
        "epoch's end (s)": [run["epoch end"] for run in runs.values()],
        "peak resident memory (MB)": [run["peak"] for run in runs.values()],
    }
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.plot(list(runs), values, "o-")
        axis.set(title=title, xlabel="samples N", xscale="log")
        if "step" not in title:
            axis.set_yscale("log")
        axis.set_ylim(bottom=0 if "step" in title else None)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=1e9, help="largest N of the mapped runs")
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--disk", default=tempfile.gettempdir(), help="where the files are mapped")
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps, batch = 10_000, 1024
    runs = mapped_runs(
        [n for n in (10**6, 10**7, 10**8, 10**9) if n <= args.most], steps, batch, args.disk
    )
    lines = [
        "# What the mask costs",
        "",
        "Made by `python benchmarks/core_cost.py`; one thread, "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. "
        f"{BYTES} bytes a sample.",
        "",
        "## A step, in RAM",
        "",
        *paired_steps([10**4, 10**6, 10**8], (16, 256, 1024), args.repeats),
        "",
        "The last columns are N = 1e8 against N = 1e4. What grows is not work: of 1e4 samples all",
        "rows lie in the cache, of 1e8 each sample of the batch costs two cache misses.",
        "",
        "## An epoch's end, in RAM",
        "",
        *epoch_ends([10**6, 10**7, 10**8], 9),
        "",
        "copy() allocates its target, copyto() writes where memory is already there.",
        "",
        "## From memory-mapped files",
        "",
        *mapped_table(runs, steps, batch),
        "",
        "Resident pages of the files belong to the kernel's cache: it drops them when memory is",
        "short. ![growth](core_cost.png)",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.most >= 1e9:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "core_cost.md").write_text(text)
        plot(runs, RESULTS / "core_cost.png")


if __name__ == "__main__":
    main()
