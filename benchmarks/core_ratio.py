"""The guarantee, cell by cell: does the mask settle at the keep ratio it was asked for?

    python benchmarks/core_ratio.py            # all cells; some 22 minutes on two cores
    python benchmarks/core_ratio.py --quick    # N = 100 only

Every cell is a run over synthetic losses with the default settings, one warm-up epoch and then 8,
30 or 100 pruning epochs in which every sample is visited once, in a new order each epoch. A cell
passes where, before the final cut and in every seed, |r − c_r| <= 0.02 and at least 98% of the
entries are binary, and the cut keeps exactly round(c_r·N). Shape letters: N samples, B batch.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapruner_det.core import AdaPruner, Schedule, kept_count

RESULTS = Path(__file__).parent / "results" / "core_ratio.md"
KEEP_RATIOS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
EPOCHS = {100: (8, 30, 100), 10_000: (8, 30, 100), 1_000_000: (8, 30)}
BATCH = {100: 16, 10_000: 256, 1_000_000: 4096}
SEEDS = {100: 5, 10_000: 1, 1_000_000: 1}
TOLERANCE, BINARY = 0.02, 0.98

#: Losses of a batch: (ids (B,), time in the run 0 to 1) -> (B,) float64.
Stream = Callable[[np.ndarray, float], np.ndarray]

STREAMS = {
    "log-normal": "per sample log-normal (σ = 1), and 30% noise a visit",
    "bimodal": "0.1 for seven samples in ten, 3 for the others, no noise at all",
    "bimodal, noisy": "0.05 or 3, half and half, and 5% noise",
    "heavy-tailed": "log-normal with noise; 1e6 for 0.5% of the samples and for 0.1% of visits",
    "nearly constant": "1 ± 0.001, per sample, no noise",
    "nearly constant, noise": "1 ± 0.001, independent at every visit",
    "drifting down": "log-normal with noise, falling to 1/20 over the run",
    "drifting far down": "log-normal with noise, falling to 1/1100 over the run",
    "zeros": "log-normal with noise; exactly 0 for three samples in ten",
    "zeros by visit": "log-normal; exactly 0 at every second visit, at random",
    "noise": "log-normal, independent at every visit: no sample differs from another",
    "all equal": "0.7 for every sample, always: nothing to rank",
}


def make_stream(kind: str, num_samples: int, rng: np.random.Generator) -> Stream:
    """The stream called ``kind``, one of STREAMS; it goes on drawing from ``rng``."""
    base = np.exp(rng.normal(size=num_samples))
    mode = rng.random(num_samples)

    def noise(ids: np.ndarray, scale: float = 0.3) -> np.ndarray:
        return np.exp(scale * rng.normal(size=len(ids)))

    def heavy(ids: np.ndarray, t: float) -> np.ndarray:
        usual = np.where(mode[ids] < 0.005, 1e6, base[ids] * noise(ids))
        return np.where(rng.random(len(ids)) < 0.001, 1e6, usual)

    streams: dict[str, Stream] = {
        "log-normal": lambda ids, t: base[ids] * noise(ids),
        "bimodal": lambda ids, t: np.where(mode[ids] < 0.7, 0.1, 3.0),
        "bimodal, noisy": lambda ids, t: np.where(mode[ids] < 0.5, 0.05, 3.0) * noise(ids, 0.05),
        "heavy-tailed": heavy,
        "nearly constant": lambda ids, t: 1.0 + 1e-3 * np.log(base[ids]),
        "nearly constant, noise": lambda ids, t: 1.0 + 1e-3 * rng.normal(size=len(ids)),
        "drifting down": lambda ids, t: base[ids] * noise(ids) * np.exp(-3.0 * t),
        "drifting far down": lambda ids, t: base[ids] * noise(ids) * np.exp(-7.0 * t),
        "zeros": lambda ids, t: np.where(mode[ids] < 0.3, 0.0, base[ids] * noise(ids)),
        "zeros by visit": lambda ids, t: base[ids] * (rng.random(len(ids)) < 0.5),
        "noise": lambda ids, t: noise(ids, 1.0),
        "all equal": lambda ids, t: np.full(len(ids), 0.7),
    }
    return streams[kind]


@dataclass(frozen=True)
class Cell:
    """One run: a stream, N, B, pruning epochs, c_r, a seed."""

    stream: str
    num_samples: int
    batch: int
    epochs: int
    keep_ratio: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended before its cut: r − c_r, the binary share; and whether the cut was exact."""

    error: float
    binary: float
    exact: bool

    @property
    def passed(self) -> bool:
        return abs(self.error) <= TOLERANCE and self.binary >= BINARY and self.exact


