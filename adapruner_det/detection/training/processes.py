"""The processes of a run: those of torchrun, those of Detectron2's launch, or this one alone."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch
import torch.distributed as dist
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm

from ...command import PACKAGE
from ...errors import DataError
from .. import compat


def process_parser(epilog: str) -> argparse.ArgumentParser:
    """Detectron2's ``default_argument_parser``, whose arguments :func:`start_processes` takes."""
    found = default_argument_parser(epilog=epilog)
    found.allow_abbrev = False
    return found


def num_processes(args: argparse.Namespace) -> int:
    """How many processes share a batch: torchrun's, or as many as ``args`` asks for."""
    if dist.is_torchelastic_launched():
        return int(os.environ["WORLD_SIZE"])
    return max(1, args.num_gpus * args.num_machines)


def is_first(args: argparse.Namespace) -> bool:
    """Whether this process, or one that it will start, is the first of the run.

    Of several machines each is told its number, under torchrun each process.
    """
    if dist.is_torchelastic_launched():
        return os.environ["RANK"] == "0"
    return bool(args.machine_rank == 0)


def say_once(args: argparse.Namespace, line: str, file: IO[str] | None = None) -> None:
    """Print ``line`` in the first process, of which torchrun's others know the same."""
    if is_first(args):
        print(line, file=file)


def warn_once(args: argparse.Namespace) -> None:
    """Let the first process alone log the warnings of its checks, which torchrun's others share.

    Once a run has set up its logs, each process has a file of its own.
    """
    if not is_first(args):
        logging.getLogger(PACKAGE).setLevel(logging.ERROR)


def require_startable(args: argparse.Namespace) -> None:
    """Raise a DataError where :func:`start_processes` cannot start as many as ``args`` asks for.

    It is asked before a run touches its folder, where it would set an earlier one's files aside.
    """
    if dist.is_torchelastic_launched():
        return
    gpus, machines, rank = args.num_gpus, args.num_machines, args.machine_rank
    if gpus < 0 or machines < 1 or not 0 <= rank < machines:
        raise DataError(
            f"--num-gpus {gpus} --num-machines {machines} --machine-rank {rank} describe no run: "
            "the first is 0 or more, the second 1 or more, and the machines are numbered from 0"
        )
    if machines > 1 and not gpus:
        raise DataError(
            f"--num-gpus 0 starts no process on any of {machines} machines: give each its GPUs, or "
            "start them with torchrun"
        )
    if torch.cuda.is_available():
        if gpus > torch.cuda.device_count():
            raise DataError(
                f"--num-gpus is {gpus}, and this machine has {torch.cuda.device_count()}; give as "
                "many or fewer"
            )
    elif gpus * machines > 1 and not compat.LAUNCHES_ON_CPU:
        nodes = f"--nnodes {machines} " if machines > 1 else ""
        raise DataError(
            f"there is no GPU, and launch of this Detectron2 starts {gpus * machines} processes on "
            f"GPUs only; start them with `torchrun {nodes}--nproc_per_node {gpus} tools/...` and "
            "leave --num-gpus out"
        )


def start_processes(args: argparse.Namespace, target: Callable[..., Any], *rest: Any) -> None:
    """Run ``target(*rest)`` in every process of the run.

    Under torchrun each process is there already and calls this. Otherwise Detectron2's launch
    starts as many as ``args`` asks for, which is for :func:`require_startable` to see to. What
    ``target`` returns is lost.

    Args:
        args: of Detectron2's ``default_argument_parser``.
    """
    if dist.is_torchelastic_launched():
        with _joined():
            target(*rest)
        return
    launch(
        target,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=rest,
    )


@contextmanager
def _joined() -> Iterator[None]:
    """Make torchrun's processes one group, as Detectron2's launch does with its own."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    compat.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()
    try:
        yield
    finally:
        dist.destroy_process_group()
