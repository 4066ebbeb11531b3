"""Runs of the trainers on the coloured squares: begun, stopped, signalled and compared."""

import multiprocessing
import os
from itertools import islice

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng

from adapruner_det import PruningTrainer
from adapruner_det.detection.data.loader import sample_at
from tests.apart import signal_job


class Stopped(Exception):
    pass


class StopAfter(HookBase):
    def __init__(self, step):
        self.step = step

    def after_step(self):
        if self.trainer.iter == self.step:
            raise Stopped


def start(cfg, trainer_class=PruningTrainer, resume=False, hooks=()):
    """As `default_setup` and a training script begin."""
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)
    trainer = trainer_class(cfg)
    trainer.register_hooks(list(hooks))
    trainer.resume_or_load(resume=resume)
    return trainer


def prune(cfg, **options):
    trainer = start(cfg, **options)
    trainer.train()
    return trainer


def files(folder):
    return [(folder / name).read_bytes() for name in ("selection.json", "selection.npz")]


def visits(loader, steps):
    """(N,) how often each sample is visited; a sample twice in a batch is one visit."""
    counts = np.zeros(len(loader.index), dtype=int)
    for positions in islice(loader.at(0, loader.seed).batches(), steps):
        counts[list({sample_at(p, len(counts), loader.seed) for p in positions})] += 1
    return counts


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def assert_same_weights(mine, theirs):
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


class Signalling(HookBase):
    """Signals this process and those that it has started, as a cluster does."""

    def __init__(self, step, signum):
        self.step, self.signum = step, signum
        self.others = multiprocessing.active_children()

    def after_step(self):
        if self.trainer.iter == self.step:
            signal_job(self.signum, self.others)


def add_before_the_last(trainer, hook):
    """Put a hook before the one that ends a run early."""
    hook.trainer = trainer._hooks[-1].trainer
    trainer._hooks.insert(-1, hook)
