"""The paper's experiments in one command each: its figures beside ours, with the differences.

    python benchmarks/paper.py fig2 -- DATA.DOWNLOAD True
    python benchmarks/paper.py table4 --seeds 0 --minutes 8 --data ../shared/data
    python benchmarks/paper.py table3 --processes 1
    python benchmarks/paper.py fig2 --scale cpu --data ../shared/data --processes 2

fig2, table1, table2, table3, table4 and table5. Each is a grid, as ``adapruner compare`` has it,
whose cells lie in --folder: what was stopped goes on where it was, by the same command, and several
processes or machines may share it. fig3 is of one process, and goes on likewise. --minutes ends it
with what it has by then saved, so that a training longer than that is made in parts.

The scale ``gpu`` is the paper's: its models, 200 epochs of 256 images, VOC by Detectron2. What it
does not give is ours: the warm-up, the seeds, the schedules of fine-tuning and of VOC. ResNet-18
selects for all (in Table 1 ResNet-50, in Table 3 YOLOv3-Tiny), as the paper says of its Figure 2.
The scale ``cpu`` is the same on small data and models: digits, or the packed sets of --data at half
the size; and the demo's scenes for Table 3. Its values are no test of the paper's, of other data;
what stands in both columns is how a method compares with training on all.

--data is a folder with packed data, cifar10, cifar100_part and mnist; without it the data sets are
those that DATA.ROOT has or DATA.DOWNLOAD fetches. KEY VALUE after ``--`` hold for every
configuration. --write puts the page into benchmarks/results. Shape letters: N samples.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent))

import figure3

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import transfer
from adapruner_det.classification.task import ClassificationTask
from adapruner_det.cli.arguments import log_to
from adapruner_det.errors import DataError, reported
from adapruner_det.experiment.board import Board, Part, board_of, rows_of
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.results import write_results
from adapruner_det.experiment.running import run_parts
from adapruner_det.experiment.tables import Setting, by_seed, methods_of, settings_of, spread
from adapruner_det.experiment.task import Budget, Run, Task
from adapruner_det.experiment.transfer import Transfer
from adapruner_det.files import require_writable
from adapruner_det.methods.base import Guide
from adapruner_det.selection import Selection
from adapruner_det.stopping import Stopped

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
RESULTS = ROOT / "benchmarks" / "results"
PAPER = json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))

#: The paper's eight rivals and AdaPruner; prototypes are its BNSL.
PEERS = ("random", "forgetting", "glister", "el2n", "grand", "herding", "cg-score", "prototypes")
METHODS = (*PEERS, "adapruner")
LIGHT, DEEP = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7), (0.95, 0.9, 0.8, 0.7, 0.6)
ABLATIONS = ("adapruner[CLASSIFICATION_LOSS=False]", "adapruner[SELECTION_LOSS=False]")

#: What stands for the paper's models on a CPU: two widths of the small CNN.
SMALL = {
    "resnet18": ("MODEL.NAME", "small", "MODEL.WIDTH", "16"),
    "resnet50": ("MODEL.NAME", "small", "MODEL.WIDTH", "32"),
}

#: Data set → the folder of its packed files in --data.
PACKED = {"cifar10": "cifar10", "cifar100": "cifar100_part", "mnist": "mnist"}
#: On a CPU: 16x16 pixels, as many images as train until they are learnt in a few minutes.
REDUCED = ("DATA.SHRINK", "2", "SOLVER.EPOCHS", "40", "ADAPRUNER.WARMUP_EPOCHS", "8")


@dataclass(frozen=True)
class Where:
    """What a run's arguments say of its data.

    Attributes:
        scale: ``gpu`` or ``cpu``.
        data: the folder of packed data; empty where there is none.
        opts: overrides of every configuration.
    """

    scale: str
    data: str
    opts: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One task of a table or a figure.

    Attributes:
        name: of its part in paper.json.
        make: makes the task.
        methods, keep_ratios: of its grid.
    """

    name: str
    make: Callable[[], Task]
    methods: tuple[str, ...]
    keep_ratios: tuple[float, ...]