def run_cell(cell: Cell) -> Outcome:
    """Run a cell with the default settings."""
    rng = np.random.default_rng(cell.seed)
    stream = make_stream(cell.stream, cell.num_samples, rng)
    n, total = cell.num_samples, cell.epochs + 1
    pruner = AdaPruner(n, cell.keep_ratio, Schedule(1, cell.epochs))
    for epoch in range(total):
        order = rng.permutation(n)
        for start in range(0, n, cell.batch):
            ids = order[start : start + cell.batch]
            pruner.observe(ids, stream(ids, (epoch + start / n) / total))
        status = pruner.end_epoch()
    exact = np.count_nonzero(pruner.select()) == kept_count(n, cell.keep_ratio)
    return Outcome(status.ratio - cell.keep_ratio, status.binary_share, bool(exact))


def all_cells(sizes: list[int]) -> Iterator[Cell]:
    for n in sizes:
        for epochs in EPOCHS[n]:
            for stream in STREAMS:
                for keep_ratio in KEEP_RATIOS:
                    for seed in range(SEEDS[n]):
                        yield Cell(stream, n, BATCH[n], epochs, keep_ratio, seed)


def table(outcomes: dict[Cell, Outcome], num_samples: int, epochs: int) -> list[str]:
    """A row a stream, a column a keep ratio: worst |r − c_r| in points / least binary share."""
    lines = ["| stream | " + " | ".join(f"{r:g}" for r in KEEP_RATIOS) + " |"]
    lines.append("|---|" + "---|" * len(KEEP_RATIOS))
    for stream in STREAMS:
        texts = []
        for keep_ratio in KEEP_RATIOS:
            found = [
                o
                for c, o in outcomes.items()
                if (c.stream, c.num_samples, c.epochs, c.keep_ratio)
                == (stream, num_samples, epochs, keep_ratio)
            ]
            worst = 100 * max(abs(o.error) for o in found)
            text = f"{worst:.2f} / {100 * min(o.binary for o in found):.1f}"
            failed = sum(not o.passed for o in found)
            texts.append(f"**{text}** ({failed} of {len(found)} fail)" if failed else text)
        lines.append(f"| {stream} | " + " | ".join(texts) + " |")
    return lines


def report(outcomes: dict[Cell, Outcome], sizes: list[int], seconds: float) -> str:
    failed = [c for c, o in outcomes.items() if not o.passed]
    inexact = sum(not o.exact for o in outcomes.values())
    lines = [
        "# The kept ratio before the final cut",
        "",
        "Made by `python benchmarks/core_ratio.py`, which says what a cell is. Each entry is the",
        "worst |r − c_r| in points / the least share of binary entries in percent, over the seeds.",
        "",
        f"Of {len(outcomes)} runs {len(failed)} fail; {inexact} cuts are not exact. "
        f"{seconds / 60:.0f} minutes.",
        "",
        "| stream | losses |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in STREAMS.items()),
    ]
    for n in sizes:
        for epochs in EPOCHS[n]:
            head = f"## N = {n:,}, {epochs} epochs"
            lines += ["", f"{head} (batches of {BATCH[n]:,}, seeds: {SEEDS[n]})", ""]
            lines += table(outcomes, n, epochs)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--quick", action="store_true", help="N = 100 only, nothing is written")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    sizes = [100] if args.quick else args.sizes
    start = time.perf_counter()
    cells = list(all_cells(sizes))
    spawn = multiprocessing.get_context("spawn")
    quiet = {"initializer": logging.disable, "initargs": (logging.WARNING,)}  # the table says it
    with ProcessPoolExecutor(args.jobs, spawn, **quiet) as pool:
        outcomes = dict(zip(cells, pool.map(run_cell, cells, chunksize=8), strict=True))
    text = report(outcomes, sizes, time.perf_counter() - start)
    print(text)
    if sizes == list(EPOCHS):
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
