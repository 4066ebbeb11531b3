"""What several sub-commands share: arguments, overrides, logs, and the report of a run."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..command import OUTPUT_KEYS, config_path, help_text, program, recorded, without
from ..errors import DataError
from ..files import CONFIG_FILE
from ..report.page import write_report_of_run
from ..report.pictures import Picture
from ..report.predictions import Predicted
from ..selection import Selection, check_keep_ratio
from ..settings import LAZY_WITHOUT_EFFECT, WITHOUT_EFFECT

#: An option whose words are overrides themselves.
TRANSFER_OPTIONS = "--transfer-opts"

#: What logs each cell of a comparison that is done: a module that few tools need.
PROGRESS = "adapruner_det.experiment.progress"

#: Options that change nothing of what a run finds.
_ASIDE = ("--resume", "--no-report")


class _Parser(argparse.ArgumentParser):
    """One that says where an option that it misses may be: the overrides take what follows them."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and ``message``, and exit with 2."""
        missed = "arguments are required" in message
        super().error(f"{message}; options stand before KEY VALUE" if missed else message)


def plain_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser without arguments, whose help is the docstring ``doc`` of the tool ``tool``."""
    return _Parser(
        program(tool),
        description=help_text(doc),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --output would be --output-dir where there is none
    )


def add_trust_switch(parser: argparse.ArgumentParser) -> None:
    """The option without which no pickle is read."""
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load MODEL.WEIGHTS from a .pkl, which can run any code that its maker put there",
    )


def as_keep_ratio(word: str) -> float:
    """The keep ratio that was typed as ``word``.

    It is no ``type`` of argparse's, which would print its usage in place of the line.

    Raises:
        DataError: no number in (0, 1].
    """
    try:
        found = float(word)
    except ValueError:
        raise DataError(
            f"the keep ratio is {word!r}; it must be a number in (0, 1]: 0.9 keeps nine images in "
            "ten"
        ) from None
    check_keep_ratio(found)
    return found


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the overrides, and those: an option that takes several would take them too.

    Overrides begin with a key, such as ``SEED`` or ``solver.lr=1``, that is no option's first word.
    Those of --transfer-opts have an = each, as those of a LazyConfig do.
    """
    option = ""
    for index, word in enumerate(words):
        option = word if word.startswith("--") else option
        if option == TRANSFER_OPTIONS and "=" in word:
            continue
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        key = re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*|\+{0,2}[A-Za-z_]\w*(\.\w+)*=.*", word)
        if key and index and not words[index - 1].startswith("--"):
            return list(words[:index]), list(words[index:])
    return list(words), []


def warn_on_terminal() -> None:
    """Let what is logged be said on the terminal where it is a warning, as one."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")


def log_to(path: Path) -> None:
    """Send all logs to a file, and warnings to the terminal too.

    Where there is none, and so no bar, each cell that is done is said in its place. Detectron2 sets
    up logs of its own, which would drown the progress bar, unless they are at INFO.
    """
    terminal = logging.StreamHandler()
    # Not its level: a progress bar's handler that stands in for it takes over filters alone.
    told = "" if terminal.stream.isatty() else PROGRESS
    terminal.addFilter(lambda own: own.levelno >= logging.WARNING or own.name == told)
    form = "[%(asctime)s %(name)s] %(levelname)s: %(message)s"
    logging.basicConfig(
        level=logging.INFO, handlers=[logging.FileHandler(path), terminal], format=form
    )
    logging.captureWarnings(True)


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
    keys = (*WITHOUT_EFFECT, *LAZY_WITHOUT_EFFECT, *OUTPUT_KEYS)
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


def config_beside(selection: Path) -> str:
    """The configuration that a run left beside its selection; empty without one."""
    own = selection.with_name(CONFIG_FILE)
    return str(own) if own.is_file() else ""


def config_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--config-file`` and, last, overrides."""
    parser = plain_parser(tool, doc)
    parser.add_argument(
        "--config-file", type=config_path, default="", metavar="FILE", help="a yaml with a detector"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
