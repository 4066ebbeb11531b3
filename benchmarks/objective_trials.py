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

Shape letters: N samples, D numbers of an image, C classes, E epochs, M models side by side.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
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

MASKS = ("paper", "inclusion")
CONDITIONS = ("clean", "wrong", "twins")
RATIOS = (0.9, 0.8, 0.6, 0.3)
WRONG = 0.15
SOURCES = 0.1  # of the N samples, this many have near-copies, which make up half of the set


@dataclass(frozen=True)
class Setting:
    """How one data set is trained on."""

    num_train: int
    epochs: int
    batch: int
    hidden: int
    side: int


SETTINGS = {
    "digits": Setting(num_train=1200, epochs=100, batch=32, hidden=64, side=8),
    "mnist": Setting(num_train=3000, epochs=60, batch=64, hidden=64, side=14),
    "cifar10": Setting(num_train=3000, epochs=60, batch=64, hidden=64, side=8),
}


@dataclass
class Data:
    """One training set: images (N, D) float32, labels (N,), and what was done to it."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    wrong: np.ndarray  # (N,) bool
    source: np.ndarray  # (N,) what a sample is a near-copy of; its own index otherwise


# --- data ----------------------------------------------------------------------------------------


def _idx(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        raw = file.read()
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _strips(root: Path, split: str) -> np.ndarray:
    from PIL import Image

    strips = [
        np.asarray(Image.open(p).convert("RGB")) for p in sorted(root.glob(f"{split}_*.webp"))
    ]
    return np.concatenate(strips).reshape(-1, 32, 32, 3)


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """(n, side·side·channels) float32 in [0, 1], by averaging blocks."""
    images = images.reshape(*images.shape[:3], -1)
    block = images.shape[1] // side
    blocks = images.reshape(len(images), side, block, side, block, -1)
    return (blocks.mean((2, 4)) / 255.0).reshape(len(images), -1).astype(np.float32)


def load_pool(
    name: str, root: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(images, labels, test images, test labels), of which seeds draw their training sets."""
    side = SETTINGS[name].side
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = (images[order] / 16.0).astype(np.float32), labels[order]
        return images[:1297], labels[:1297], images[1297:], labels[1297:]
    if root is None:
        raise SystemExit(f"--root is needed: the folder that holds {name}")
    if name == "mnist":
        found = {}
        for split in ("train", "t10k"):
            found[split] = _shrunk(_idx(root / f"{split}-images-idx3-ubyte.gz"), side)
        labels = {s: _idx(root / f"{s}-labels-idx1-ubyte.gz").astype(np.int64) for s in found}
        return found["train"], labels["train"], found["t10k"], labels["t10k"]
    images, tests = (_shrunk(_strips(root, split), side) for split in ("train", "test"))
    mean, std = images.mean(0), images.std(0)
    labels, test_labels = (
        _idx(root / f"{split}-labels-idx1-ubyte.gz").astype(np.int64) for split in ("train", "test")
    )
    return (images - mean) / std, labels, (tests - mean) / std, test_labels


