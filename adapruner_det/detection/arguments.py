"""The arguments of a detection tool: Detectron2's, and whether pickles are trusted."""

from __future__ import annotations

import argparse
import os

import torch.distributed as dist
from detectron2.engine import default_argument_parser


def tool_parser(epilog: str) -> argparse.ArgumentParser:
    """Detectron2's ``default_argument_parser`` with ``--trust-pickle``."""
    parser = default_argument_parser(epilog=epilog)
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load MODEL.WEIGHTS from a .pkl, which can run any code that its maker put there",
    )
    return parser


def num_processes(args: argparse.Namespace) -> int:
    """How many processes share a batch: torchrun's, or as many as ``args`` asks for."""
    if dist.is_torchelastic_launched():
        return int(os.environ["WORLD_SIZE"])
    return max(1, args.num_gpus * args.num_machines)
