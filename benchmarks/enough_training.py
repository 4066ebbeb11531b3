"""How long a training must be before a cut costs data and not steps, and what tells it beforehand.

    python benchmarks/enough_training.py run --data ../shared/data --out FOLDER
    python benchmarks/enough_training.py table FOLDER > benchmarks/results/enough_training.md

The same small CNN is trained for more and more epochs on all images, on a random 60% for as many
epochs, and on that 60% for as many steps. Where the second falls behind the third, the cut costs
steps. Beside it stand what a run can know of itself: its steps on the kept part, and by how much
its mean training loss fell from the third quarter of the run to the last, of what it fell in all.
Trainings are kept in FOLDER/trainings.jsonl, so a benchmark that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from adapruner_det.classification.task import make_task
from adapruner_det.enough import late_fall
from adapruner_det.methods.random import random_selection
from adapruner_det.methods.recorder import Recorder

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "classification"
EPOCHS = {"mnist": (5, 10, 20, 40), "cifar10": (5, 10, 20, 40, 80), "digits": (10, 20, 40, 80)}
RATIO = 0.6


def settings(name: str, data: Path) -> tuple[str, list[str]]:
    """(configuration, overrides) of a data set."""
    if name == "digits":
        return str(CONFIGS / "digits.yaml"), []
    few = ["DATA.NUM_TRAIN", "10000", "DATA.SHRINK", "2"]
    crop = "1" if name == "mnist" else "2"
    place = ["DATA.NAME", "packed", "DATA.ROOT", str(data / name), "AUGMENT.CROP", crop]
    return str(CONFIGS / f"{name}_cpu.yaml"), [*few, *place]


def run(data: Path, out: Path, names: list[str], seeds: list[int]) -> None:
    """Train what is not in the file yet."""
    path = out / "trainings.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["data"], row["epochs"], row["seed"]) for row in rows}
    for name in names:
        config, overrides = settings(name, data)
        for epochs, seed in itertools.product(EPOCHS[name], seeds):
            if (name, epochs, seed) not in done:
                own = [*overrides, "SOLVER.EPOCHS", str(epochs), "ADAPRUNER.WARMUP_EPOCHS", "0"]
                row = {"data": name, "epochs": epochs, "seed": seed, **measure(config, own, seed)}
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def measure(config: str, overrides: list[str], seed: int) -> dict[str, Any]:
    """Accuracy on all, on the part for as many epochs and as many steps; what the run knows."""
    task = make_task(config, overrides)
    kept = random_selection(task.samples, RATIO, seed)
    recorder = Recorder(len(task.samples))
    with tempfile.TemporaryDirectory() as folder:
        full = task.train(seed, Path(folder) / "full", guide=recorder)
        part = task.train(seed, Path(folder) / "part", kept=kept)
        steps = task.train(seed, Path(folder) / "steps", kept=kept, budget="steps")
    losses = np.nanmean(recorder.signal("loss"), axis=1)
    return {
        "full": full.value,
        "part": part.value,
        "part_steps": steps.value,
        "steps": part.steps,
        "losses": [float(f"{loss:.5g}") for loss in losses],
    }


def table(path: Path) -> str:
    """Of each data set and length, means over the seeds."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = []
    for name, epochs in sorted({(row["data"], row["epochs"]) for row in rows}):
        own = [row for row in rows if (row["data"], row["epochs"]) == (name, epochs)]
        mean = {key: np.mean([row[key] for row in own]) for key in ("steps", "full", "part")}
        falls = [late_fall(row["losses"]) for row in own]
        last = np.mean([row["losses"][-1] for row in own])
        gains = np.array([row["part_steps"] - row["part"] for row in own])
        # Of one seed no spread is known, which is not a spread of 0.
        around = f" ± {gains.std(ddof=1):.2f}" if len(gains) > 1 else ""
        lines.append(
            [
                name,
                epochs,
                f"{mean['steps']:.0f}",
                f"{100 * np.mean(falls):.1f}",
                f"{last:.3f}",
                f"{mean['full']:.2f}",
                f"{mean['part'] - mean['full']:+.2f}",
                f"{gains.mean():+.2f}{around}",
                len(own),
            ]
        )
    head = ["data", "epochs", "steps on 60%", "late fall of the loss %", "last loss", "all"]
    head += ["60% - all", "as many steps - as many epochs", "seeds"]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("folder", nargs="?", type=Path, help="of the trainings, for table")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "enough_training")
    args = parser.parse_args()
    if args.action == "run":
        run(args.data, args.out, args.sets, args.seeds)
    else:
        print(table((args.folder or args.out) / "trainings.jsonl"))


if __name__ == "__main__":
    main()
