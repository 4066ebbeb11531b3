"""The two kinds of task: which of them a configuration is of, and what makes it.

The room of a task is imported when the task is asked for. What takes time is imported where it is
used, for the command ``adapruner`` itself has the line from here that Detectron2 is not installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from ..experiment.task import Task
    from ..selection import Selection

KINDS = ("detection", "classification")

_DETECTRON2 = (
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git', or "
    "`conda install -c conda-forge detectron2`"
)


def task_of(config_file: str, overrides: Sequence[str], trust_pickle: bool = False) -> Task:
    """The task of a configuration, of whichever kind it is."""
    return make(guess_task(config_file, overrides), config_file, overrides, trust_pickle)


def make(kind: str, config_file: str, overrides: Sequence[str], trust_pickle: bool = False) -> Task:
    """The task of a configuration that is known to be of that kind.

    A detector's weights may be a ``.pkl`` where it is trusted; a classifier reads none.
    """
    trust = {"trust_pickle": trust_pickle} if kind == "detection" else {}
    task: Task = _module(kind, "task").make_task(config_file, overrides, **trust)
    return task


def settings(kind: str, config_file: str, overrides: Sequence[str]) -> Any:
    """The configuration of a task, as its room loads it."""
    name = "config" if kind == "classification" else "setup"
    return _module(kind, name).load_config(config_file, overrides)


def guess_task(config_file: str, overrides: Sequence[str] = ()) -> str:
    """``classification`` where the node DATA is set, in the yaml or what it is based on; else
    ``detection``.

    Raises:
        DataError: a yaml that is missing or damaged.
    """
    if config_file.endswith(".py"):  # a LazyConfig of Detectron2's
        return "detection"
    if any(word.startswith("DATA.") for word in overrides[::2]):
        return "classification"
    from ..settings import check_yaml, is_of_classifier

    check_yaml(config_file)
    return "classification" if is_of_classifier(config_file) else "detection"


def kind_of_data(args: argparse.Namespace, selection: Selection) -> str:
    """``detection`` or ``classification``, by ``args.config_file`` and ``args.opts``.

    A data set that Detectron2 brings along needs no configuration.

    Raises:
        DataError: neither, and a selection of a classification run.
    """
    if args.config_file or any(word.startswith("DATA.") for word in args.opts):
        return guess_task(args.config_file, args.opts)
    from ..classification.data import TRAIN_SETS

    if selection.datasets.keys() <= TRAIN_SETS:
        raise DataError(
            f"the selection is of a classification run, on {', '.join(selection.datasets)}: give "
            "the run's --config-file and overrides"
        )
    return "detection"


@contextmanager
def detectron2_needed(by: str, instead: str = "") -> Iterator[None]:
    """Say in one line of an import within that it lacks Detectron2.

    Args:
        by: what needs it.
        instead: what does not, if there is something.

    Raises:
        DataError: Detectron2 is not there; another module that is not is no one's to mend.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        end = f"; {instead}" if instead else ""
        raise DataError(
            f"{by} needs Detectron2, which is not installed: {_DETECTRON2}{end}"
        ) from error


def _module(kind: str, name: str) -> ModuleType:
    with detectron2_needed(f"a task of {kind}"):
        return import_module(f"..{kind}.{name}", __package__)
