"""Quick trials of the objectives: small perceptrons on small images, every selection retrained.

    python benchmarks/objective_trials.py run --data digits --seeds 0 1 2 3 4 --out FOLDER
    python benchmarks/objective_trials.py run --data mnist --root ../shared/data/mnist --out FOLDER
    python benchmarks/objective_trials.py run --data cifar10 --root ../shared/data/cifar10 \\
        --methods random stratified paper inclusion --seeds 10 11 12 13 14 --out FOLDER
    python benchmarks/objective_trials.py table FOLDER/mnist.jsonl

The training sets are clean, have 15% wrong labels, or are half near-copies. A seed draws the
training set, the wrong labels, the copies, the initial weights and the order of batches; all
methods of a seed share them, so differences are paired. A part is trained on for as many epochs as
the whole is, until its loss is flat. Trainings are kept in FOLDER/<data>.jsonl, so a benchmark that
was stopped goes on. The labels of the test set are read after the last epoch only.

Methods: ``full``, ``random``, ``stratified`` (random inside each class), ``easy`` and ``hard``
(that end of the mean confidence in the first visits of a plain run goes), ``paper`` and
``inclusion`` (a run of the mask with that objective at each ratio), and ``drawn:option=value,...``:
the inclusion formulas applied to what one plain run recorded, without a mask; it serves to compare
options. Confidence and fault signals are those of the model in training.

The data are in objective_data.py, the networks in perceptrons.py. Shape letters: N samples.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapruner_det.core import (
    AdaPruner,
    Inclusion,
    Neighbours,
    Schedule,
    cut,
    end_score,
    kept_count,
    reasons,
)
from adapruner_det.core.terms import Uncertainty, beta_powers, beta_weight
from adapruner_det.errors import DataError, reported
from adapruner_det.experiment.tables import gap
from adapruner_det.neighbours import neighbours

sys.path.insert(0, str(Path(__file__).parent))

from objective_data import CONDITIONS, SETTINGS, Data, load_pool, make_data  # noqa: E402
from perceptrons import Recorder, train  # noqa: E402

MASKS = ("paper", "inclusion")
RATIOS = (0.9, 0.8, 0.6, 0.3)
#: Neighbours of each sample.
NEAR = 15


def unit(images: Tensor) -> np.ndarray:
    """(N, D) without their means, of unit length."""
    centred = images - images.mean(1, keepdim=True)
    return functional.normalize(centred).numpy()


class Cell:
    """The data of a seed in a condition, and the guided runs on all of it.

    Args:
        name: of the data set.
        data: the training set.
        seed: of the cell.
        masks: (objective, keep ratio) of each run of a mask; a plain run is recorded beside them.
    """

    def __init__(
        self, name: str, data: Data, seed: int, masks: Sequence[tuple[str, float]]
    ) -> None:
        self.name, self.data, self.seed = name, data, seed
        self.near = Neighbours(*neighbours(unit(data.images), NEAR))
        self.masks = {mask: self._mask(*mask) for mask in masks}
        n = len(data.labels)
        self.record = Recorder(SETTINGS[name].epochs, n)
        guides = [self.record, *self.masks.values()]
        accuracy, loss = train(
            SETTINGS[name], data, seed, np.ones((len(guides), n), dtype=bool), guides
        )
        self.full = {"accuracy": round(float(accuracy[0]), 4), "loss": round(float(loss[0]), 5)}

    def _mask(self, objective: str, keep_ratio: float) -> AdaPruner:
        epochs, n = SETTINGS[self.name].epochs, len(self.data.labels)
        warmup = max(3, epochs // 5)
        found = None
        if objective == "inclusion":
            digests = np.random.default_rng([7, self.seed]).integers(0, 2**63, n)
            found = Inclusion(digests, self.seed, keep_ratio, epochs, neighbours=self.near)
        schedule = Schedule(warmup, epochs - warmup)
        return AdaPruner(n, keep_ratio, schedule, objective=found, normalize="none")


def stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool, ``count`` true, of each class its share to within one sample."""
    order = rng.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        position[own] = (np.arange(len(own)) + rng.random()) / len(own)
    kept = np.zeros(len(labels), dtype=bool)
    kept[np.argsort(position)[:count]] = True
    return kept


