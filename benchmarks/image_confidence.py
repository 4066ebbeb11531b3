"""What the draw of `inclusion` is to know of an image's boxes, on held-out training images.

    python benchmarks/image_confidence.py run --data ../shared/data/neu_det --out output/image_confidence
    python benchmarks/image_confidence.py table --out output/image_confidence

A detector tells for each box how sure it is of it, an image has one confidence. Of steel defects
300 images are held out, other ones for each seed, and one training on the others is recorded. Its
confidences are put together in three ways, and the same lots drawn by the chances that come of each:

* softmin: the worst boxes stand for the image, Σ q·e^(−q/T) / Σ e^(−q/T), T = 0.1;
* mean: the mean over the boxes;
* sum: the same, and the chance grows with the number of boxes (see core/inclusion.py).

Beside them a draw by the lots alone. They keep 60% and, but for the mean, 80%; what the run takes
for faulty goes first in the three. AP50 is of the held-out images. A benchmark that was stopped
goes on; what is done is in OUT/trainings.jsonl.
"""  # noqa: E501

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from adapruner_det.core.cut import kept_count
from adapruner_det.core.inclusion import Inclusion
from adapruner_det.core.terms import Draw, Uncertainty, beta_powers, beta_weight
from adapruner_det.experiment.evidence import record
from adapruner_det.samples import Samples, digest

sys.path.insert(0, str(Path(__file__).parent))

from trials import add, complete, difference, held_out, ids_of, main, read, task_of, value_of  # noqa: E402

CONFIG = Path(__file__).parent / "configs/neu_det_128px.yaml"
HELD_OUT, TEMPERATURE = 300, 0.1
#: Keep ratio → what is cut to it.
CUTS = {0.6: ("random", "softmin", "mean", "sum"), 0.8: ("random", "softmin", "sum")}
SIGNALS = ("fault", "confidence", "box_iou", "box_confidence")
SHARES = ("boxes", "one", "crowded")


def run(data: Path, out: Path, seeds: Sequence[int]) -> None:
    """Record and train what is not in the file yet."""
    done = {(row["keep"], row["seed"], row["cut"]) for row in read(out)}
    for seed in seeds:
        test = set(np.random.default_rng(200 + seed).permutation(ids_of(data))[:HELD_OUT].tolist())
        task = task_of(CONFIG, held_out(data, test, out / f"data{seed}"), f"bt{seed}")
        recorded, work = out / f"recorded{seed}", out / f"work{seed}"
        if not all((recorded / f"{name}.npy").exists() for name in SIGNALS):
            record(task, seed, recorded, SIGNALS)
            shutil.rmtree(recorded / "run")
        fault, confidence, iou, p = (np.load(recorded / f"{name}.npy") for name in SIGNALS)
        for ratio in CUTS:
            found = cuts(fault, confidence, iou * p, task.samples, seed, ratio)
            for cut in CUTS[ratio]:
                if (ratio, seed, cut) not in done:
                    value = value_of(task, found[cut], seed, work)
                    row = {"keep": ratio, "seed": seed, "cut": cut, "AP50": value}
                    add(out, {**row, **shares(found[cut], task.samples)})


