"""Which visits tell `inclusion` what to draw, and when its mask may act.

    python benchmarks/visits.py run --root ../shared/data/cifar10 --out output/visits
    python benchmarks/visits.py table --out output/visits

Of 12,000 training images of CIFAR-10 at 16x16, clean and with 15% wrong labels, 2,000 are held out,
other ones for each seed. The mask learns on all of them for 40 epochs: with the chances of the
first 20 visits or of the first 30, after a warm-up of 8 epochs or of 30; the fault gate looks at
the first 20 in all of them. Of the others 30% are kept by each, and at random, and trained on for
40 epochs. The accuracy is of the held-out images, in whose labels a wrong one counts as it stands.
A benchmark that was stopped goes on; what is done is in OUT/trainings.jsonl.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tabulate import tabulate

from adapruner_det.classification.task import ClassificationTask, make_task
from adapruner_det.core import inclusion
from adapruner_det.core.terms import FaultGate, Uncertainty
from adapruner_det.experiment.evidence import TaskEvidence
from adapruner_det.methods.base import select

sys.path.insert(0, str(Path(__file__).parent))

from trials import add, complete, difference, evidence_of, main, read  # noqa: E402

CONFIG = Path(__file__).parent / "configs/cifar10_16px.yaml"
IMAGES, HELD_OUT, KEEP = 12000, 2000, 0.3
CONDITIONS: dict[str, list[Any]] = {"clean": [], "wrong": ["DATA.WRONG_LABELS", 0.15]}
WINDOW, GATE = 10, 20
#: Name of a cut → the visits that count and the warm-up's epochs.
RUNS = {"20": (20, 8), "30": (30, 8), "30 late": (30, 30)}
CUTS = ("random", *RUNS)


def chances(evidence: TaskEvidence, visits: int) -> np.ndarray:
    """(N,) v·N of a run of the mask by the first visits; next to 0 for what is flagged."""
    with (
        mock.patch.object(Uncertainty, "of_run", lambda epochs: Uncertainty(visits, WINDOW)),
        mock.patch.object(inclusion, "FaultGate", lambda visits: FaultGate(GATE)),
    ):
        own = select("adapruner", evidence, KEEP).columns
    return np.where(own["flagged"], 1e-8, np.maximum(own["chance"].astype(np.float64), 1e-6))


def parts(v: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool, twice: what is held out, and what is kept of the rest by the chances (N,).

    Both are by the seed's own lots, the same ones for any chances.
    """
    held, kept = np.zeros(len(v), dtype=bool), np.zeros(len(v), dtype=bool)
    held[np.random.default_rng(seed).permutation(len(v))[:HELD_OUT]] = True
    draw = np.random.default_rng([seed, 1]).gumbel(size=len(v))
    order = np.argsort(np.where(held, np.inf, -np.log(v) - draw), kind="stable")
    kept[order[: round(KEEP * (len(v) - HELD_OUT))]] = True
    return held, kept


def accuracy_of(task: ClassificationTask, cut: str, seed: int, work: Path) -> float:
    """Of a training on what a cut keeps of the images that are not held out, on those that are."""
    visits, warmup = RUNS.get(cut, (0, 0))
    options = {"KEEP_RATIO": KEEP, "WARMUP_EPOCHS": warmup}
    evidence = evidence_of(task, seed, work, options)
    held, kept = parts(np.ones(IMAGES) if cut == "random" else chances(evidence, visits), seed)
    value, _ = evidence.respond(kept, held, seed)
    shutil.rmtree(work)
    return value


def run(root: Path, out: Path, seeds: list[int]) -> None:
    """Learn the mask and train what is not in the file yet."""
    done = {(row["seed"], row["cut"]) for row in read(out)}
    for seed, condition in itertools.product(seeds, CONDITIONS):
        missing = [cut for cut in CUTS if (seed, f"{condition}, {cut}") not in done]
        if not missing:
            continue
        settings = ["DATA.ROOT", str(root), "DATA.NUM_TRAIN", IMAGES, *CONDITIONS[condition]]
        settings += ["ADAPRUNER.OBJECTIVE", "inclusion"]
        task = make_task(str(CONFIG), list(map(str, settings)))
        for cut in missing:
            value = accuracy_of(task, cut, seed, out / f"work-{seed}-{condition}-{cut}")
            add(out, {"seed": seed, "cut": f"{condition}, {cut}", "accuracy": value})


def table(rows: list[dict[str, Any]]) -> str:
    """Of each condition and of both: the accuracy, and the differences paired by seed."""
    value = {(row["seed"], row["cut"]): row["accuracy"] for row in rows}
    seeds = complete(rows, [f"{c}, {cut}" for c in CONDITIONS for cut in CUTS])
    lines = []
    for own in (["clean"], ["wrong"], ["clean", "wrong"]):
        found = {
            cut: np.array([value[s, f"{c}, {cut}"] for s in seeds for c in own]) for cut in CUTS
        }
        ahead = [found[cut] - found["random"] for cut in RUNS]
        ahead += [found[cut] - found["20"] for cut in RUNS if cut != "20"]
        means = [f"{found[cut].mean():.2f}" for cut in CUTS]
        lines.append([" and ".join(own), *means, *map(difference, ahead)])
    head = ["", *CUTS, *(f"{cut} − random" for cut in RUNS), "30 − 20", "30 late − 20"]
    seen = f"{len(seeds)} seeds: {', '.join(map(str, seeds))}"
    return f"{seen}\n\n{tabulate(lines, head, tablefmt='github', disable_numparse=True)}"


if __name__ == "__main__":
    main(__doc__, run, table, range(8), root="../shared/data/cifar10", out="output/visits")