def drawn(cell: Cell, keep_ratio: float, options: dict[str, str]) -> np.ndarray:
    """The inclusion formulas on what a plain run recorded, without a mask: (N,) bool.

    Options: ``floor`` 0.25; ``gate`` mode (that of the core), half (all above ½) or 0 (none);
    ``temper`` 1, or 0 for DUAL's density at every ratio; ``copies`` spare (spare twins go first),
    divide (only w·B is divided by M) or 0; ``strata`` n: a systematic draw inside the cells of
    class and n ranges of confidence.
    """
    visits = Uncertainty.of_run(SETTINGS[cell.name].epochs)
    label = cell.record.label[: visits.visits].astype(np.float64)
    other = cell.record.other[: visits.visits].astype(np.float64)
    n = label.shape[1]
    windows = label.reshape(-1, visits.window, n)
    w = (windows.std(1) * (1.0 - windows.mean(1))).mean(0)
    p, fault = label.mean(0), ((1.0 - label + other) / 2.0).mean(0)
    gate = options.get("gate", "mode")
    clear, doubtful = np.sum(fault > 0.7), np.sum((fault > 0.5) & (fault <= 0.7))
    flagged = (fault > 0.5) & (gate == "half" or (gate == "mode" and clear > doubtful))
    top = np.flatnonzero(~flagged)[np.argsort(-w[~flagged])[:10]]
    powers = beta_powers(p[top].mean(), keep_ratio)
    if options.get("temper") == "0":
        scale = min(1.0, ((1.0 - keep_ratio) / 0.7) ** 2)
        powers = powers[0] / scale, powers[1] / scale
    copies = options.get("copies", "spare")
    informed = w * beta_weight(p, powers) / (1.0 if copies == "0" else cell.near.copies)
    floor = float(options.get("floor", Inclusion.FLOOR))
    v = floor + (1.0 - floor) * informed / informed[~flagged].mean()
    lots = np.random.default_rng([11, cell.seed]).random(n)
    if "strata" in options:
        lots = systematic(cell.data.labels.numpy(), p, int(options["strata"]), lots)
    score = -np.log(np.maximum(v, 1e-6)) + np.log(-np.log(lots)) + 80.0 * flagged
    if copies == "spare":
        score += 40.0 * ~cell.near.twins().representatives(score)
    return cut(np.zeros(n), score, kept_count(n, keep_ratio))


def systematic(labels: np.ndarray, p: np.ndarray, ranges: int, lots: np.ndarray) -> np.ndarray:
    """Lots (N,) that are evenly spaced inside each cell of class and range of confidence."""
    edges = np.quantile(p, np.linspace(0, 1, ranges + 1)[1:-1])
    cells = labels * ranges + np.searchsorted(edges, p)
    found = np.empty(len(p))
    for cell in np.unique(cells):
        own = np.flatnonzero(cells == cell)
        order = own[np.argsort(lots[own])]
        found[order] = (np.arange(len(own)) + lots[order].mean()) / len(own)
    return np.clip(found, 1e-6, 1.0 - 1e-6)


def select(cell: Cell, method: str, keep_ratio: float) -> tuple[np.ndarray, dict[str, int]]:
    """(N,) bool of what ``method`` keeps, and the counts of its reasons, if it has any."""
    n = len(cell.data.labels)
    count = kept_count(n, keep_ratio)
    rng = np.random.default_rng([5, cell.seed])
    kind, _, text = method.partition(":")
    if kind == "random":
        kept = np.zeros(n, dtype=bool)
        kept[rng.permutation(n)[:count]] = True
        return kept, {}
    if kind == "stratified":
        return stratified(cell.data.labels.numpy(), count, rng), {}
    if kind == "drawn":
        return drawn(cell, keep_ratio, dict(o.split("=") for o in text.split(",") if o)), {}
    if kind in ("easy", "hard"):
        visits = Uncertainty.of_run(SETTINGS[cell.name].epochs).visits
        confidence = cell.record.label[:visits].mean(0, dtype=np.float64)
        return cut(np.zeros(n), end_score(kind, {"confidence": confidence}), count), {}
    if kind in MASKS:
        pruner = cell.masks[kind, keep_ratio]
        kept = pruner.select()
        why, counts = np.unique(reasons(pruner.columns(), kept), return_counts=True)
        return kept, {k: int(v) for k, v in zip(why.tolist(), counts, strict=True) if k}
    raise DataError(f"there is no method {method!r}; the script's first lines name them")


