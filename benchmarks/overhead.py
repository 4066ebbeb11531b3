"""What pruning adds to a training step: its time and peak memory over Detectron2's own.

    python benchmarks/overhead.py                          # every detector, 30 pairs each
    python benchmarks/overhead.py --only yolov3_tiny --pairs 60
    python benchmarks/overhead.py --objective inclusion \\
        --output benchmarks/results/overhead_inclusion.md
    python benchmarks/overhead.py --depth 18 --side 128 --pairs 8 --output ''   # a first look

Each pair is one step of stock training and one of pruning, of the same detector with the same
weights, batch and random state, in alternating order in one process. A step is forward, backward,
optimizer and the losses' values; pruning adds the mask's weights and its update, in the phase in
which all of it is active. The ratio is the median over pairs of pruning / stock, in wall time and
in the processor time of the process, which does not see the machine's other jobs.

Peak memory is the largest resident set of a process that does five steps, libraries included, of
one process each. Weights stay as they are, so that both find the same regions. ``serial`` is the
wall time of a step that runs image by image, over stock.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg, instantiate
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch import nn

from adapruner_det import AdaPruner, add_adapruner_config
from adapruner_det.core import Schedule
from adapruner_det.core.inclusion import Inclusion
from adapruner_det.detection.per_image.serial import serial_losses
from adapruner_det.detection.training.weighting import LossWeighting

RESULTS = Path(__file__).parent / "results" / "overhead.md"
NUM_SAMPLES = 16551  # of VOC 2007 + 2012 trainval
NUM_CLASSES, NUM_KEYPOINTS = 20, 17
REGIONS = 64  # per image, not 512: the heads' work shrinks, and what pruning adds to it does not
# Name: Detectron2's configuration, and the largest ratio of step times that is allowed.
DETECTORS = {
    "yolov3_tiny": (None, 1.01),
    "faster_rcnn_fpn": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", 1.01),
    "faster_rcnn_c4": ("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml", 1.01),
    "faster_rcnn_dc5": ("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", 1.01),
    "mask_rcnn_fpn": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", 1.02),
    "keypoint_rcnn_fpn": ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", 1.02),
    "cascade_rcnn_fpn": ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", 1.02),
    "retinanet": ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", 1.02),
    "fcos": ("COCO-Detection/fcos_R_50_FPN_1x.py", 1.02),
    "panoptic_fpn": ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml", 1.02),
}
MEMORY_LIMIT = 1.01


def build(name: str, depth: int) -> nn.Module:
    """A detector with random weights, in training mode."""
    torch.manual_seed(0)
    file = DETECTORS[name][0]
    if file and file.endswith(".py"):
        model = model_zoo.get_config(file).model
        model.num_classes = NUM_CLASSES
        model.backbone.bottom_up.stages.depth = depth
        if depth < 50:
            model.backbone.top_block.in_channels = 256
        return instantiate(model).train()
    cfg = get_cfg()
    add_adapruner_config(cfg)
    if file:
        cfg.merge_from_file(model_zoo.get_config_file(file))
    else:
        cfg.MODEL.META_ARCHITECTURE = "YOLOv3Tiny"
        cfg.MODEL.BACKBONE.NAME = "build_darknet_tiny_backbone"
        cfg.MODEL.YOLO.MULTISCALE = []
        cfg.MODEL.YOLO.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = REGIONS
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    return build_model(cfg).train()


def batches(size: int, side: int) -> Iterator[list[dict[str, Any]]]:
    """Endless batches of ``size`` random images of ``side`` x ``side`` with 1 to 5 objects."""
    g = torch.Generator().manual_seed(0)
    while True:
        batch = []
        for _ in range(size):
            count = int(torch.randint(1, 6, (), generator=g))
            corner = torch.rand(count, 2, generator=g) * side / 2
            extent = side * (0.1 + 0.35 * torch.rand(count, 2, generator=g))
            boxes = torch.cat([corner, corner + extent], dim=1)
            truth = Instances((side, side), gt_boxes=Boxes(boxes))
            truth.gt_classes = torch.randint(0, NUM_CLASSES, (count,), generator=g)
            truth.gt_masks = BitMasks(torch.rand(count, side, side, generator=g) > 0.5)
            points = torch.rand(count, NUM_KEYPOINTS, 2, generator=g) * extent[:, None]
            seen = torch.full((count, NUM_KEYPOINTS, 1), 2.0)
            truth.gt_keypoints = Keypoints(torch.cat([points + corner[:, None], seen], dim=2))
            batch.append(
                {
                    "image": torch.randint(0, 256, (3, side, side), generator=g, dtype=torch.uint8),
                    "height": side,
                    "width": side,
                    "instances": truth,
                    "sem_seg": torch.randint(0, 54, (side, side), generator=g),
                    "sample_index": int(torch.randint(0, NUM_SAMPLES, (), generator=g)),
                }
            )
        yield batch


def pruned(detector: nn.Module, objective: str) -> LossWeighting:
    """The detector with a mask in its pruning phase; ``inclusion`` looks at each box besides."""
    model = LossWeighting(detector).train()
    chosen = None
    if objective == "inclusion":
        keys, shown = np.arange(NUM_SAMPLES, dtype=np.uint64), model.source.shows
        chosen = Inclusion(keys, 0, 0.9, 10, gate=shown, parts=shown)
    model.guide = AdaPruner(NUM_SAMPLES, 0.9, Schedule(0, 10), objective=chosen)
    return model


def stepper(
    model: nn.Module, losses_of: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
) -> Callable[[list[dict[str, Any]], int], None]:
    """Detectron2's training step with the random state of ``seed``; pruning where it prunes."""
    # No learning rate, or the two would soon propose other regions, of other size and number.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step(batch: list[dict[str, Any]], seed: int) -> None:
        torch.manual_seed(seed)
        with EventStorage(seed):
            losses = losses_of(batch)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            {name: value.item() for name, value in losses.items()}
            optimizer.step()
        if isinstance(model, LossWeighting):
            seen = model.observed
            boxes = seen.evidence.signals() if seen.evidence is not None else {}
            asked = {name: boxes[name] for name in model.guide.signals}
            model.guide.observe(seen.ids, seen.losses, **asked)

    return step