class FineTuned(ClassificationTask):
    """Trains on the kept part of one data set, then on all of another, on which it is tested.

    Args:
        cfg: of the pre-training.
        data: what it names.
        target_cfg: of the fine-tuning, of the same model.
        target: what that names.
    """

    def __init__(self, cfg: Any, data: Any, target_cfg: Any, target: Any) -> None:
        super().__init__(cfg, data)
        second = ClassificationTask(target_cfg, target)
        self._target_cfg, self._target = target_cfg.clone(), target
        both = f"{self.identity} then {second.identity}"
        self.identity = hashlib.sha256(both.encode()).hexdigest()
        self.title = f"{self.title} fine-tuned on {target.train.name}"

    def train(
        self,
        seed: int,
        folder: Path,
        *,
        kept: Selection | None = None,
        guide: Guide | None = None,
        budget: Budget = "epochs",
        test: Selection | None = None,
        resume: bool = True,
    ) -> Run:
        """Both trainings; what is measured is the second one's accuracy."""
        if guide is not None or budget != "epochs" or test is not None:
            raise ValueError("it selects nothing, and is trained for equal epochs")
        source, target = self._cfg.clone(), self._target_cfg.clone()
        source.SEED = target.SEED = seed
        source.OUTPUT_DIR, target.OUTPUT_DIR = str(folder / "source"), str(folder / "target")
        before, after = transfer(source, self.data, target, self._target, kept, resume=resume)
        return Run(
            metric=self.metric,
            value=after.accuracy,
            images=before.images,
            steps=before.steps + after.steps,
            epochs=before.epochs + after.epochs,
            seconds=before.seconds + after.seconds,
            seed=seed,
        )


def fig2(where: Where) -> list[Experiment]:
    """CIFAR-10 and CIFAR-100, trained by ResNet-18 and ResNet-50 on what ResNet-18 selects."""
    sets = ("cifar10", "cifar100") if where.scale == "gpu" or where.data else ("cifar10",)
    return [
        Experiment(f"{name}_{model}", _transfer(where, name, model), METHODS, DEEP)
        for name in sets
        for model in SMALL
    ]


def table1(where: Where) -> list[Experiment]:
    """Tiny-ImageNet by ResNet-50, from ImageNet's weights."""
    make = functools.partial(make_one, where, "tiny_imagenet", "resnet50")
    return [Experiment("tiny_imagenet_resnet50", make, METHODS, LIGHT)]


def table2(where: Where) -> list[Experiment]:
    """Pre-trained on what is kept of CIFAR-100, fine-tuned on CIFAR-10."""
    return [
        Experiment(model, functools.partial(make_fine_tuned, where, model), METHODS, DEEP)
        for model in SMALL
    ]


def table3(where: Where) -> list[Experiment]:
    """VOC: YOLOv3-Tiny selects; it and Faster R-CNN are trained."""
    return [
        Experiment(name, functools.partial(make_detector, where, name), ("random", "adapruner"),
                   LIGHT[:-1])
        for name in ("yolov3tiny", "faster_rcnn")
    ]  # fmt: skip


def table4(where: Where) -> list[Experiment]:
    """CIFAR-10 with and without the warm-up."""
    methods = ("random", "adapruner", "adapruner[WARMUP_EPOCHS=0]")
    return [Experiment(m, _transfer(where, "cifar10", m), methods, DEEP) for m in SMALL]


def table5(where: Where) -> list[Experiment]:
    """CIFAR-10 at 90%, without one of the losses."""
    methods = ("random", "adapruner", *ABLATIONS)
    return [Experiment(m, _transfer(where, "cifar10", m), methods, (0.9,)) for m in SMALL]


TABLES = {own.__name__: own for own in (fig2, table1, table2, table3, table4, table5)}


def _transfer(where: Where, name: str, model: str) -> Callable[[], Task]:
    """ResNet-18 selects, ``model`` is trained."""
    if model == "resnet18":
        return functools.partial(make_one, where, name, model)
    return functools.partial(make_transfer, where, name, model)


def make_one(where: Where, name: str, model: str) -> ClassificationTask:
    cfg = config_of(where, name, model)
    return ClassificationTask(cfg, load_data(cfg))


def make_transfer(where: Where, name: str, model: str) -> Task:
    chooser = config_of(where, name, "resnet18")
    data = load_data(chooser)
    learner = ClassificationTask(config_of(where, name, model), data)
    return Transfer(ClassificationTask(chooser, data), learner)


def make_fine_tuned(where: Where, model: str) -> Task:
    chooser, source = (config_of(where, "cifar100", own) for own in ("resnet18", model))
    target = config_of(where, "cifar10", model, "cifar10_finetune.yaml")
    data = load_data(source)
    learner = FineTuned(source, data, target, load_data(target))
    return Transfer(ClassificationTask(chooser, data), learner)


