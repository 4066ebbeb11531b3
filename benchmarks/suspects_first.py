#!/usr/bin/env python3
"""What it is worth to drop suspects first, on steel defects with few planted faults and copies.

    python benchmarks/planted_boxes.py ../shared/data/neu_det output/planted/neu_det_few --faults 0.03 --twins 0.1
    adapruner compare --grid benchmarks/grids/neu_det_few_planted_again.yaml
    python benchmarks/suspects_first.py run
    python benchmarks/suspects_first.py table

The grid has pruned the set to 80%, and trained on that part and on a random one. For each of its
seeds detectors are trained on two folds of three and predict the third, the images are listed as
the command suspects lists them, and the run is cut to 80% anew, as ``cut --suspects`` does: once
with the first tenth of the list first and the others by the run's own order, once by the whole list
alone. AP50 is of the grid's test images. How many are listed was set before, and nothing is chosen
here. What is done is in OUT/trainings.jsonl; a benchmark that was stopped goes on.
"""  # noqa: E501

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from adapruner_det.detection.held_out import HeldOutTask, all_images, labels_of, predict_held_out
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.task import make_task
from adapruner_det.methods.adapruner import suspects_first
from adapruner_det.report.suspects import Annotated, find_suspects, read_list
from adapruner_det.selection import Selection

sys.path.insert(0, str(Path(__file__).parent))

from trials import add, complete, difference, main, read  # noqa: E402

CONFIG = Path(__file__).parent / "configs/neu_det_few_planted.yaml"
TRUTH = Path("output/planted/neu_det_few/truth.json")
FOLDS, FIRST = 3, 0.1
RANDOM, OWN = "random", "inclusion"
#: Cut → the share of the list that goes first.
LISTED = {"first tenth of the list": FIRST, "whole list": 1.0}
KINDS = ("missing", "swapped", "shifted", "twin", "clean")


def listed(seed: int, folder: Path) -> Path:
    """The list of suspects of one seed, the most suspicious first."""
    place = folder / "suspects.csv"
    if not place.exists():
        cfg = load_config(str(CONFIG), ["SEED", str(seed)])
        predictions = predict_held_out(HeldOutTask(cfg), FOLDS, seed, folder / "held_out")
        index = all_images(cfg)
        annotated = Annotated(index.keys, index.keys, labels_of(index), index.samples.class_names)
        find_suspects(annotated, predictions).save(folder)
    return place


def run(grid: Path, out: Path, seeds: list[int]) -> None:
    """List, cut and train what is not in the file yet."""
    truth = json.loads(TRUTH.read_text())["images"]
    for seed in seeds:
        done = {row["cut"]: row for row in read(out) if row["seed"] == seed}
        own = of_grid(grid, seed)
        place = read_list(listed(seed, out / str(seed)), own[OWN][1].columns["key"].tolist())
        for cut, share in LISTED.items():
            first = np.where(place <= share * len(place), place, 0)
            own[cut] = None, suspects_first(own[OWN][1], first)
        for cut, (value, selection) in own.items():
            if cut in done:
                continue
            if value is None:
                work = out / str(seed) / "work"
                value = make_task(str(CONFIG), []).train(seed, work, kept=selection).value
                shutil.rmtree(work)
            add(out, {"seed": seed, "cut": cut, "AP50": value, "dropped": gone(selection, truth)})


def of_grid(grid: Path, seed: int) -> dict[str, tuple[float | None, Selection]]:
    """Method → AP50 and selection at 80%, of one seed of the grid."""
    found = {}
    for path in grid.glob(f"cells/train-*-s{seed}-*/done.json"):
        row = json.loads(path.read_text())
        name = {"random": RANDOM, "adapruner": OWN}.get(row["config"]["method"])
        if name is not None:
            (selected,) = grid.glob(f"cells/select-{path.parent.name.split('-')[1]}-*s{seed}-*")
            selection = Selection.load(selected / "selection.json").cut(0.8)
            found[name] = row["result"]["value"], selection
    return found


def gone(selection: Selection, truth: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Kind → how much of it is dropped."""
    dropped = ~selection.columns["kept"].astype(bool)
    kinds = np.array([truth[k.rpartition("/")[2]]["kind"] for k in selection.columns["key"]])
    return {kind: float(dropped[kinds == kind].mean()) for kind in KINDS}


def table(rows: list[dict[str, Any]]) -> str:
    """Of each cut AP50, the differences paired by seed, and what went in times chance."""
    value = {(row["seed"], row["cut"]): row["AP50"] for row in rows}
    cuts = (RANDOM, OWN, *LISTED)
    seeds = complete(rows, cuts)
    lines = []
    for cut in cuts:
        went = [row["dropped"] for row in rows if row["cut"] == cut and row["seed"] in seeds]
        mean = np.mean([value[seed, cut] for seed in seeds])
        ahead = [
            "" if other == cut else difference([value[s, cut] - value[s, other] for s in seeds])
            for other in (RANDOM, OWN)
        ]
        times = [f"{np.mean([own[kind] for own in went]) / 0.2:.2f}" for kind in KINDS]
        lines.append([cut, f"{mean:.2f}", *ahead, *times])
    head = [
        "cut",
        "AP50",
        *(f"− {other}" for other in (RANDOM, OWN)),
        *(f"{kind}, × chance" for kind in KINDS),
    ]
    seen = f"{len(seeds)} seeds: {', '.join(map(str, seeds))}"
    return f"{seen}\n\n{tabulate(lines, head, tablefmt='github', disable_numparse=True)}"


if __name__ == "__main__":
    grid, out = "output/grids/neu_det_few_planted", "output/suspects_first"
    main(__doc__, run, table, range(5, 10), grid=grid, out=out)
