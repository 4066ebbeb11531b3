"""How far a keep ratio cut from another ratio's run is from a run made for it.

    python benchmarks/core_cuts.py    # a few minutes

On scikit-learn's handwritten digits (1,797 images, 8×8): a quarter is the test set, split anew for
each seed. A small MLP prunes the training part with its own cross-entropy losses; the kept images
then train the same MLP from scratch, as many epochs. Nothing is chosen on the test set.
Shape letters: N training images, B batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from adapruner_det.core import AdaPruner, Schedule, kept_count
from adapruner_det.experiment.tables import spread
from adapruner_det.samples import digest
from adapruner_det.selection import Selection

RESULTS = Path(__file__).parent / "results" / "core_cuts.md"
RUN_RATIO, RATIOS = 0.8, (0.95, 0.9, 0.8, 0.7, 0.5)
SEEDS, WARMUP, EPOCHS, BATCH = 5, 5, 30, 32


def train(images: Tensor, labels: Tensor, seed: int, pruner: AdaPruner | None = None) -> nn.Module:
    """An MLP on all of ``images`` (N, 64); under ``pruner`` its losses move the mask."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(EPOCHS):
        for ids in torch.randperm(len(images)).split(BATCH):
            losses = nn.functional.cross_entropy(model(images[ids]), labels[ids], reduction="none")
            weights = 1.0 if pruner is None else pruner.weights(ids)
            optimizer.zero_grad()
            (weights * losses).mean().backward()
            optimizer.step()
            if pruner is not None:
                pruner.observe(ids, losses)
        if pruner is not None:
            pruner.end_epoch()
    return model


def prune(images: Tensor, labels: Tensor, seed: int, keep_ratio: float) -> Selection:
    """What a run keeps; a cut of it is by the order in which the run keeps them."""
    pruner = AdaPruner(len(images), keep_ratio, Schedule(WARMUP, EPOCHS - WARMUP), normalize="none")
    train(images, labels, seed, pruner)
    keys = [f"digits/{i:04d}" for i in range(len(images))]
    columns = {
        "key": np.array(keys),
        "digest": np.array([digest(key) for key in keys], dtype=np.uint64),
        "kept": pruner.select(),
        "score": pruner.ranks(),
    }
    return Selection("adapruner", keep_ratio, seed, {}, columns)


def one_seed(seed: int) -> dict[tuple[str, float], float]:
    """(what, keep ratio) -> percent, of one split, one order and one initialisation."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    train_x, test_x, train_y, test_y = map(torch.from_numpy, parts)

    def accuracy(kept: np.ndarray) -> float:
        rows = torch.from_numpy(kept)
        model = train(train_x[rows], train_y[rows], seed + 100)
        with torch.no_grad():
            return 100 * (model(test_x).argmax(1) == test_y).double().mean().item()

    n = len(train_x)
    found = {("full", 1.0): accuracy(np.ones(n, dtype=bool))}
    base = prune(train_x, train_y, seed, RUN_RATIO)
    rng = np.random.default_rng(seed)
    for ratio in RATIOS:
        count = kept_count(n, ratio)
        cut = base.cut(ratio).columns["kept"]
        made = prune(train_x, train_y, seed, ratio).columns["kept"]
        again = prune(train_x, train_y, seed + 50, ratio).columns["kept"]
        chance = rng.permutation(n) < count
        for name, other in (("cut", cut), ("again", again)):
            found[f"{name} overlap", ratio] = overlap(made, other)
        for name, kept in (("cut", cut), ("made", made), ("random", chance)):
            found[f"{name} accuracy", ratio] = accuracy(kept)
    return found


def overlap(made: np.ndarray, other: np.ndarray) -> float:
    """How much of what one selection drops another drops too, in percent; (N,) bool of the kept."""
    return 100 * float(np.mean(~other[~made]))


def page(seeds: list[dict[tuple[str, float], float]]) -> str:
    """Mean and standard deviation over what :func:`one_seed` found."""

    def text(what: str, ratio: float) -> str:
        return spread([found[what, ratio] for found in seeds])

    lines = [
        "# Ratios cut from one run against runs made for them",
        "",
        "Made by `python benchmarks/core_cuts.py`, which says what is trained. All are cut from",
        f"runs made for {RUN_RATIO:g}. Mean ± standard deviation over {len(seeds)} seeds, "
        "in percent.",
        "",
        "Of the images that a run made for the ratio drops, how many the cut drops too; beside",
        "it how many a second such run, of another seed, drops too, and how many chance would.",
        "(The cut is from a run of the same seed, so it shares initialisation and order.)",
        "",
        "| keep ratio | cut | run of another seed | chance |",
        "|---|---|---|---|",
    ]
    for r in RATIOS:
        cells = f"{text('cut overlap', r)} | {text('again overlap', r)} | {100 * (1 - r):.0f}"
        lines.append(f"| {r:g} | {cells} |")
    lines += [
        "",
        f"Test accuracy after training on what is kept; on all: {text('full', 1.0)}.",
        "",
        "| keep ratio | cut | run made for it | random |",
        "|---|---|---|---|",
    ]
    for r in RATIOS:
        cells = [text(f"{name} accuracy", r) for name in ("cut", "made", "random")]
        lines.append(f"| {r:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    result = page([one_seed(seed) for seed in range(SEEDS)])
    print(result)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(result)


if __name__ == "__main__":
    main()