def make_data(name: str, pool: tuple[np.ndarray, ...], condition: str, seed: int) -> Data:
    """The training set of a seed in a condition."""
    images, labels, test_images, test_labels = pool
    n = SETTINGS[name].num_train
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    chosen = np.random.default_rng(seed).permutation(len(images))[:n]
    x, y = images[chosen].copy(), labels[chosen].astype(np.int64)
    wrong, source = np.zeros(n, dtype=bool), np.arange(n)
    if condition == "wrong":
        wrong[rng.permutation(n)[: round(WRONG * n)]] = True
        y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    if condition == "twins":
        order = rng.permutation(n)
        copies, sources = order[: n // 2], order[n // 2 : n // 2 + round(SOURCES * n)]
        source[copies] = rng.choice(sources, len(copies))
        noise = 0.05 * images.std() * rng.normal(size=(len(copies), x.shape[1]))
        bright = 1.0 + 0.05 * rng.normal(size=(len(copies), 1))
        x[copies] = bright * x[source[copies]] + noise
        y[copies] = y[source[copies]]
    return Data(
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(y),
        torch.from_numpy(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        wrong,
        source,
    )


def neighbours(images: Tensor, count: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """(indices, distances), (N, count) each: centred, unit norm, nearest first."""
    unit = functional.normalize(images - images.mean(1, keepdim=True))
    near, index = [], []
    for part in unit.split(1000):
        similarity, found = (part @ unit.T).topk(count + 1)
        near.append(similarity), index.append(found)
    similarity, found = torch.cat(near), torch.cat(index)
    itself = found == torch.arange(len(images))[:, None]
    itself[~itself.any(1), -1] = True  # the nearest are its exact copies: let the last go instead
    distance = (2.0 - 2.0 * similarity).clamp(min=0).sqrt()
    keep = ~itself
    shape = (len(images), count)
    return found[keep].reshape(shape).numpy(), distance[keep].reshape(shape).numpy()


# --- training ------------------------------------------------------------------------------------


class Recorder:
    """Stands in a training as a mask does and changes nothing: what a plain run shows, (E, N).

    ``label`` is p of the given label at each visit, ``other`` that of the best other class.
    """

    signals = frozenset({"confidence", "fault"})

    def __init__(self, epochs: int, num_samples: int) -> None:
        self.label, self.other = np.zeros((2, epochs, num_samples), dtype=np.float16)
        self._epoch = 0

    def weights(self, ids: np.ndarray) -> Tensor:
        return torch.ones(len(ids))

    def observe(self, ids: np.ndarray, losses: Tensor, confidence: Tensor, fault: Tensor) -> None:
        self.label[self._epoch, ids] = confidence
        self.other[self._epoch, ids] = 2.0 * fault - 1.0 + confidence

    def end_epoch(self) -> None:
        self._epoch += 1


def train(
    name: str,
    data: Data,
    seed: int,
    parts: np.ndarray,
    guides: Sequence[Recorder | AdaPruner] = (),
) -> tuple[Tensor, Tensor]:
    """Train M perceptrons side by side, on parts of equal size.

    One step of M small models costs far less than M steps. All have the same initial weights and
    the same order of batches.

    Args:
        name: of the data set, which says how to train.
        data: what to train on.
        seed: of weights and batches.
        parts: (M, N) bool.
        guides: M of them, one a model, where each part is all samples.

    Returns:
        Accuracy on the test set in percent, and the last epoch's mean training loss; (M,) each.
    """
    setting = SETTINGS[name]
    rows = torch.from_numpy(np.stack([np.flatnonzero(kept) for kept in parts]))
    count, n = rows.shape
    weights = _weights((data.images.shape[1], setting.hidden, setting.hidden, 10), count, seed)
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)
    steps = max(1, n // setting.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.epochs * steps)
    total = torch.zeros(count)
    for epoch in range(setting.epochs):
        rng = np.random.default_rng([seed, epoch])
        total.zero_()
        for ids in np.array_split(rng.permutation(n), steps):
            batch = rows[:, torch.from_numpy(ids)]
            labels = data.labels[batch]
            logits = _forward(weights, data.images[batch])
            losses = functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="none"
            ).view(count, -1)
            weighted = losses
            if guides:
                weighted = losses * torch.stack([guide.weights(ids) for guide in guides])
            optimizer.zero_grad()
            weighted.mean(1).sum().backward()
            optimizer.step()
            schedule.step()
            _tell(guides, ids, losses.detach(), logits.detach(), labels)
            total += losses.detach().sum(1) / n
        for guide in guides:
            guide.end_epoch()
    right = torch.zeros(count)
    with torch.no_grad():
        for x, y in zip(data.test_images.split(500), data.test_labels.split(500), strict=True):
            right += (_forward(weights, x.expand(count, *x.shape)).argmax(2) == y).sum(1)
    return 100.0 * right / len(data.test_labels), total


def _weights(sizes: Sequence[int], count: int, seed: int) -> list[Tensor]:
    """Weights and biases of ``count`` equal perceptrons, (count, in, out) and (count, 1, out)."""
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return [
        tensor.detach().expand(count, *tensor.shape).clone().requires_grad_()
        for layer in layers
        for tensor in (layer.weight.T, layer.bias[None])
    ]


def _forward(weights: list[Tensor], x: Tensor) -> Tensor:
    """Logits (M, B, C) of inputs (M, B, D)."""
    for k in range(0, len(weights), 2):
        x = torch.baddbmm(weights[k + 1], x, weights[k])
        x = x if k == len(weights) - 2 else x.relu()
    return x


def _tell(
    guides: Sequence[Recorder | AdaPruner],
    ids: np.ndarray,
    losses: Tensor,
    logits: Tensor,
    labels: Tensor,
) -> None:
    """Let each of M guides observe its model's batch: losses (M, B), logits (M, B, C)."""
    if not guides:
        return
    p = logits.softmax(2)
    label = p.gather(2, labels[..., None])[..., 0]
    other = p.scatter(2, labels[..., None], 0.0).amax(2)
    known = {"confidence": label, "fault": (1.0 - label + other) / 2.0}
    for k, guide in enumerate(guides):
        guide.observe(ids, losses[k], **{name: known[name][k] for name in guide.signals})


# --- selections ----------------------------------------------------------------------------------


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
        self.near = Neighbours(*neighbours(data.images))
        self.masks = {mask: self._mask(*mask) for mask in masks}
        n = len(data.labels)
        self.record = Recorder(SETTINGS[name].epochs, n)
        guides = [self.record, *self.masks.values()]
        accuracy, loss = train(name, data, seed, np.ones((len(guides), n), dtype=bool), guides)
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
    raise SystemExit(f"there is no method {method!r}")


# --- runs and tables -----------------------------------------------------------------------------


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
    accuracy, loss = train(cell.name, data, cell.seed, parts)
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


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Mean and half the width of its 95% t interval; NaN for one difference."""
    if len(differences) < 2:
        return float(differences.mean()), float("nan")
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(stats.t.ppf(0.975, len(differences) - 1) * error)


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
            mean, half = interval(np.array([own[s] - base[s] for s in shared]))
            means.append(mean)
            below += mean < 0
            surely += mean + half < 0
            texts.append(f"{mean:+.2f}±{half:.2f} ({len(shared)})")
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
    args.call(args)


if __name__ == "__main__":
    main()
