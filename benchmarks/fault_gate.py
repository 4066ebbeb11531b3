"""What the fault gate of `inclusion` wins or costs a detector, on held-out training images.

    python benchmarks/fault_gate.py run --data output/planted/neu_det_few --out output/fault_gate
    python benchmarks/fault_gate.py table --out output/fault_gate

The data are those of grids/neu_det_few_planted.yaml, which has the command that makes them. Of such
a set with planted faults and twins 300 sound images that have no copy are held out, other ones
for each seed. The others are pruned once to 80%, and trained on under four cuts of that one run:
a random one, the run's own, one for which no image is faulty, and one for which only those are
against which the evidence is clear. AP50 is of the held-out images. A benchmark that was stopped
goes on; what is done is in OUT/trainings.jsonl.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from tabulate import tabulate

from adapruner_det.core.inclusion import Inclusion
from adapruner_det.core.terms import as_share, stored_share
from adapruner_det.detection.task import DetectionTask, make_task
from adapruner_det.errors import reported
from adapruner_det.experiment.evidence import TaskEvidence
from adapruner_det.methods.base import select
from adapruner_det.methods.random import random_selection
from adapruner_det.selection import Selection, part_of

CONFIG = Path(__file__).parent / "configs/neu_det_128px.yaml"
KEEP, HELD_OUT = 0.8, 300
CUTS = ("random", "own", "no gate", "clear only")


def held_out(data: Path, truth: dict[str, dict[str, Any]], out: Path, seed: int) -> Path:
    """The folder with another split: ``test`` has the held-out images, ``trainval`` the others."""
    folder = out / f"data{seed}"
    ids = (data / "ImageSets/Main/trainval.txt").read_text().split()
    copied = {own.get("of") for own in truth.values()}
    sound = [name for name in ids if truth[name]["kind"] == "clean" and name not in copied]
    test = set(np.random.default_rng(100 + seed).permutation(sound)[:HELD_OUT].tolist())
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for name in ("JPEGImages", "Annotations"):
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve())
    for split, wanted in (("trainval", False), ("test", True)):
        own = "".join(f"{name}\n" for name in ids if (name in test) == wanted)
        (folder / f"ImageSets/Main/{split}.txt").write_text(own)
    return folder


def cuts(selection: Selection, task: DetectionTask, seed: int) -> dict[str, np.ndarray]:
    """Cut → (N,) bool, what it keeps of one run; each as many as the run itself."""
    own = selection.columns
    kept = own["kept"].astype(bool)
    draw = -np.log(-np.log(own["draw"].astype(np.float64)))
    drawn = -np.log(np.maximum(own["chance"].astype(np.float64), 1e-6)) - draw
    spare = Inclusion.SPARE * own["spare"]
    clear = own["flagged"].astype(bool) & (own["fault"] > Inclusion.PARTS_CLEAR)
    against = Inclusion.FAULT * clear * (1.0 + as_share(stored_share(own["fault"])))

    def least(score: np.ndarray) -> np.ndarray:
        keep = np.zeros(len(kept), dtype=bool)
        keep[np.argsort(score, kind="stable")[: kept.sum()]] = True
        return keep

    by_chance = random_selection(task.samples, kept.mean(), seed)
    return {
        "random": by_chance.columns["kept"].astype(bool),
        "own": kept,
        "no gate": least(drawn + spare),
        "clear only": least(drawn + np.maximum(spare, against)),
    }


def task_of(folder: Path, seed: int) -> DetectionTask:
    name = f"dev{seed}"
    splits = [f"{name}_train={folder}:trainval", f"{name}_test={folder}:test"]
    places = ["ADAPRUNER.VOC_FOLDERS", splits, "DATASETS.TRAIN", (f"{name}_train",)]
    places += ["DATASETS.TEST", (f"{name}_test",), "ADAPRUNER.OBJECTIVE", "inclusion"]
    return make_task(str(CONFIG), list(map(str, places)))


def run(data: Path, out: Path, seeds: list[int]) -> None:
    """Prune and train what is not in the file yet."""
    file = out / "trainings.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    done = {(row["seed"], row["cut"]) for row in read(file)}
    truth = json.loads((data / "truth.json").read_text())["images"]
    for seed in seeds:
        task = task_of(held_out(data, truth, out, seed), seed)
        kinds = np.array([truth[key.rpartition("/")[2]]["kind"] for key in task.samples.keys])
        path, work = out / f"selection{seed}.json", out / f"work{seed}"
        if not path.exists():
            evidence = TaskEvidence(task, seed, work)
            # The method takes thumbnails itself where no cell of a grid has them.
            evidence.offers = evidence.offers - {"thumbnails"}
            select("adapruner", evidence, KEEP).save(path)
            shutil.rmtree(work)
        for cut, keep in cuts(Selection.load(path), task, seed).items():
            if (seed, cut) in done:
                continue
            found = task.train(seed, work, kept=part_of(task.samples, keep, "fault_gate"))
            shutil.rmtree(work)
            gone = {kind: int((kinds[~keep] == kind).sum()) for kind in sorted(set(kinds))}
            row = {"seed": seed, "cut": cut, "AP50": found.value, "dropped": gone}
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Of each cut: AP50, what went, and the difference to the other cuts, paired by seed."""
    value = {(row["seed"], row["cut"]): row["AP50"] for row in rows}
    seeds = [s for s in sorted({row["seed"] for row in rows}) if all((s, c) in value for c in CUTS)]
    lines = []
    for cut in CUTS:
        gone = [row["dropped"] for row in rows if row["cut"] == cut and row["seed"] in seeds]
        means = [f"{np.mean([own[kind] for own in gone]):.0f}" for kind in gone[0]]
        mean = np.mean([value[seed, cut] for seed in seeds])
        ahead = [
            "" if other == cut else difference([value[s, cut] - value[s, other] for s in seeds])
            for other in CUTS[:2]
        ]
        lines.append([cut, f"{mean:.2f}", *ahead, *means])
    head = ["cut", "AP50", *(f"− {other}" for other in CUTS[:2])]
    head += [f"{kind} dropped" for kind in rows[0]["dropped"]]
    seen = f"{len(seeds)} seeds: {', '.join(map(str, seeds))}"
    return f"{seen}\n\n{tabulate(lines, head, tablefmt='github', disable_numparse=True)}"


def difference(values: list[float]) -> str:
    """Mean and Student's 95% interval."""
    if len(values) < 2:
        return f"{values[0]:+.2f}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    mean = np.mean(values)
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("--data", type=Path, default=Path("output/planted/neu_det_few"))
    parser.add_argument("--out", type=Path, default=Path("output/fault_gate"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with reported():
        if args.action == "run":
            run(args.data, args.out, args.seeds)
        else:
            print(table(read(args.out / "trainings.jsonl")))


if __name__ == "__main__":
    main()
