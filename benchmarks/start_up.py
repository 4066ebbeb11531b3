#!/usr/bin/env python3
"""How long a run on many images takes to its first step, and what its loading processes hold.

    python benchmarks/start_up.py                 # 100,000 images in the VOC layout
    python benchmarks/start_up.py --images 10000 --write

It makes a folder of small images, two boxes each, starts tools/prune_net.py on it with an empty
cache of checked images and again with the full one, and stops each run after some steps. Of the
second it also reads, twice, how much memory each loading process has to itself.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/start_up.md"
ANNOTATION = """<annotation><size><width>64</width><height>64</height><depth>3</depth></size>
<object><name>{0}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
<object><name>{1}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>{2}</xmin><ymin>20</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object>
</annotation>
"""
#: Runs the tool and writes the clock's time at each of its first steps to a file.
RUNNER = """
import runpy, sys, time
from detectron2.engine import HookBase
from adapruner_det.detection.training.trainer import PruningTrainer

clock, *sys.argv = sys.argv[1:]

class Clock(HookBase):
    def after_step(self):
        with open(clock, "a") as file:
            print(time.time(), file=file)

build_hooks = PruningTrainer.build_hooks
PruningTrainer.build_hooks = lambda self: [Clock(), *build_hooks(self)]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def make_folder(root, images):
    """A folder in the VOC layout; the images are a few files under many names."""
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(100):
        pixels = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        pictures.append(root / f"picture{i}.jpg")
        Image.fromarray(pixels).save(pictures[-1])
    ids = [f"{i:06d}" for i in range(images)]
    for i, image_id in enumerate(ids):
        os.link(pictures[i % 100], root / f"JPEGImages/{image_id}.jpg")
        text = ANNOTATION.format("cat", ("dog", "cow")[i % 2], 10 + i % 40)
        (root / f"Annotations/{image_id}.xml").write_text(text)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(ids) + "\n")


def start(folder, workers, steps, images):
    """Run the tool to its ``steps``-th step: (seconds to the first, private MiB of each worker).

    The memory is read after a tenth of the steps and after all of them.
    """
    clock, output = folder / "clock", folder / "out"
    clock.unlink(missing_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", RUNNER, clock, ROOT / "tools/prune_net.py"]
    command += ["--config-file", ROOT / "configs/demo_yolov3tiny.yaml"]
    command += ["ADAPRUNER.VOC_FOLDERS", f"['big={folder}:train']", "DATASETS.TRAIN", "('big',)"]
    command += [
        "DATASETS.TEST",
        "()",
        "MODEL.YOLO.INPUT_SIZE",
        "64",
        "MODEL.DARKNET.WIDTH",
        "0.125",
    ]
    command += ["SOLVER.MAX_ITER", str(2 * images), "SOLVER.IMS_PER_BATCH", "8"]
    command += ["DATALOADER.NUM_WORKERS", str(workers), "OUTPUT_DIR", str(output)]
    command += ["ADAPRUNER.WARMUP_EPOCHS", "2"]
    began = time.time()
    environment = {**os.environ, "ADAPRUNER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
        memory = []
        try:
            for wanted in (1, steps // 10, steps):
                while _steps(clock) < wanted:
                    if process.poll() is not None:
                        raise SystemExit((folder / "log").read_text()[-2000:])
                    time.sleep(0.05)
                memory.append(_private_mib(process.pid))
        finally:
            process.kill()
            process.wait()
    return float(clock.read_text().split()[0]) - began, memory[1], memory[2]


def _steps(clock):
    return clock.read_text().count("\n") if clock.exists() else 0


def _private_mib(pid):
    """What each child of a process has to itself, in MiB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in children:
        text = Path(f"/proc/{child}/smaps_rollup").read_text()
        found.append(sum(map(int, re.findall(r"Private_(?:Clean|Dirty): +(\d+) kB", text))) / 1024)
    return found


def row(cache, seconds, early, late):
    """A line of the table; ``early`` and ``late`` have each worker's private MiB."""
    memory = [" ".join(f"{mib:.0f}" for mib in part) for part in (early, late)]
    return f"| {cache} | {seconds:.1f} | {memory[0]} | {memory[1]} |"


def page(args, rows):
    """What was measured by which command, and its table."""
    return (
        "# Start of a run on many images\n\n"
        f"`python benchmarks/start_up.py --images {args.images} --workers {args.workers} "
        f"--steps {args.steps}` on {os.cpu_count()} CPU cores.\n\n"
        f"| cache of checked images | seconds to the first step | MiB private to each worker after "
        f"{args.steps // 10} steps | after {args.steps} |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(ROOT)}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"making {args.images} images ...", flush=True)
        make_folder(folder, args.images)
        rows = []
        for cache in ("empty", "full"):
            rows.append(row(cache, *start(folder, args.workers, args.steps, args.images)))
            print(rows[-1], flush=True)
    text = page(args, rows)
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