def seconds(step: Callable[..., None], batch: list[dict[str, Any]], seed: int) -> tuple:
    """Wall and processor time of a step."""
    batch = copy.deepcopy(batch)
    wall, cpu = time.perf_counter(), time.process_time()
    step(batch, seed)
    return time.perf_counter() - wall, time.process_time() - cpu


def time_ratios(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The table's columns on time."""
    plain = build(name, args.depth)
    wrapped = pruned(copy.deepcopy(plain), args.objective)
    alone = copy.deepcopy(plain)
    stock, ours = stepper(plain, plain), stepper(wrapped, wrapped)
    serial = stepper(
        alone, lambda batch: {k: v.mean() for k, v in serial_losses(alone, batch).items()}
    )
    stream = batches(args.batch, args.side)
    for step in (stock, ours):
        seconds(step, next(stream), 0)
    walls, cpus, stocks, serials = [], [], [], []
    for i in range(args.pairs):
        batch = next(stream)
        if i % 2:
            mine, theirs = seconds(ours, batch, i), seconds(stock, batch, i)
        else:
            theirs, mine = seconds(stock, batch, i), seconds(ours, batch, i)
        walls.append(mine[0] / theirs[0])
        cpus.append(mine[1] / theirs[1])
        stocks.append(theirs[0])
        if i % 6 == 5:
            serials.append(seconds(serial, batch, i)[0] / theirs[0])
    return {"stock": stocks, "wall": walls, "cpu": cpus, "serial": serials}


def peak_memory(name: str, args: argparse.Namespace, variant: str) -> int:
    """KiB, of a process of its own."""
    sizes = ["--depth", args.depth, "--side", args.side, "--batch", args.batch]
    sizes += ["--objective", args.objective]
    command = [sys.executable, __file__, "--only", name, "--memory-of", variant, *map(str, sizes)]
    # Freed memory goes back at once: what the heap happens to keep differs from run to run.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout.split()[-1])


def print_peak_memory(args: argparse.Namespace) -> None:
    """Five steps, then the largest resident set of this process."""
    model = build(args.only[0], args.depth)
    if args.memory_of == "pruning":
        model = pruned(model, args.objective)
    step, stream = stepper(model, model), batches(args.batch, args.side)
    for seed in range(5):
        step(next(stream), seed)
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])


def row(name: str, args: argparse.Namespace) -> str:
    """One line of the table."""
    times = time_ratios(name, args)
    memory = peak_memory(name, args, "pruning") / peak_memory(name, args, "stock")
    serial = f"{statistics.median(times['serial']):.2f}" if times["serial"] else "-"
    stock, limit = statistics.median(times["stock"]), DETECTORS[name][1]
    return (
        f"| {name} | {stock:.3f} | {_spread(times['wall'])} | {_spread(times['cpu'])} | {limit} "
        f"| {memory:.4f} | {MEMORY_LIMIT} | {serial} |"
    )


def _spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.4f} ({low:.3f} to {high:.3f})"


def header(args: argparse.Namespace) -> str:
    """What was measured, on what, by which command."""
    options = [a for a in sys.argv[1:] if a]
    return "\n".join(
        [
            "# What pruning adds to a training step",
            "",
            f"`python benchmarks/overhead.py {' '.join(options)}`".replace(" `", "`"),
            "",
            f"{args.pairs} pairs of steps each, batch {args.batch} of {args.side} x {args.side}, "
            f"ResNet-{args.depth} (YOLOv3-Tiny: darknet), R-CNN heads with {REGIONS} regions per "
            "image, float32, one thread of "
            f"{_processor()}; Detectron2 {detectron2.__version__}, PyTorch {torch.__version__}. "
            f"Load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. "
            "Median ratio (quartiles) of pruning over stock.",
            "",
            "| detector | stock step, s | wall time | processor time | allowed | peak memory "
            "| allowed | serial |",
            "|---|---|---|---|---|---|---|---|",
        ]
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=256, help="of the images, in pixels")
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet")
    parser.add_argument("--objective", choices=("paper", "inclusion"), default="paper")
    parser.add_argument("--output", default=str(RESULTS), help="empty: print only")
    parser.add_argument("--memory-of", choices=["stock", "pruning"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_of:
        print_peak_memory(args)
        return
    lines = [header(args)]
    print(lines[0], flush=True)
    for name in args.only:
        lines.append(row(name, args))
        print(lines[-1], flush=True)
    if args.output:
        Path(args.output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
