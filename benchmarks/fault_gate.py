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

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from adapruner_det.core.inclusion import Inclusion
from adapruner_det.core.terms import as_share, stored_share
from adapruner_det.detection.task import DetectionTask
from adapruner_det.methods.base import select
from adapruner_det.methods.random import random_selection
from adapruner_det.selection import Selection

sys.path.insert(0, str(Path(__file__).parent))

from trials import (
    add,
    complete,
    difference,
    evidence_of,
    held_out,
    ids_of,
    main,
    read,
    task_of,
    value_of,
)  # noqa: E402

CONFIG = Path(__file__).parent / "configs/neu_det_128px.yaml"
KEEP, HELD_OUT = 0.8, 300
CUTS = ("random", "own", "no gate", "clear only")


def sound(data: Path, truth: dict[str, dict[str, Any]], seed: int) -> set[str]:
    """The images that a seed holds out."""
    copied = {own.get("of") for own in truth.values()}
    found = [n for n in ids_of(data) if truth[n]["kind"] == "clean" and n not in copied]
    return set(np.random.default_rng(100 + seed).permutation(found)[:HELD_OUT].tolist())


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


def run(data: Path, out: Path, seeds: list[int]) -> None:
    """Prune and train what is not in the file yet."""
    done = {(row["seed"], row["cut"]) for row in read(out)}
    truth = json.loads((data / "truth.json").read_text())["images"]
    for seed in seeds:
        folder = held_out(data, sound(data, truth, seed), out / f"data{seed}")
        task = task_of(CONFIG, folder, f"dev{seed}")
        kinds = np.array([truth[key.rpartition("/")[2]]["kind"] for key in task.samples.keys])
        path, work = out / f"selection{seed}.json", out / f"work{seed}"
        if not path.exists():
            select("adapruner", evidence_of(task, seed, work), KEEP).save(path)
            shutil.rmtree(work)
        for cut, keep in cuts(Selection.load(path), task, seed).items():
            if (seed, cut) not in done:
                value = value_of(task, keep, seed, work)
                gone = {kind: int((kinds[~keep] == kind).sum()) for kind in sorted(set(kinds))}
                add(out, {"seed": seed, "cut": cut, "AP50": value, "dropped": gone})


def table(rows: list[dict[str, Any]]) -> str:
    """Of each cut: AP50, what went, and the difference to the other cuts, paired by seed."""
    value = {(row["seed"], row["cut"]): row["AP50"] for row in rows}
    seeds = complete(rows, CUTS)
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


if __name__ == "__main__":
    data, out = "output/planted/neu_det_few", "output/fault_gate"
    main(__doc__, run, table, range(8), data=data, out=out)
