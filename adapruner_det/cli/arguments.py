"""The arguments that several sub-commands share."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..command import OUTPUT_KEYS, config_path, help_text, program, recorded, without
from ..report.page import write_report_of_run
from ..report.pictures import Picture
from ..report.predictions import Predicted
from ..selection import Selection
from ..settings import WITHOUT_EFFECT

#: Options that change nothing of what a run finds.
_ASIDE = ("--resume", "--no-report")


def plain_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser without arguments, whose help is the docstring ``doc`` of the tool ``tool``."""
    return argparse.ArgumentParser(
        program(tool),
        description=help_text(doc),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_report_switch(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the switch that :func:`leave_report` looks at."""
    parser.add_argument(
        "--no-report", action="store_true", help="leave no report.html beside the selection"
    )


def command_of_run(
    tool: str, argv: Sequence[str] | None, config_file: str, overrides: Sequence[str]
) -> str:
    """What a run says of itself in its selection.

    One command gives one file, so what has no effect on the outcome is left out: where the run
    reads its data and writes, and whether it was stopped and went on.

    Args:
        tool: its file name in ``tools/``.
        argv: its words; None takes the command line's.
        config_file: that they name.
        overrides: that they end with.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = words[: len(words) - len(overrides)]
    # The beginning of an option stands for it.
    named = [w for w in options if len(w) < 3 or not any(own.startswith(w) for own in _ASIDE)]
    keys = (*WITHOUT_EFFECT, *OUTPUT_KEYS)
    return recorded(tool, named, without(overrides, keys, config_file.endswith(".py")))


def leave_report(
    args: argparse.Namespace,
    tool: str,
    argv: Sequence[str] | None,
    selection: Selection,
    folder: str | Path,
    pictures: Callable[[], Mapping[str, Picture]],
    predictions: Callable[[], Mapping[str, Predicted]] | None = None,
) -> None:
    """Write the report of a run and print where it is, unless ``--no-report`` was given.

    Args:
        args: of the run.
        tool: its file name in ``tools/``.
        argv: its words; None takes the command line's.
        selection: that it made.
        folder: of the run.
        pictures: gives those of its samples, by key.
        predictions: gives those of some of its samples, by key.
    """
    if args.no_report:
        return
    words = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join([*program(tool).split(), *words])
    page = write_report_of_run(selection, folder, pictures, command, predictions=predictions)
    if page:
        print(f"{'report':<17} {page}", flush=True)


def config_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--config-file`` and, last, overrides."""
    parser = plain_parser(tool, doc)
    parser.add_argument(
        "--config-file", type=config_path, default="", metavar="FILE", help="a yaml with a detector"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
