"""All images, a random part, the selected part: the same detector trained on each.

Every seed has a pruning run, a random draw and three trainings of its own. What the parts have
in common is the configuration and the number of epochs.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.utils.env import seed_all_rng
from tabulate import tabulate
from tqdm import tqdm

from ..methods.random import random_selection
from ..selection import Selection
from .data.kept_splits import register_kept
from .data.own_sets import register_from_config
from .data.samples import SampleIndex
from .training.trainer import EvaluatingTrainer, PruningTrainer, scale_schedule


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        part: ``all``, ``random``, ``selected``, or ``prune`` for the pruning run itself.
        seed: of the run.
        images: how many it was trained on.
        ap50: on the test set, 0 to 100.
        seconds: of training, without the evaluation.
    """

    part: str
    seed: int
    images: int
    ap50: float
    seconds: float


def log_to_file(folder: str) -> None:
    """Send all logs to ``folder/log.txt``, warnings to the terminal too.

    It replaces Detectron2's ``setup_logger``, whose output would drown the progress bars. A
    trainer calls that itself unless the logger is already at INFO.
    """
    os.makedirs(folder, exist_ok=True)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    handlers = [logging.FileHandler(os.path.join(folder, "log.txt")), terminal]
    form = "[%(asctime)s %(name)s] %(levelname)s: %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=handlers, format=form)
    logging.captureWarnings(True)


def compare(
    cfg: CfgNode, seeds: list[int], processes: int = 1
) -> tuple[list[Run], list[Selection]]:
    """Prune and train with each seed; outputs go to ``OUTPUT_DIR/seed<seed>/<part>``.

    Args:
        cfg: of the detector and its data; their folders are registered.
        seeds: one comparison each.
        processes: seeds that run side by side, each on one CPU thread: for small detectors on a
            CPU that is faster than one after the other on all threads.

    Returns:
        Every run, and the selection of each seed.
    """
    if processes == 1:
        results = [compare_seed(cfg, seed) for seed in seeds]
    else:
        with ProcessPoolExecutor(
            processes, get_context("spawn"), initializer=_start_worker, initargs=(cfg,)
        ) as pool:
            results = list(pool.map(partial(compare_seed, cfg), seeds))
    return [run for runs, _ in results for run in runs], [selection for _, selection in results]


def compare_seed(cfg: CfgNode, seed: int) -> tuple[list[Run], Selection]:
    """The pruning run of one seed, and the trainings on all, random and selected images."""
    index = SampleIndex.from_config(cfg)
    trainer, run = _timed(_seeded(cfg, seed, "prune"), PruningTrainer, "prune", len(index))
    selected = trainer.selection
    drawn = random_selection(index.samples, selected.keep_ratio, seed)
    runs = [run]
    for part, selection in (("all", None), ("random", drawn), ("selected", selected)):
        runs.append(train_part(cfg, part, selection, seed, len(index)))
    return runs, selected


def _start_worker(cfg: CfgNode) -> None:
    torch.set_num_threads(1)
    log_to_file(cfg.OUTPUT_DIR)
    register_from_config(cfg)


def train_part(
    cfg: CfgNode, part: str, selection: Selection | None, seed: int, num_samples: int
) -> Run:
    """Train the plain detector on the kept part of ``cfg``'s training set and evaluate it."""
    cfg = _seeded(cfg, seed, part)
    if selection is not None:
        scale_schedule(cfg, selection)
        cfg.DATASETS.TRAIN = register_kept(selection)
    images = num_samples if selection is None else selection.num_kept
    return _timed(cfg, EvaluatingTrainer, part, images)[1]


def table(runs: list[Run]) -> str:
    """AP50 by part: mean over the seeds, every seed's own value, images and seconds."""
    rows = []
    for part in ("all", "random", "selected"):
        found = [run for run in runs if run.part == part]
        values = [run.ap50 for run in found]
        rows.append(
            [
                part,
                found[0].images,
                f"{np.mean(values):.2f} ± {np.std(values, ddof=len(values) > 1):.2f}",
                " ".join(f"{value:.2f}" for value in values),
                f"{np.mean([run.seconds for run in found]):.0f}",
            ]
        )
    head = ["trained on", "images", "AP50, mean ± sd", "each seed", "seconds"]
    return tabulate(rows, head, disable_numparse=True)


def verdict(runs: list[Run]) -> str:
    """One sentence on selected against random; a lead that not every seed shares is called none."""
    ap50 = {(run.part, run.seed): run.ap50 for run in runs}
    seeds = sorted({run.seed for run in runs})
    gaps = np.array([ap50["selected", seed] - ap50["random", seed] for seed in seeds])
    won, mean = int((gaps > 0).sum()), gaps.mean()
    if mean <= 0:
        outcome = "does NOT beat random"
    elif won < len(gaps):
        outcome = "cannot be told from random"
    else:
        outcome = "beats random"
    return f"Selection {outcome} here: {mean:+.2f} AP50, ahead in {won} of {len(gaps)} seeds."


def _seeded(cfg: CfgNode, seed: int, part: str) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = seed
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, f"seed{seed}", part)
    return cfg


def _timed(
    cfg: CfgNode, trainer_class: type[DefaultTrainer], part: str, images: int
) -> tuple[DefaultTrainer, Run]:
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    seed_all_rng(cfg.SEED)
    untested = cfg.clone()
    untested.DATASETS.TEST = ()  # Detectron2 would test within the time that is measured
    trainer = trainer_class(untested)
    trainer.register_hooks([_Progress(f"seed {cfg.SEED}, {part} ({images} images)")])
    trainer.resume_or_load(resume=False)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    ap50 = trainer_class.test(cfg, trainer.model)["bbox"]["AP50"]
    return trainer, Run(part, cfg.SEED, images, ap50, seconds)


class _Progress(HookBase):
    """A progress bar with an ETA."""

    def __init__(self, label: str) -> None:
        self._label = label

    def before_train(self) -> None:
        self._bar = tqdm(desc=self._label, total=self.trainer.max_iter, mininterval=5, unit="it")

    def after_step(self) -> None:
        self._bar.update()

    def after_train(self) -> None:
        self._bar.close()