def run(args: argparse.Namespace) -> None:
    """Train what is not in the file yet; one line a training."""
    torch.set_num_threads(1)
    path = Path(args.out) / f"{args.data}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(line) for line in _lines(path)}
    pool = load_pool(args.data, args.root)
    for seed in args.seeds:
        for condition in args.conditions:
            wanted = [(1.0, "full"), *itertools.product(args.ratios, args.methods)]
            missing = [
                (ratio, name)
                for ratio, name in wanted
                if (condition, seed, ratio, name) not in done
            ]
            if not missing:
                continue
            masks = [(name, ratio) for ratio, name in missing if name in MASKS]
            data = make_data(args.data, pool, condition, seed)
            cell = Cell(args.data, data, seed, masks)
            for ratio in dict.fromkeys(ratio for ratio, _ in missing):
                methods = [name for own, name in missing if own == ratio]
                lines = [cell.full] if methods == ["full"] else _retrained(cell, methods, ratio)
                where = {"condition": condition, "seed": seed, "keep": ratio}
                with path.open("a") as file:
                    for method, line in zip(methods, lines, strict=True):
                        file.write(json.dumps(where | {"method": method} | line) + "\n")


def _retrained(cell: Cell, methods: list[str], keep_ratio: float) -> list[dict[str, Any]]:
    """What each method's part gives, trained side by side."""
    data = cell.data
    found = [select(cell, method, keep_ratio) for method in methods]
    parts = np.stack([kept for kept, _ in found])
    accuracy, loss = train(SETTINGS[cell.name], data, cell.seed, parts)
    lines = []
    for k, (kept, why) in enumerate(found):
        line: dict[str, Any] = {"accuracy": round(float(accuracy[k]), 4)}
        line["loss"] = round(float(loss[k]), 5)
        if data.wrong.any():
            line["wrong_dropped"] = round(float((~kept)[data.wrong].mean()), 4)
        distinct = len(np.unique(data.source))
        if distinct < len(data.source):
            line["distinct_kept"] = round(len(np.unique(data.source[kept])) / distinct, 4)
        lines.append(line | ({"why": why} if why else {}))
    return lines


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _key(line: dict[str, object]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("condition", "seed", "keep", "method"))


def table(args: argparse.Namespace) -> None:
    """Differences to the baseline, paired by seed, in points of accuracy."""
    accuracy: dict[tuple[str, float, str], dict[int, float]] = defaultdict(dict)
    for path in args.files:
        for line in _lines(path):
            if args.seeds and line["seed"] not in args.seeds:
                continue
            accuracy[line["condition"], line["keep"], line["method"]][line["seed"]] = line[  # type: ignore[index]
                "accuracy"
            ]
    methods = list(dict.fromkeys(m for _, _, m in accuracy if m not in ("full", args.baseline)))
    cells = [(c, k) for c in CONDITIONS for k in sorted({k for _, k, _ in accuracy}, reverse=True)]
    cells = [cell for cell in cells if (*cell, args.baseline) in accuracy]
    print(f"difference to {args.baseline} in points, mean ± half of the 95% interval (n seeds)")
    head = [f"{c} {k:g}" for c, k in cells]
    print("| method | mean | worst | <0 | int<0 | " + " | ".join(head) + " |")
    print("|" + "---|" * (len(cells) + 5))
    for method in ["full", *methods]:
        texts, means, below, surely = [], [], 0, 0
        for condition, keep in cells:
            base = accuracy[condition, keep, args.baseline]
            own = accuracy[condition, 1.0 if method == "full" else keep, method]
            shared = sorted(base.keys() & own.keys())
            if not shared:
                texts.append("")
                continue
            found = gap([own[s] - base[s] for s in shared])
            means.append(found.mean)
            below += found.mean < 0
            surely += found.mean + found.half < 0
            texts.append(f"{found.mean:+.2f}±{found.half:.2f} ({len(shared)})")
        if not means:
            continue
        summary = f"{np.mean(means):+.2f} | {min(means):+.2f} | {below} | {surely}"
        print(f"| {method} | {summary} | " + " | ".join(texts) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("--data", choices=sorted(SETTINGS), required=True)
    one.add_argument("--root", type=Path, help="folder of the data; digits need none")
    one.add_argument("--methods", nargs="+", default=["random", "stratified", "paper", "inclusion"])
    one.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    one.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    one.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    one.add_argument("--out", required=True, help="folder of the .jsonl files")
    one.set_defaults(call=run)
    two = commands.add_parser("table")
    two.add_argument("files", nargs="+", type=Path)
    two.add_argument("--baseline", default="random")
    two.add_argument("--seeds", nargs="+", type=int)
    two.set_defaults(call=table)
    args = parser.parse_args()
    with reported():
        args.call(args)


if __name__ == "__main__":
    main()
