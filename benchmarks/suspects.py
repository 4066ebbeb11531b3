#!/usr/bin/env python3
"""Find planted faults in labels, beside cleanlab's object detection scores, on a CPU.

    pip install cleanlab
    python benchmarks/suspects.py run --data ../shared/data --out output/suspects
    python benchmarks/suspects.py judge --data ../shared/data --out output/suspects

For each set and seed faults are planted in three disjoint tenths of the images, as planted_boxes.py
has it: a box is missing, has another class, or lies elsewhere. Detectors are trained on two folds
of three and predict the third; then both programs judge the same labels by the same predictions.
AUROC is of the images with one kind of fault against those without any planted one. How much of a
kind the first fifth of a list holds is what a cut at 80% by that list would drop of it.

``run`` trains, and goes on where it was stopped; ``judge`` writes what came of it to
results/suspects.jsonl, beside what is there of other sets and seeds, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from tabulate import tabulate

from adapruner_det.box_faults import LOCATED, OVERLOOKED, SWAPPED
from adapruner_det.detection.held_out import (
    FILE,
    HeldOutTask,
    all_images,
    labels_of,
    predict_held_out,
)
from adapruner_det.detection.setup import load_config
from adapruner_det.errors import DataError, reported
from adapruner_det.predictions import Predictions
from adapruner_det.report.suspects import LOSS, Annotated, Suspects, find_suspects

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from planted_boxes import KINDS, plant  # noqa: E402

RESULTS = ROOT / "benchmarks/results"

SETS = ("demo", "bccd", "neu_det")
FOLDS = 3
#: cleanlab's high and low threshold, chosen on other seeds of the demo and NEU-DET; as they come
#: they are for surer detectors.
LOWER = (0.1, 0.02)
#: The share of the images that each kind is given where it is asked how many a cut would drop; as
#: in grids/neu_det_few_planted.yaml.
FEW = 0.03
SETTINGS = {
    "demo": ("configs/demo_yolov3tiny.yaml", ["ADAPRUNER.EPOCHS", 20]),
    "bccd": ("configs/own_yolov3tiny.yaml", ["ADAPRUNER.EPOCHS", 60]),
    "neu_det": ("configs/own_yolov3tiny.yaml", ["ADAPRUNER.EPOCHS", 12]),
}
KIND = {"missing": OVERLOOKED, "swapped": SWAPPED, "shifted": LOCATED}
INPUT = {"demo": 128, "bccd": 160, "neu_det": 128}


def source_of(name: str, data: Path, out: Path, seed: int) -> tuple[Path, list[str]]:
    """The folder of a set, and its images that are right as far as is known."""
    if name != "demo":
        return data / name, (data / name / "ImageSets/Main/trainval.txt").read_text().split()
    sys.path.insert(0, str(ROOT))
    from datasets.make_demo import make_demo

    folder = make_demo(out / "demo-data" / str(seed), seed=seed + 1000, images=960, test_images=1)
    images = json.loads((folder / "truth.json").read_text())["images"]
    return folder, sorted(n for n, own in images.items() if own["kind"] == "clean")


def configuration(name: str, seed: int, out: Path) -> Any:
    config, own = SETTINGS[name]
    data = (out / f"{name}-{seed}" / "data").resolve()
    fixed = [
        "MODEL.DEVICE", "cpu", "MODEL.YOLO.INPUT_SIZE", INPUT[name], "MODEL.DARKNET.WIDTH", 0.25,
        "ADAPRUNER.VOC_FOLDERS", str([f"{name}_{seed}={data}:trainval"]),
        "DATASETS.TRAIN", str((f"{name}_{seed}",)), "DATASETS.TEST", "()",
        "DATALOADER.NUM_WORKERS", 0, "SOLVER.WARMUP_ITERS", 50,
    ]  # fmt: skip
    return load_config(str(ROOT / config), [*own, *fixed])


def run(name: str, seed: int, data: Path, out: Path) -> None:
    """Plant, train and predict."""
    start = time.perf_counter()
    folder = out / f"{name}-{seed}"
    source, ids = source_of(name, data, out, seed)
    plant(source.resolve(), ids, folder / "data", seed)
    predict_held_out(HeldOutTask(configuration(name, seed, out)), FOLDS, seed, folder / "held_out")
    print(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


def judge(name: str, seed: int, out: Path) -> dict[str, Any]:
    """The AUROC of all scores on one planted set."""
    folder = out / f"{name}-{seed}"
    index = all_images(configuration(name, seed, out))
    predictions = Predictions.load(folder / "held_out" / FILE)
    annotated = Annotated(index.keys, index.keys, labels_of(index), index.samples.class_names)
    found = find_suspects(annotated, predictions)
    truth = json.loads((folder / "data/truth.json").read_text())["images"]
    kinds = np.array([truth[key.rpartition("/")[2]]["kind"] for key in index.keys])
    scores = {"this": {kind: found.scores[KIND[kind]] for kind in KINDS}}
    scores["L / typical"] = dict.fromkeys(KINDS, found.scores[LOSS])
    scores["this, overall"] = dict.fromkeys(KINDS, found.overall)
    scores |= cleanlab_scores(found, predictions)
    return {
        "set": name,
        "seed": seed,
        "images": len(kinds),
        "planted": {kind: int((kinds == kind).sum()) for kind in KINDS},
        "found": found.found,
        "flat": flatness(folder / "held_out"),
        **{
            name: {
                who: {kind: judged(own[kind], kinds, kind) for kind in KINDS}
                for who, own in scores.items()
            }
            for name, judged in (("auroc", auroc), ("first_fifth", first_fifth))
        },
    }


def cleanlab_scores(found: Suspects, predictions: Predictions) -> dict[str, dict[str, np.ndarray]]:
    """Scorer → kind → (N,), higher is more suspicious, of cleanlab's functions for boxes."""
    from cleanlab.object_detection import rank

    labels = [{"bboxes": o.boxes, "labels": o.classes} for o in found.annotated.labels]
    seen = [
        by_class(own, len(found.annotated.class_names))
        for own in predictions.of(found.annotated.keys).found
    ]
    result = {}
    # What its functions compute of labels and predictions anyway, once for all of them.
    given = {"auxiliary_inputs": rank._get_valid_inputs_for_compute_scores(0.9, labels, seen)}
    for who, high, low in (("cleanlab", None, None), ("cleanlab, lower thresholds", *LOWER)):
        parts = {
            "missing": rank.compute_overlooked_box_scores(**given, high_probability_threshold=high),
            "swapped": rank.compute_swap_box_scores(**given, high_probability_threshold=high),
            "shifted": rank.compute_badloc_box_scores(**given, low_probability_threshold=low),
        }
        result[who] = {k: -rank.pool_box_scores_per_image(own) for k, own in parts.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        overall = -rank.get_label_quality_scores(labels, seen, verbose=False)
    result["cleanlab, overall"] = dict.fromkeys(KINDS, overall)
    return result


def by_class(found: dict[str, np.ndarray], count: int) -> np.ndarray:
    """As cleanlab takes the predictions of an image: of each class (M, 5), boxes and scores."""
    rows = np.hstack([found["boxes"], found["scores"][:, None]]).astype(float)
    parts = np.empty(count, dtype=object)
    for number in range(count):
        parts[number] = rows[found["classes"] == number]
    return parts


def auroc(scores: np.ndarray, kinds: np.ndarray, kind: str) -> float:
    """Of the images of one kind against those without a planted fault."""
    used = np.isin(kinds, (kind, "clean"))
    positive = kinds[used] == kind
    ranks, count = rankdata(scores[used]), int(positive.sum())
    return float(
        (ranks[positive].sum() - count * (count + 1) / 2) / (count * int((~positive).sum()))
    )


def first_fifth(scores: np.ndarray, kinds: np.ndarray, kind: str) -> float:
    """How much of a kind lies in the first fifth of a list, in times chance: 5 is all of it.

    The images are weighted as if each kind were in :data:`FEW` of them. With equal scores, ranked
    at their middle.
    """
    share = {k: float(np.mean(kinds == k)) for k in (*KINDS, "clean")}
    wanted = dict.fromkeys(KINDS, FEW) | {"clean": 1 - FEW * len(KINDS)}
    weight = np.array([wanted[k] / share[k] / len(kinds) for k in kinds])
    values, place = np.unique(-scores, return_inverse=True)
    ties = np.bincount(place, weight, len(values))
    before = (np.cumsum(ties) - ties / 2)[place]
    return float(np.mean(before[kinds == kind] <= 0.2) / 0.2)


def flatness(folder: Path) -> float:
    """The training loss of the last tenth of the steps over that of the tenth before; mean.

    Raises:
        DataError: a training that has logged its loss less than twice, or none at all.
    """
    ratios = []
    for path in sorted(folder.glob("fold-*/metrics.json")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        losses = [row["total_loss"] for row in rows if "total_loss" in row]
        if len(losses) < 2:
            raise DataError(
                f"{path} has the loss of {len(losses)} step(s), of which nothing tells whether it "
                "was flat; train for more steps"
            )
        tenth = max(len(losses) // 10, 1)
        ratios.append(np.mean(losses[-tenth:]) / np.mean(losses[-2 * tenth : -tenth]))
    if not ratios:
        raise DataError(f"{folder} has no fold-*/metrics.json; run first")
    return float(np.mean(ratios))


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """What was judged by set and kind: mean and standard deviation over seeds."""
    who = list(rows[0]["auroc"])
    lines, first = [], []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        for kind in KINDS:
            fifths = (np.array([row["first_fifth"][w][kind] for row in own]) for w in who)
            first.append([name, kind, *map(mean_and_spread, fifths)])
            values = {w: np.array([row["auroc"][w][kind] for row in own]) for w in who}
            best = np.maximum(values["cleanlab"], values["cleanlab, lower thresholds"])
            ahead = values["this"] - best
            lines.append(
                [name, kind]
                + [mean_and_spread(v) for v in values.values()]
                + [" ".join(f"{d:+.3f}" for d in ahead)]
            )
    head = ["set", "fault", *who, "this − the better of cleanlab's two, by seed"]
    about = [
        [r["set"], r["seed"], r["images"], *(r["planted"][k] for k in KINDS)]
        + [f"{100 * r['found']:.0f}%", f"{r['flat']:.3f}"]
        for r in rows
    ]
    columns = ["set", "seed", "images", *KINDS, "boxes found", "loss, last tenth / tenth before"]
    return "\n\n".join(
        tabulate(table, names, tablefmt="github", disable_numparse=True)
        for table, names in ((lines, head), (first, head[:-1]), (about, columns))
    )


def mean_and_spread(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "judge"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cells = [(name, seed) for name in args.sets for seed in args.seeds]
    with reported():
        if args.action == "run":
            for name, seed in cells:
                run(name, seed, args.data, args.out)
            return
        file = args.results / "suspects.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        for name, seed in cells:
            rows = [row for row in rows if (row["set"], row["seed"]) != (name, seed)]
            rows.append(judge(name, seed, args.out))
            rows.sort(key=lambda row: (SETS.index(row["set"]), row["seed"]))
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(tables(rows))


if __name__ == "__main__":
    main()
