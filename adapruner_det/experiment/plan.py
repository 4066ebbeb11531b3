"""A plan: the yaml that says which methods are compared on which tasks.

    tasks:
      - config_file: ../classification/digits.yaml   # beside this file, or configs/...
        name: digits                                 # of its tables and pictures
        overrides: [SOLVER.EPOCHS, 40]
        train_on: ../classification/other.yaml       # trains on what the first one's model keeps
        train_overrides: [MODEL.NAME, resnet18]
    methods: [random, adapruner]
    keep_ratios: [0.9, 0.6]
    seeds: [0, 1, 2]
    budgets: [epochs, steps]
    dynamic: [infobatch]
    folder: output/grids/mine

All but ``tasks`` may be left out. Of a task ``config_file`` alone must be there; its overrides hold
for ``train_on`` too, those of that come after. What stands beside ``tasks`` as ``train_on`` is of
every task that has none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from ..command import config_path
from ..errors import DataError, shown
from ..settings import check_yaml


@dataclass(frozen=True)
class TaskPlan:
    """One task of a plan.

    Attributes:
        config_file: of the model that selects, and of the data.
        name: of its tables and pictures, distinct in a plan.
        overrides: KEY VALUE, for both configurations.
        train_on: the configuration that is trained on what is kept; empty for the same.
        train_overrides: for that alone, after the others.
    """

    config_file: str
    name: str = ""
    overrides: tuple[str, ...] = ()
    train_on: str = ""
    train_overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a file says; what it leaves out is empty.

    Attributes:
        tasks: one or more.
        methods, keep_ratios, seeds, budgets, dynamic: as :class:`~.grid.Grid` has them.
        folder: of the cells and tables.
        train_on, train_overrides: of every task without its own.
    """

    tasks: tuple[TaskPlan, ...]
    methods: tuple[str, ...] = ()
    keep_ratios: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    budgets: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    folder: str = ""
    train_on: str = ""
    train_overrides: tuple[str, ...] = ()


_LISTS = {
    "methods": str,
    "keep_ratios": float,
    "seeds": int,
    "budgets": str,
    "dynamic": str,
    "overrides": str,
    "train_overrides": str,
}


def read_plan(file: str | Path) -> Plan:
    """The plan in ``file``.

    Raises:
        DataError: a file that is missing or no yaml, or what is not of the form above.
    """
    check_yaml(str(file))
    found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    if not isinstance(found.get("tasks"), list) or not found["tasks"]:
        raise DataError(f"{file}: `tasks` must be a list of one or more, each with a config_file")
    plan = Plan(**_values(found, Plan, str(file)))
    tasks = []
    for number, given in enumerate(found["tasks"]):
        where = f"{file}: task {number + 1}"
        if not isinstance(given, dict) or not isinstance(given.get("config_file"), str):
            raise DataError(f"{where} has no config_file; give the path of a configuration")
        tasks.append(_task(TaskPlan(**_values(given, TaskPlan, where)), plan, Path(file)))
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise DataError(f"{file}: the tasks are called {', '.join(names)}; give each its own name")
    return replace(plan, tasks=tuple(tasks), folder=plan.folder or f"output/{Path(file).stem}")


def _task(task: TaskPlan, plan: Plan, file: Path) -> TaskPlan:
    """``task`` with what the plan says of all, and with paths as seen from where one works."""
    if not task.train_on:  # the plan's overrides are of the plan's model
        more = task.train_overrides or plan.train_overrides
        task = replace(task, train_on=plan.train_on, train_overrides=more)
    if task.train_overrides and not task.train_on:
        task = replace(task, train_on=task.config_file)
    return replace(
        task,
        name=re.sub(r"[^A-Za-z0-9_.=-]+", "_", task.name or Path(task.config_file).stem),
        config_file=_path(task.config_file, file),
        train_on=_path(task.train_on, file) if task.train_on else "",
    )


def _path(name: str, file: Path) -> str:
    beside = file.parent / name
    return str(beside) if beside.is_file() else config_path(name)


def _values(given: Mapping[Any, Any], kind: type[Plan] | type[TaskPlan], where: str) -> Any:
    """The fields of ``kind`` that are given, of their types."""
    known = [own.name for own in fields(kind)]
    if unknown := [name for name in given if name not in known]:
        raise DataError(f"{where} has {shown(str(unknown[0]))}; there are {', '.join(known)}")
    for name in ("methods", "keep_ratios", "seeds", "budgets"):
        if given.get(name) == []:
            raise DataError(f"{where}: {name} is empty; give one or more, or leave it out")
    return {name: _value(name, value, where) for name, value in given.items()}


def _value(name: str, value: Any, where: str) -> Any:
    if name == "tasks":
        return ()
    if name not in _LISTS:
        if not isinstance(value, str):
            raise DataError(f"{where}: {name} is {value!r}; it must be a word or a path")
        return value
    wanted = _LISTS[name]
    values = value if isinstance(value, list) else [value]
    if name.endswith("overrides"):  # yaml has read numbers and booleans, which are words again
        if not isinstance(value, list) or any(isinstance(own, dict) for own in value):
            raise DataError(f"{where}: {name} is {value!r}; it must be a list of KEY, VALUE, ...")
        return tuple(str(own) for own in values)
    fits = {str: (str,), float: (int, float), int: (int,)}[wanted]
    if any(not isinstance(own, fits) or isinstance(own, bool) for own in values):
        kind = {str: "words", float: "numbers", int: "whole numbers"}[wanted]
        raise DataError(f"{where}: {name} is {value!r}; it must be a list of {kind}")
    return tuple(map(wanted, values))
