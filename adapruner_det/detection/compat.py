"""The one place that knows how Detectron2 v0.6 and main differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.distributed as dist
from detectron2.engine import DefaultTrainer, defaults
from detectron2.utils import comm

#: main saves the inner trainer (optimizer, grad scaler) with a checkpoint; v0.6 does not.
SAVES_OPTIMIZER = "state_dict" in vars(DefaultTrainer)

#: main's launch starts processes with gloo where there is no GPU; v0.6's needs GPUs.
LAUNCHES_ON_CPU = hasattr(comm, "create_local_process_group")


def create_local_process_group(size: int) -> None:
    """Tell Detectron2 which processes share a machine: ``size`` on each. A collective call."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(size)
        return
    for first in range(0, dist.get_world_size(), size):
        group = dist.new_group(list(range(first, first + size)))
        if dist.get_rank() // size == first // size:
            comm._LOCAL_PROCESS_GROUP = group


@contextmanager
def parallel_on(device: str) -> Iterator[None]:
    """Let a DefaultTrainer made inside work on ``device``, a cfg.MODEL.DEVICE.

    Both versions give DistributedDataParallel a GPU in any case, which it refuses for a model on
    the CPU.
    """
    original = defaults.create_ddp_model
    if device == "cpu":
        defaults.create_ddp_model = partial(original, device_ids=None)
    try:
        yield
    finally:
        defaults.create_ddp_model = original


def set_data_loader(trainer: Any, loader: Any) -> None:
    """Make ``trainer`` (a SimpleTrainer) read ``loader`` from its beginning."""
    trainer.data_loader = loader
    if hasattr(trainer, "_data_loader_iter_obj"):
        trainer._data_loader_iter_obj = None  # main makes the iterator when it is first needed
    else:
        trainer._data_loader_iter = iter(loader)