def make_detector(where: Where, name: str) -> Task:
    from adapruner_det.detection.task import make_task  # the others need no Detectron2

    kind = "voc" if where.scale == "gpu" else "demo"
    tasks = [
        make_task(str(CONFIGS / f"{kind}_{detector}.yaml"), where.opts)
        for detector in dict.fromkeys(("yolov3tiny", name))
    ]
    return tasks[0] if len(tasks) == 1 else Transfer(*tasks)


def config_of(where: Where, name: str, model: str, own: str = "") -> Any:
    """The configuration of a data set and a model, at a scale.

    Args:
        where: the data, and the overrides that come last.
        name: of the paper's data set.
        model: of the paper's model.
        own: a file of configs/classification in place of the model's, at the paper's scale.
    """
    folder = CONFIGS / "classification"
    packed = PACKED.get(name) if where.data else None
    source = ("DATA.NAME", "packed", "DATA.ROOT", f"{where.data}/{packed}") if packed else ()
    if where.scale == "gpu":
        file = own or f"{name}_{model}.yaml"
        model_options = ("MODEL.NAME", model) if own else ()
        options = (*source, *model_options, *where.opts)
        return load_config(str(folder / file), options)
    file = f"{name}_cpu.yaml" if packed else "digits.yaml"
    size = REDUCED if packed and name != "mnist" else ()
    size = (*size, "DATA.NUM_TRAIN", "10000") if packed and name == "cifar10" else size
    if own and not packed:  # other digits, to be fine-tuned on
        size = ("DATA.NUM_TRAIN", "300", "DATA.SEED", "1", "SOLVER.LR", "0.02")
    return load_config(str(folder / file), (*source, *size, *SMALL[model], *where.opts))


def main(words: Sequence[str]) -> None:
    args = parse(words)
    end_after(args.minutes)
    if args.which == "fig3":
        with reported():
            figure3.main(figure3_words(args))
        return
    with reported():
        experiments = TABLES[args.which](args.where)
        parts = [Part(grid_of(own, args), own.make) for own in experiments]
        require_writable(args.folder)
        log_to(args.folder / "log.txt")
        tasks = [part.make_task() for part in parts]
        stopped = None
        try:
            if not args.table_only:
                run_parts(parts, args.folder, processes=args.processes, tasks=tasks)
        except (Stopped, DataError) as error:  # what there is is told, and then that
            stopped = error
        boards = [
            board_of([part], [task], args.folder)[0]
            for part, task in zip(parts, tasks, strict=True)
        ]
        names = [own.name for own in experiments]
        write_results(args.folder, list(zip(names, boards, tasks, strict=True)))
        text = page(args, words, list(zip(names, boards, tasks, strict=True)))
        place = RESULTS if args.write else args.folder
        (place / f"paper_{args.which}_{args.where.scale}.md").write_text(text, encoding="utf-8")
        print(text)
        if stopped is not None:
            raise stopped


def grid_of(experiment: Experiment, args: argparse.Namespace) -> Grid:
    """What is compared in one of them; arguments leave parts out."""
    names = [m for m in experiment.methods if not args.methods or m.split("[")[0] in args.methods]
    ratios = [r for r in experiment.keep_ratios if not args.keep_ratios or r in args.keep_ratios]
    if not names or not ratios:
        raise DataError(
            f"{args.which} has the methods {', '.join(experiment.methods)} and keeps "
            f"{', '.join(map(str, experiment.keep_ratios))}; nothing is left of it"
        )
    return Grid(tuple(names), tuple(ratios), tuple(args.seeds))


def page(
    args: argparse.Namespace, words: Sequence[str], parts: Sequence[tuple[str, Board, Task]]
) -> str:
    """The paper's figures beside ours."""
    own = PAPER[args.which]
    cells = {cell.name: cell for _, board, _ in parts for cell in board.cells}
    done = sum(any(b.result(c) is not None for _, b, _ in parts) for c in cells.values())
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    lines = [
        f"# {args.which}, scale {args.where.scale}: {own['metric']}",
        "",
        f"    {shlex.join(['python', 'benchmarks/paper.py', *words])}",
        "",
        f"{done} of {len(cells)} cells are done; torch {torch.__version__} on {on}. "
        f"The paper's values are one number each. {own.get('note', '')}".rstrip(),
    ]
    if args.where.scale == "cpu":
        lines += ["", "Other data and models than the paper's: only the last two columns compare."]
    for name, board, task in parts:
        lines += ["", f"## {name}: {task.title}", "", beside(own.get(name, {}), board)]
    return "\n".join(lines) + "\n"


