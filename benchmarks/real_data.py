#!/usr/bin/env python3
"""Prune, retrain and compare on real detection data, with both detectors, on a CPU.

benchmarks/real_data.py --data FOLDER --set bccd --detector yolo --num-seeds 2

FOLDER holds VOC-layout folders `bccd` and `foda` with the splits trainval and test. The result is a
section of benchmarks/results/real_data.md.
"""

import argparse
import platform
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from adapruner_det.cli.arguments import log_to
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.task import make_task
from adapruner_det.errors import reported
from adapruner_det.experiment.board import Board, rows_of, selection_of
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.running import run
from adapruner_det.experiment.tables import Setting, main_table, verdict
from adapruner_det.experiment.task import Task

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/real_data.md"
METHOD = "adapruner"

# Small inputs and small backbones, so that two CPU cores do it in minutes.
DETECTORS = {
    "yolo": (
        "configs/demo_yolov3tiny.yaml",
        ["MODEL.YOLO.ANCHOR_MASKS", "[[3, 4, 5], [0, 1, 2]]"],
    ),
    "faster_rcnn": (
        "configs/demo_faster_rcnn.yaml",
        ["INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", 96],
    ),
}
ANCHORS_AT_416 = np.array([[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]])
# Set and detector: side of YOLO's input, its width, epochs, every how many-th training image.
SETTINGS = {
    ("bccd", "yolo"): (192, 0.5, 16, 1),
    ("bccd", "faster_rcnn"): (None, None, 8, 2),
    ("foda", "yolo"): (160, 0.25, 8, 2),
    ("foda", "faster_rcnn"): (None, None, 8, 10),
}


def thinned(folder: Path, every: int, out: Path) -> Path:
    """``folder`` with every ``every``-th image of its trainval split, as links in ``out``."""
    if every == 1:
        return folder
    (out / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for name in ("Annotations", "JPEGImages"):
        if not (out / name).exists():
            (out / name).symlink_to(folder / name)
    for split, step in (("trainval", every), ("test", 1)):
        lines = (folder / "ImageSets/Main" / f"{split}.txt").read_text().splitlines()
        (out / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(lines[::step]) + "\n")
    return out


def configuration(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The configuration of one set with one detector, and its overrides."""
    config, own = DETECTORS[args.detector]
    name = args.set
    side, width, epochs, every = SETTINGS[name, args.detector]
    output = Path("output") / f"{name}_{args.detector}"
    root = thinned(Path(args.data).resolve() / name, every, output.resolve() / "data")
    images = len((root / "ImageSets/Main/trainval.txt").read_text().split())
    folders = [f"{name}_{split}={root}:{split}" for split in ("trainval", "test")]
    if side:
        anchors = (ANCHORS_AT_416 * side / 416).round(1).tolist()
        yolo = ["MODEL.YOLO.INPUT_SIZE", side, "MODEL.DARKNET.WIDTH", width]
        own = [*own, *yolo, "MODEL.YOLO.ANCHORS", str(anchors)]
    fixed = [
        "MODEL.DEVICE", "cpu",
        "ADAPRUNER.VOC_FOLDERS", str(folders),
        "ADAPRUNER.WARMUP_EPOCHS", epochs // 2,
        "DATASETS.TRAIN", str((f"{name}_trainval",)), "DATASETS.TEST", str((f"{name}_test",)),
        "SOLVER.MAX_ITER", -(-epochs * images // 8), "SOLVER.IMS_PER_BATCH", 8,
        "SOLVER.BASE_LR", 0.01, "SOLVER.WARMUP_ITERS", 50,
        "INPUT.RANDOM_FLIP", "horizontal", "INPUT.CROP.ENABLED", False,
        "OUTPUT_DIR", str(output),
    ]  # fmt: skip
    return str(ROOT / config), [*own, *fixed, *args.opts]


def section(board: Board, task: Task, ratio: float, seconds: float) -> str:
    """A section of the results file, of a grid that is done."""
    rows, metric = rows_of(board), task.metric
    selections = [
        selection_of(cell, board.root, ratio)
        for cell in board.cells
        if cell.kind == "select" and cell.method == METHOD
    ]
    kept = " ".join(f"{s.num_kept}/{s.num_samples}" for s in selections)
    ratios = " ".join(f"{s.soft_ratio:.4f}" for s in selections)
    return "\n".join(
        [
            f"## {task.title}",
            "",
            f"    {shlex.join(['python', *sys.argv])}",
            "",
            f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), "
            f"torch {torch.__version__}; {time.strftime('%Y-%m-%d')}; {task.epochs} epochs; "
            f"{seconds:.0f} s together.",
            f"Kept {kept}, soft ratio before the cut {ratios}.",
            "",
            main_table(rows, metric),
            "",
            verdict(rows, METHOD, Setting(ratio, "epochs"), metric),
            "",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", choices=["bccd", "foda"], required=True)
    parser.add_argument("--detector", choices=DETECTORS, required=True)
    parser.add_argument("--keep-ratio", type=float, default=0.8)
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="cells side by side")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    args = parser.parse_args()
    start = time.perf_counter()
    with reported():
        config, overrides = configuration(args)
        folder = Path(load_config(config, overrides).OUTPUT_DIR)
        make = partial(make_task, config, overrides)
        task = make()
        grid = Grid(("random", METHOD), (args.keep_ratio,), tuple(range(args.num_seeds)))
        folder.mkdir(parents=True, exist_ok=True)
        log_to(folder / "log.txt")
        run(grid, make, folder, processes=args.processes, task=task)
        board = Board(cells(grid, task), folder)
    text = section(board, task, args.keep_ratio, time.perf_counter() - start)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(text)


if __name__ == "__main__":
    main()
