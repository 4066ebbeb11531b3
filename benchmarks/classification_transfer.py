"""Transfer: pre-train on the kept part of one data set, fine-tune on another (the paper's Table 2).

    python benchmarks/classification_transfer.py

A small CNN is pre-trained on ../shared/data/cifar100_part (5,000 images) whole, on a random part
and on the part that it selects itself, and fine-tuned on 2,000 images of ../shared/data/cifar10;
``scratch`` is not pre-trained. Every seed prunes, draws and trains for itself; the last epoch on
CIFAR-10's test set counts.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from tabulate import tabulate

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import Data, load_data
from adapruner_det.classification.run import prune, train, transfer
from adapruner_det.errors import reported
from adapruner_det.experiment.tables import spread
from adapruner_det.methods.random import random_selection
from adapruner_det.selection import Selection

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "classification_transfer.md"
PARTS = ("scratch", "full", "random", "selected")


def configs(args: argparse.Namespace) -> tuple[CfgNode, CfgNode]:
    """Of the pre-training and of the fine-tuning."""
    base = str(ROOT / "configs/classification/cifar10_cpu.yaml")
    packed = ["DATA.NAME", "packed", "DATA.ROOT"]
    source = load_config(base, [*packed, f"{args.data}/cifar100_part"])
    target = load_config(
        base, [*packed, f"{args.data}/cifar10", "DATA.NUM_TRAIN", "2000", "SOLVER.LR", "0.05"]
    )
    return source, target


def select(cfg: CfgNode, data: Data, part: str) -> Selection | None:
    if part == "full":
        return None
    if part == "selected":
        return prune(cfg, data.train, save=False)
    ratio = cfg.ADAPRUNER.KEEP_RATIO
    return random_selection(data.train.samples, ratio, cfg.SEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep-ratio", type=float, default=0.8)
    parser.add_argument("--data", default="../shared/data")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
    with reported():
        source_cfg, target_cfg = configs(args)
        source, target = load_data(source_cfg), load_data(target_cfg)
        for seed in args.seeds:
            source_cfg.SEED = target_cfg.SEED = seed
            source_cfg.ADAPRUNER.KEEP_RATIO = args.keep_ratio
            found["scratch"].append((np.nan, train(target_cfg, target, save=False).accuracy))
            for part in PARTS[1:]:
                selection = select(source_cfg, source, part)
                with tempfile.TemporaryDirectory() as folder:
                    source_cfg.OUTPUT_DIR, target_cfg.OUTPUT_DIR = f"{folder}/s", f"{folder}/t"
                    results = transfer(source_cfg, source, target_cfg, target, selection)
                found[part].append((results[0].accuracy, results[1].accuracy))
                print(f"seed {seed}, {part}: {results[1].accuracy:.2f}%", flush=True)
    text = report(args, found)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text)
    print(text)


def report(args: argparse.Namespace, found: dict[str, list[tuple[float, float]]]) -> str:
    rows = []
    for part, values in found.items():
        source, target = np.array(values).T
        before = spread(source) if part != "scratch" else ""
        rows.append([part, before, spread(target), " ".join(f"{value:.2f}" for value in target)])
    head = ["pre-trained on", "CIFAR-100 part, %", "CIFAR-10 after fine-tuning, %", "each seed"]
    lines = [
        "# Transfer from CIFAR-100 to CIFAR-10",
        "",
        f"    python benchmarks/classification_transfer.py --keep-ratio {args.keep_ratio:g} "
        f"--seeds {' '.join(map(str, args.seeds))}",
        "",
        f"{100 * args.keep_ratio:g}% of the 5,000 source images kept; the script says the rest. "
        "Mean ± standard",
        f"deviation over the seeds; torch {torch.__version__} on a CPU.",
        "",
        tabulate(rows, head, tablefmt="github", disable_numparse=True),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
