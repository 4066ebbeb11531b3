"""All images, a random part, the selected part: the same classifier trained on each.

    python benchmarks/classification.py --name digits --seeds 0 1 2 3 4 5 6 7 8 9
    python benchmarks/classification.py --name cifar10_6000 \\
        --config-file configs/classification/cifar10_cpu.yaml \\
        DATA.NAME packed DATA.ROOT ../shared/data/cifar10 DATA.NUM_TRAIN 6000
    python benchmarks/classification.py --name digits_resnet18_lr --train-model resnet18 \\
        --keep-ratios 0.6 --wrong 0.0 --ablations -- SOLVER.LR 0.02

The last one prunes with the small CNN and trains another architecture.

Every seed prunes, draws and trains for itself, on clean labels and with a share of them wrong; the
data, the subset and the wrong labels are the same for all seeds. What is trained on a part sees
it for as many epochs as the full set is seen. The last epoch on the test set counts. Runs are kept
in benchmarks/results/classification_<name>.jsonl, so a benchmark that was stopped goes on; the
table stands beside it. Shape letters: N samples.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from tabulate import tabulate

from adapruner_det.classification.config import ABLATIONS, ablate, load_config
from adapruner_det.classification.data import Data, load_data
from adapruner_det.classification.run import prune, train
from adapruner_det.errors import reported
from adapruner_det.methods.random import random_selection
from adapruner_det.selection import Selection

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_READ: dict[str, Data] = {}
DIGITS = str(ROOT / "configs" / "classification" / "digits.yaml")


@dataclass(frozen=True)
class Part:
    """What a model is trained on: ``full``, ``random``, ``selected`` or ``without <term>``."""

    name: str
    keep_ratio: float
    wrong: float
    seed: int


@dataclass(frozen=True)
class Run:
    """One training on a part.

    ``wrong_dropped`` is the share of the dropped images whose label is wrong, ``soft_ratio`` the
    ratio before the cut; None where there is none.
    """

    part: Part
    accuracy: float
    images: int
    seconds: float
    soft_ratio: float | None
    wrong_dropped: float | None


def all_parts(args: argparse.Namespace) -> Iterator[Part]:
    for seed in args.seeds:
        for wrong in args.wrong:
            yield Part("full", 1.0, wrong, seed)
            for ratio in args.keep_ratios:
                yield Part("random", ratio, wrong, seed)
                yield Part("selected", ratio, wrong, seed)
    for seed in args.seeds:
        for term in args.ablations:
            yield Part(f"without {term}", args.ablation_ratio, args.wrong[0], seed)


def run_part(cfg: CfgNode, part: Part, train_model: str) -> Run:
    cfg = cfg.clone()
    cfg.SEED, cfg.DATA.WRONG_LABELS = part.seed, part.wrong
    cfg.ADAPRUNER.KEEP_RATIO = part.keep_ratio
    data = read(cfg)
    start = time.perf_counter()
    selection = select(cfg, data, part)
    cfg.MODEL.NAME = train_model or cfg.MODEL.NAME
    result = train(cfg, data, selection, save=False)
    return Run(
        part,
        result.accuracy,
        result.images,
        time.perf_counter() - start,
        None if selection is None else selection.soft_ratio,
        wrong_among_dropped(selection, data),
    )


def read(cfg: CfgNode) -> Data:
    """The data, decoded once for all parts that share them."""
    text = cfg.DATA.dump()
    if text not in _READ:
        _READ.clear()
        _READ[text] = load_data(cfg)
    return _READ[text]


def select(cfg: CfgNode, data: Data, part: Part) -> Selection | None:
    if part.name == "full":
        return None
    if part.name == "random":
        return random_selection(data.train.samples, part.keep_ratio, part.seed)
    cfg = cfg.clone()
    if part.name.startswith("without "):
        ablate(cfg, part.name.removeprefix("without "))
    return prune(cfg, data.train, save=False)


def wrong_among_dropped(selection: Selection | None, data: Data) -> float | None:
    if selection is None or not len(data.wrong):
        return None
    dropped = ~selection.columns["kept"].astype(bool)
    return float(dropped[data.wrong.numpy()].sum() / dropped.sum())


def load_runs(path: Path) -> dict[Part, Run]:
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    runs = [Run(**{**row, "part": Part(**row["part"])}) for row in rows]
    return {run.part: run for run in runs}


def spread(values: list[float]) -> str:
    """Mean ± standard deviation; one value has none."""
    mean = f"{np.mean(values):.2f}"
    return f"{mean} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else mean


def tables(runs: dict[Part, Run]) -> list[str]:
    lines: list[str] = []
    for wrong in sorted({part.wrong for part in runs}):
        found = {p: r for p, r in runs.items() if p.wrong == wrong and "without" not in p.name}
        lines += ["", f"## {100 * wrong:g}% of the training labels wrong", ""]
        lines += [main_table(found)]
    ablated = {part.name for part in runs if part.name.startswith("without")}
    if ablated:
        lines += ["", "## Ablations (Tables 4 and 5 of the paper)", "", ablation_table(runs)]
    return lines


def main_table(runs: dict[Part, Run]) -> str:
    rows = []
    for name in ("full", "random", "selected"):
        for ratio in sorted({p.keep_ratio for p in runs if p.name == name}, reverse=True):
            found = [r for p, r in runs.items() if (p.name, p.keep_ratio) == (name, ratio)]
            accuracy = [r.accuracy for r in found]
            rows.append(
                [
                    name,
                    f"{100 * ratio:g}",
                    found[0].images,
                    len(found),
                    spread(accuracy),
                    against_random(runs, name, ratio),
                    mean_percent([r.soft_ratio for r in found]),
                    mean_percent([r.wrong_dropped for r in found]),
                ]
            )
    head = ["trained on", "keep %", "images", "seeds", "accuracy %", "against random, paired"]
    head += ["soft ratio %", "wrong labels among dropped %"]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def against_random(runs: dict[Part, Run], name: str, ratio: float) -> str:
    if name != "selected":
        return ""
    gaps = [
        run.accuracy - runs[Part("random", ratio, part.wrong, part.seed)].accuracy
        for part, run in runs.items()
        if (part.name, part.keep_ratio) == (name, ratio)
        and Part("random", ratio, part.wrong, part.seed) in runs
    ]
    return f"{spread(gaps)}, ahead in {sum(g > 0 for g in gaps)} of {len(gaps)}" if gaps else ""


def mean_percent(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * np.mean(known):.1f}" if known else ""


def ablation_table(runs: dict[Part, Run]) -> str:
    rows = []
    first = next(part for part in runs if part.name.startswith("without"))
    for name in ("selected", "random", *(f"without {term}" for term in ABLATIONS)):
        found = [
            r
            for p, r in runs.items()
            if (p.name, p.keep_ratio, p.wrong) == (name, first.keep_ratio, first.wrong)
        ]
        if found:
            accuracy = spread([r.accuracy for r in found])
            rows.append([name, len(found), accuracy, mean_percent([r.soft_ratio for r in found])])
    head = [f"at {100 * first.keep_ratio:g}% kept", "seeds", "accuracy %", "soft ratio %"]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def report(args: argparse.Namespace, runs: dict[Part, Run]) -> str:
    given = [argument for argument in sys.argv[1:] if argument != "--table-only"]
    command = shlex.join(["python", "benchmarks/classification.py", *given])
    asked = sum(1 for _ in all_parts(args))
    device = "a GPU" if torch.cuda.is_available() else "a CPU"
    done = "" if len(runs) >= asked else f"Stopped after {len(runs)} of {asked} runs. "
    seeds = sorted({part.seed for part in runs})
    lines = [
        f"# Classification: {args.name}",
        "",
        f"    {command}",
        "",
        f"{done}Seeds {', '.join(map(str, seeds))}; mean ± standard deviation over the",
        f"seeds; the last epoch on the test set; torch {torch.__version__} on {device}. "
        f"{sum(run.seconds for run in runs.values()) / 60:.0f} minutes in all.",
    ]
    return "\n".join(lines + tables(runs)) + "\n"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the result files")
    parser.add_argument("--config-file", default=DIGITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep-ratios", type=float, nargs="+", default=[0.9, 0.8, 0.6])
    parser.add_argument("--wrong", type=float, nargs="+", default=[0.0, 0.15])
    parser.add_argument("--ablations", nargs="*", default=list(ABLATIONS), choices=ABLATIONS)
    parser.add_argument("--ablation-ratio", type=float, default=0.9)
    parser.add_argument("--train-model", default="", help="another MODEL.NAME, after pruning")
    parser.add_argument("--table-only", action="store_true", help="of the runs that are there")
    parser.add_argument("opts", nargs="*", help="KEY VALUE overrides")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    path = RESULTS / f"classification_{args.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = load_runs(path)
    with reported():
        cfg = load_config(args.config_file, args.opts)
        for part in all_parts(args):
            if part in runs or args.table_only:
                continue
            run = runs[part] = run_part(cfg, part, args.train_model)
            with path.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            path.with_suffix(".md").write_text(report(args, runs))
            print(f"{part}: {run.accuracy:.2f}% in {run.seconds:.0f} s", flush=True)
    path.with_suffix(".md").write_text(report(args, runs))
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
