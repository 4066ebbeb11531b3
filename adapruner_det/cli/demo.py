"""What `make demo` runs: prune the demo data with a real detector and retrain on what was kept.

Every number it prints is measured in this very run. It needs the project's checkout, where
datasets/make_demo.py has made the data, and so is no sub-command.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ..detection import compare
from ..detection.setup import check_pruning_inputs, load_config, run_folder
from ..errors import reported
from ..report.faults import dropped_faults

SEEDS = [0, 1]


def main(tool: str) -> None:
    """Run the demo of the checkout in whose ``tools/`` the file ``tool`` lies."""
    root = Path(tool).resolve().parent.parent
    os.environ.setdefault("DETECTRON2_DATASETS", str(root / "datasets"))
    start = time.perf_counter()
    with reported():
        cfg = load_config(str(root / "configs/demo_yolov3tiny.yaml"))
        check_pruning_inputs(cfg)
        with run_folder(cfg):
            compare.log_to_file(cfg.OUTPUT_DIR)
            show(cfg, root, start)


def show(cfg: Any, root: Path, start: float) -> None:
    """Run the comparison and print what came of it; ``start`` is when the clock began."""
    print(
        f"YOLOv3-Tiny on the demo data, {len(SEEDS)} seeds: each prunes to "
        f"{cfg.ADAPRUNER.KEEP_RATIO:.0%}, then trains on all, a random part and the selected part.",
        flush=True,
    )
    runs, selections = compare.compare(cfg, SEEDS, processes=min(len(SEEDS), os.cpu_count() or 1))
    print(f"\n{compare.table(runs)}\n{compare.verdict(runs)}\n")
    truth = json.loads((root / "datasets/demo/truth.json").read_text())["images"]
    print(dropped_faults(selections, {k: v["kind"] for k, v in truth.items()}))
    parts = ("prune", "all", "random", "selected")
    mean = {p: sum(r.seconds for r in runs if r.part == p) / len(SEEDS) for p in parts}
    print(
        "\nSeconds of a run, mean over the seeds, which run side by side: "
        + ", ".join(f"{part} {seconds:.0f}" for part, seconds in mean.items())
        + f". Everything together: {time.perf_counter() - start:.0f}."
        f"\nSelections: {cfg.OUTPUT_DIR}/seed*/prune/selection.json"
    )
