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
from pathlib import Path

import numpy as np
import torch

from adapruner_det.detection.compare import compare, log_to_file, table, verdict
from adapruner_det.detection.setup import check_pruning_inputs, load_config
from adapruner_det.errors import reported

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/real_data.md"

# Small inputs and ResNet-18, so that two CPU cores do it in minutes. Anchors follow the input.
DETECTORS = {
    "yolo": ("configs/voc_yolov3tiny.yaml", ["MODEL.YOLO.MULTISCALE", "[]"]),
    "faster_rcnn": ("configs/demo_faster_rcnn.yaml", []),
}
RESNET18 = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
SETS = {
    "bccd": {
        "yolo": ["MODEL.YOLO.INPUT_SIZE", 320, "SOLVER.MAX_ITER", 440],
        "faster_rcnn": [
            "INPUT.MIN_SIZE_TRAIN", "(192,)", "INPUT.MIN_SIZE_TEST", 192, "SOLVER.MAX_ITER", 440,
        ],
    },
    "foda": {
        "yolo": ["MODEL.YOLO.INPUT_SIZE", 160, "SOLVER.MAX_ITER", 3100],
        "faster_rcnn": [
            "INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MIN_SIZE_TEST", 160, "SOLVER.MAX_ITER", 3100,
        ],
    },
}  # fmt: skip


def configuration(args: argparse.Namespace):
    """The configuration of one set with one detector."""
    config, own = DETECTORS[args.detector]
    name = args.set
    folders = [f"{name}_{s}={Path(args.data).resolve() / name}:{s}" for s in ("trainval", "test")]
    fixed = [
        "ADAPRUNER.VOC_FOLDERS", str(folders), "ADAPRUNER.KEEP_RATIO", args.keep_ratio,
        "ADAPRUNER.WARMUP_EPOCHS", 2,
        "DATASETS.TRAIN", str((f"{name}_trainval",)), "DATASETS.TEST", str((f"{name}_test",)),
        "SOLVER.IMS_PER_BATCH", 8, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR",
        "SOLVER.BASE_LR", 0.01, "SOLVER.WARMUP_ITERS", 100, "SOLVER.CHECKPOINT_PERIOD", 10**6,
        "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", f"output/{name}_{args.detector}",
    ]  # fmt: skip
    return load_config(
        str(ROOT / config), [*RESNET18, *own, *fixed, *SETS[name][args.detector], *args.opts]
    )


def report(cfg, runs, selections, seconds: float) -> str:
    """A section of the results file."""
    ratios = " ".join(f"{s.soft_ratio:.4f}" for s in selections)
    kept = " ".join(f"{s.num_kept}/{s.num_samples}" for s in selections)
    pruning = np.mean([run.seconds for run in runs if run.part == "prune"])
    return "\n".join(
        [
            f"## {cfg.DATASETS.TRAIN[0]}, {cfg.MODEL.META_ARCHITECTURE}",
            "",
            f"    {shlex.join(['python', *sys.argv])}",
            "",
            f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), "
            f"torch {torch.__version__}; {time.strftime('%Y-%m-%d')}; {cfg.SOLVER.MAX_ITER} steps "
            f"of {cfg.SOLVER.IMS_PER_BATCH} images; {seconds:.0f} s together.",
            f"Kept {kept}, soft ratio before the cut {ratios}, pruning run {pruning:.0f} s.",
            "",
            "```",
            table(runs),
            verdict(runs),
            "```",
            "",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--detector", choices=DETECTORS, required=True)
    parser.add_argument("--keep-ratio", type=float, default=0.8)
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="seeds side by side")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    args = parser.parse_args()
    start = time.perf_counter()
    with reported():
        cfg = configuration(args)
        cfg.MODEL.DEVICE = "cpu"
        check_pruning_inputs(cfg)
        log_to_file(cfg.OUTPUT_DIR)
        runs, selections = compare(cfg, list(range(args.num_seeds)), args.processes)
    section = report(cfg, runs, selections, time.perf_counter() - start)
    print(section)
    with RESULTS.open("a") as file:
        file.write(section)


if __name__ == "__main__":
    main()