def beside(paper: Mapping[str, Mapping[str, float]], board: Board) -> str:
    """A line a method and keep ratio: the paper's value, ours, and what each has above its full.

    Ours is paired by seed.
    """
    rows = rows_of(board)
    full = {seed: r.value for seed, r in by_seed(rows, "full", Setting(1.0, "epochs")).items()}
    whole = next((own["100"] for own in paper.values() if "100" in own), None)
    found = [["full", "100", *_compared(whole, [*full.values()], None, [])]]
    for setting in settings_of(rows):
        for method in methods_of(rows):
            own = {seed: row.value for seed, row in by_seed(rows, method, setting).items()}
            above = [value - full[seed] for seed, value in own.items() if seed in full]
            percent = f"{100 * setting.keep_ratio:g}"
            theirs = paper.get(method, {}).get(percent)
            found.append([method, percent, *_compared(theirs, [*own.values()], whole, above)])
    head = ["trained on", "keep %", "paper", "ours, mean ± sd", "ours - paper"]
    head += ["paper - its full", "ours - our full"]
    return tabulate(found, head, tablefmt="github", disable_numparse=True)


def _compared(
    theirs: float | None, values: list[float], whole: float | None, above: list[float]
) -> list[str]:
    """The last five columns of a line, of values and what each is above its full."""
    ours = float(np.mean(values)) if values else None
    return [
        "" if theirs is None else f"{theirs:.2f}",
        spread(values) if values else "",
        _difference(ours, theirs),
        _difference(theirs, whole),
        f"{np.mean(above):+.2f}" if above else "",
    ]


def _difference(one: float | None, other: float | None) -> str:
    return "" if one is None or other is None else f"{one - other:+.2f}"


def figure3_words(args: argparse.Namespace) -> list[str]:
    """What benchmarks/figure3.py is called with.

    Raises:
        DataError: an option that it has no use for.
    """
    where = args.where
    unused = {
        "--methods": args.methods,
        "--keep-ratios": args.keep_ratios,
        "--processes": args.processes > 1,
        "--table-only": args.table_only,
    }
    if given := [name for name, value in unused.items() if value]:
        raise DataError(f"{given[0]} has no effect on fig3, which is no grid: leave it out")
    words = ["--name", f"mnist_{where.scale}", "--folder", str(args.folder)]
    words += ["--seeds", *map(str, args.seeds), *(["--write"] if args.write else [])]
    opts = [*where.opts]
    if where.data:
        words += ["--data", f"{where.data}/{PACKED['mnist']}"]
    if where.scale == "cpu":
        file = "mnist_cpu.yaml" if where.data else "digits.yaml"
        words += ["--config-file", str(CONFIGS / "classification" / file)]
        opts = [*(("DATA.NUM_TRAIN", "10000") if where.data else ()), *opts]
    return [*words, *(["--", *opts] if opts else [])]


def end_after(minutes: float) -> None:
    """Ask this process to end then; trainings save what they have."""
    if minutes:
        timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def parse(words: Sequence[str]) -> argparse.Namespace:
    own = list(words)
    opts = own[own.index("--") + 1 :] if "--" in own else []
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("which", choices=[*TABLES, "fig3"])
    add("--scale", choices=["gpu", "cpu"], default="gpu")
    add("--data", default="", metavar="FOLDER", help="of packed data")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--methods", nargs="+", metavar="METHOD", help="those alone, of the paper's")
    add("--keep-ratios", type=float, nargs="+", metavar="RATIO", help="those alone")
    add("--minutes", type=float, default=0, help="after which it ends, to go on by the same call")
    add("--processes", type=int, default=1, help="cells side by side")
    add("--folder", type=Path, help="default: output/paper/<which>_<scale>")
    add("--table-only", action="store_true", help="of the cells that are there")
    add("--write", action="store_true", help="the page to benchmarks/results")
    args = parser.parse_args(own[: own.index("--")] if "--" in own else own)
    args.folder = args.folder or ROOT / "output" / "paper" / f"{args.which}_{args.scale}"
    args.where = Where(args.scale, args.data, tuple(opts))
    return args


if __name__ == "__main__":
    main(sys.argv[1:])
