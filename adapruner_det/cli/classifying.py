"""What the classification tools share: how they begin, end, and name the next command.

Importing it silences what libraries say of themselves, so that a tool's own lines come first: a
tool imports it before other modules of the package.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from ..classification.batches import steps_per_epoch
from ..command import beside, shipped_config, sibling_command, with_output
from ..enough import too_few_steps
from ..errors import DataError, one_line, reported
from ..selection import Selection
from .arguments import plain_parser

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = shipped_config("classification/digits.yaml")


def silence_libraries() -> None:
    """Let no library's warning stand before a tool's own lines."""
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.")
    warnings.filterwarnings("ignore", module=r"(torch|torchvision|fvcore|iopath|sklearn)(\.|$)")


silence_libraries()  # at once: libraries warn as they are imported


def parser(tool: str, doc: str | None, *, config: bool = True) -> argparse.ArgumentParser:
    """A tool's arguments: its ``--config-file`` if asked for, ``--resume`` and overrides.

    The overrides take the rest of the line, so further options are to be added to the result.
    """
    found = plain_parser(tool, doc)
    if config:
        found.add_argument("--config-file", default=DEFAULT_CONFIG, help="default: %(default)s")
    found.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR's checkpoint")
    found.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    return found


def given_selection(path: str | None) -> Selection | None:
    """The selection of ``--selection``; None where the option was not given.

    An empty word, as of a shell's variable that is not set, is no training on all images.

    Raises:
        DataError: what is no selection.
    """
    return None if path is None else Selection.load(path)


@contextmanager
def running() -> Iterator[None]:
    """Log to stderr, and end with one line and exit code 2 for what is the user's to mend.

    Ctrl-C outside of training, which saves first, ends with one line and 130.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with reported(), _memory_reported():
            yield
    except KeyboardInterrupt:
        sys.stderr.write(
            "SIGINT: stopped outside of training; what is saved stays, and the same command with "
            "--resume as its first option goes on from there\n"
        )
        raise SystemExit(130) from None


@contextmanager
def _memory_reported() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and (
            "allocate memory" not in str(error) and "out of memory" not in str(error)
        ):
            raise
        raise DataError(
            f"memory ran out: {one_line(error)[:150]}; lower SOLVER.BATCH_SIZE, DATA.SIZE, "
            "DATA.MEMORY_MB or MODEL.WIDTH"
        ) from error


def warn_of_few_steps(cfg: CfgNode, images: int) -> None:
    """Say where a model from random weights is trained on ``images`` kept ones for too short."""
    if cfg.MODEL.WEIGHTS or cfg.MODEL.PRETRAINED:
        return
    if line := too_few_steps(cfg.SOLVER.EPOCHS * steps_per_epoch(images, cfg.SOLVER.BATCH_SIZE)):
        logger.warning("Warning: %s.", line)


def train_command(
    config_file: str, selection: str | Path, opts: Sequence[str], output_dir: str
) -> str:
    """What trains on ``selection``, as it can be given where this tool was called.

    Args:
        config_file: of the pruning run.
        selection: its selection.
        opts: its overrides.
        output_dir: where it wrote; the training writes beside it.
    """
    words = ["--config-file", config_file, "--selection", str(selection)]
    return sibling_command("train_cls.py", [*words, *with_output(opts, beside(output_dir))])