def cuts(
    fault: np.ndarray,
    confidence: np.ndarray,
    quality: np.ndarray,
    samples: Samples,
    seed: int,
    ratio: float,
) -> dict[str, np.ndarray]:
    """Cut → (N,) bool, what is kept.

    Args:
        fault: (E, N) of each visit.
        confidence: (E, N) of each visit; taken by softmin where a crop has lost a box.
        quality: (E, N, G) of each box; NaN where an image has no more, and of a crop that has lost
            one. The means take such a visit for the one before it.
        samples: the N samples.
        seed: of the lots.
        ratio: what is kept.
    """
    boxes, lots = counts(samples), Draw.gumbel(Draw(digests(samples.keys), seed).stored)
    ones = np.ones(len(boxes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of visits that were missed
        flagged = np.nanmean(fault, axis=0) > Inclusion.PARTS_LIMIT
        mean = np.nanmean(quality, axis=2)
        weight = np.exp(-quality / TEMPERATURE)
        softmin = np.nansum(weight * quality, axis=2) / np.nansum(weight, axis=2)
        typical = np.nanmean(mean, axis=0)
    softmin = np.where(np.isnan(softmin), confidence, softmin)
    for visit in range(1, len(mean)):
        mean[visit] = np.where(np.isnan(mean[visit]), mean[visit - 1], mean[visit])
    mean = np.where(np.isnan(mean), typical, mean)
    chances = {
        "random": ones,
        "softmin": chance(softmin, ones, flagged, ratio),
        "mean": chance(mean, ones, flagged, ratio),
        "sum": chance(mean, boxes, flagged, ratio),
    }
    found = {}
    for cut, own in chances.items():
        score = -np.log(own) - lots + Inclusion.FAULT * flagged * (cut != "random")
        found[cut] = np.zeros(len(boxes), dtype=bool)
        found[cut][np.argsort(score, kind="stable")[: kept_count(len(boxes), ratio)]] = True
    return found


def chance(
    confidence: np.ndarray, size: np.ndarray, flagged: np.ndarray, ratio: float
) -> np.ndarray:
    """v·N, as core/inclusion.py has it, of confidences (E, N) and sizes (N,)."""
    term = Uncertainty.of_run(len(confidence))
    q = np.nan_to_num(confidence[: term.visits].astype(np.float64))
    windows = [q[first : first + term.window] for first in range(0, len(q), term.window)]
    w = np.mean([own.std(axis=0) * (1.0 - own.mean(axis=0)) for own in windows], axis=0) * size
    p = q.mean(axis=0)
    top = np.argsort(-np.where(flagged, -1.0, w))[: Inclusion.TOP]
    informed = w * beta_weight(p, beta_powers(p[top].mean(), ratio))
    return Inclusion.FLOOR + (1.0 - Inclusion.FLOOR) * informed / informed[~flagged].mean()


def counts(samples: Samples) -> np.ndarray:
    """(N,) boxes of each image."""
    return np.array([len(own) for own in samples.boxes or ()], dtype=np.float64)


def digests(keys: Sequence[str]) -> np.ndarray:
    """(N,) uint64, the bytes in the other order than a run's, so that the lots are others."""
    return np.array([digest(key) for key in keys], dtype=np.uint64).byteswap()


def shares(keep: np.ndarray, samples: Samples) -> dict[str, float]:
    """What is kept of all boxes, of the images with one, and of those with four or more."""
    boxes = counts(samples)
    found = boxes[keep].sum() / boxes.sum(), keep[boxes == 1].mean(), keep[boxes >= 4].mean()
    return {name: float(value) for name, value in zip(SHARES, found, strict=True)}


def table(rows: list[dict[str, Any]]) -> str:
    """Of each cut AP50, the differences paired by seed, and what it keeps."""
    parts = ([row for row in rows if row["keep"] == ratio] for ratio in CUTS)
    return "\n\n".join(map(_table, CUTS, parts))


def _table(ratio: float, rows: list[dict[str, Any]]) -> str:
    value = {(row["seed"], row["cut"]): row for row in rows}
    seeds = complete(rows, CUTS[ratio])
    lines = []
    for cut in CUTS[ratio]:
        own = [value[seed, cut] for seed in seeds]
        ahead = []
        for other in CUTS[ratio][:2]:
            found = [value[s, cut]["AP50"] - value[s, other]["AP50"] for s in seeds]
            ahead.append("" if other == cut else difference(found))
        kept = [f"{100 * np.mean([row[name] for row in own]):.0f}" for name in SHARES]
        lines.append([cut, f"{np.mean([row['AP50'] for row in own]):.2f}", *ahead, *kept])
    head = ["cut", "AP50", *(f"− {other}" for other in CUTS[ratio][:2])]
    head += ["% of boxes kept", "% of images with one box", "% with four or more"]
    seen = f"{100 * ratio:g}% kept, {len(seeds)} seeds: {', '.join(map(str, seeds))}"
    return f"{seen}\n\n{tabulate(lines, head, tablefmt='github', disable_numparse=True)}"


if __name__ == "__main__":
    data, out = "../shared/data/neu_det", "output/image_confidence"
    main(__doc__, run, table, range(8), data=data, out=out)
