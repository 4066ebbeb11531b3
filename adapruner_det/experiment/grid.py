"""A grid: methods x keep ratios x seeds x budgets on one task, and the cells that makes.

N samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, get_args

import yaml

from ..core.cut import kept_count
from ..errors import DataError, one_line
from ..methods.base import (
    THUMBNAILS,
    Method,
    get_dynamic,
    get_method,
    require_epochs,
    require_offered,
    require_one_class,
)
from ..neighbours import thumbnails_identity
from ..selection import check_keep_ratio
from ..settings import SEEDS
from .cells import Cell
from .evidence import offers
from .task import Budget, Task
from .transfer import chooser_of, learner_of

#: What a training on all samples is called in place of a method.
FULL = "full"


@dataclass(frozen=True)
class Grid:
    """What is compared; every seed has a training on all samples besides.

    Attributes:
        methods: names, each with overrides of the node ADAPRUNER if need be, such as
            ``adapruner[WARMUP_EPOCHS=0,CLASS_BAND=0.05]``.
        keep_ratios: each c_r in (0, 1].
        seeds: of selection and training.
        budgets: how long a part is trained on.
        dynamic: references that prune while they train, for as many epochs as all samples have.
    """

    methods: tuple[str, ...]
    keep_ratios: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    budgets: tuple[Budget, ...] = ("epochs",)
    dynamic: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            needed = name != "dynamic"
            if (needed and not values) or len(set(values)) < len(values):
                raise DataError(f"the {name} are {list(values)}; give one or more, each once")
        for keep_ratio in self.keep_ratios:
            check_keep_ratio(keep_ratio)
        if unknown := sorted({*self.budgets} - {*get_args(Budget)}):
            raise DataError(f"there is no budget {unknown[0]!r}; there are epochs and steps")
        for name in self.dynamic:
            get_dynamic(name)
        if outside := [seed for seed in self.seeds if seed not in SEEDS]:
            raise DataError(f"the seed is {outside[0]}; it must be {SEEDS}")


def parse_method(text: str, options: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """The method that ``text`` names, and its overrides of ``options``, sorted.

    Raises:
        DataError: a method or an option that is not there, an option that is there twice or that
            the method does not read, or a value of another type.
    """
    found = re.fullmatch(r"([^\[\]]+?)(?:\[([^\[\]]*)\])?", text.strip())
    if not found:
        raise DataError(f"the method {text!r} is not of the form name or name[OPTION=value,...]")
    method, values = get_method(found[1]), {}
    known = options.keys() - {"KEEP_RATIO"}  # which the grid has
    for part in filter(None, (found[2] or "").split(",")):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name not in known or not equals:
            raise DataError(
                f"{text!r}: {part.strip()!r} is not OPTION=value with an option of ADAPRUNER, "
                f"which has {', '.join(sorted(known))}"
            )
        if name not in method.options:
            read = ", ".join(sorted(method.options & known)) or "none"
            raise DataError(
                f"{text!r}: {name} has no effect on the method {method.name!r}; of the options of "
                f"ADAPRUNER it reads {read}"
            )
        if name in values:
            raise DataError(f"{text!r}: {name} is there twice; leave one of them out")
        values[name] = _as_type(value, options[name], f"{text!r}: {name}")
    return method, dict(sorted(values.items()))


def _as_type(text: str, default: Any, what: str) -> Any:
    """``text`` as yaml reads it, of the type of ``default``; nothing at all is an empty text."""
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise DataError(f"{what}={text} cannot be read: {one_line(error)}") from error
    if isinstance(default, float) and type(value) in (int, str):
        with suppress(ValueError):  # yaml takes 5e-2, which has no point, for a text
            return float(value)
    if type(value) is not type(default) or not isinstance(value, (bool, int, float, str)):
        kind = type(default).__name__
        raise DataError(f"{what} is {value!r}; it must be of the type {kind}, as {default!r} is")
    return value


def cells(grid: Grid, task: Task) -> list[Cell]:
    """All cells of the grid, each after those it needs, one seed after the other.

    What selects is known by the model that does, so tasks that train others on it share it.

    Raises:
        DataError: a method that is not there, is there twice, needs what the task does not give
            or a longer training, or cannot do what its options say.
    """
    chooser = chooser_of(task)
    given = offers(chooser)
    methods = _checked_methods(grid, task, given, chooser.epochs)
    reads = [method.reads({**task.options, **own}, given) for method, own in methods]
    needs = frozenset[str]().union(*reads)
    thumbnails = []
    if THUMBNAILS in needs:
        thumbnails.append(Cell("thumbnails", thumbnails_identity(task.samples)))
    found = [*thumbnails]
    full, whole = learner_of(task), _visits(task)
    for seed in grid.seeds:
        record = Cell(
            "record",
            chooser.identity,
            seed,
            signals=tuple(sorted(needs - {THUMBNAILS})),
            visits=_visits(chooser),
        )
        found += [
            Cell("train", full.identity, seed, name, (), 1.0, "epochs", visits=whole)
            for name in (FULL, *grid.dynamic)
        ]
        found += [record] if record.signals else []
        for (method, options), read in zip(methods, reads, strict=True):
            own = [record] if read - {THUMBNAILS} else []
            own += thumbnails if THUMBNAILS in read else []
            found += _cells_of(grid, task, seed, method, tuple(options.items()), tuple(own))
    return found


def _checked_methods(
    grid: Grid, task: Task, given: frozenset[str], epochs: int
) -> list[tuple[Method, dict[str, Any]]]:
    """The methods of the grid with their overrides; the errors are those of :func:`cells`.

    ``given`` is what the model that selects offers, and ``epochs`` what its training has.
    """
    methods = [parse_method(text, task.options) for text in grid.methods]
    texts: dict[tuple[str, str], str] = {}  # a method and all it reads → as it was written
    for number, (method, options) in enumerate(methods):
        require_offered(method, given)
        require_epochs(method, epochs)
        if method.one_class:
            require_one_class(method.name, task.samples)
        in_full = {name: task.options[name] for name in method.options & task.options.keys()}
        in_full |= options
        same = texts.setdefault((method.name, repr(sorted(in_full.items()))), grid.methods[number])
        if same != grid.methods[number]:
            raise DataError(
                f"the method {grid.methods[number]!r} is {same!r} again: what it reads of "
                "ADAPRUNER is the same in both, on this task"
            )
        for ratio in grid.keep_ratios:
            try:
                method.check({**task.options, **options}, task.samples, epochs, ratio)
            except DataError as error:
                raise DataError(f"the method {grid.methods[number]!r}: {error}") from error
    return methods


def _visits(task: Task) -> float:
    """How many images a training on all samples reads."""
    return float(len(task.samples) * task.epochs)


def _cells_of(
    grid: Grid,
    task: Task,
    seed: int,
    method: Method,
    options: tuple[tuple[str, Any], ...],
    needs: tuple[Cell, ...],
) -> list[Cell]:
    """Those of one method and seed: what selects, and what is trained on what it keeps."""
    samples, chooser = len(task.samples), chooser_of(task)
    known = (seed, method.name, options)
    found: list[Cell] = []
    for ratio in grid.keep_ratios:
        if method.per_ratio or not found:
            # A method that is called for every ratio trains for every ratio, as far as is known.
            select = Cell(
                "select",
                chooser.identity,
                *known,
                keep_ratio=ratio if method.per_ratio else None,
                needs=needs,
                visits=_visits(chooser) if method.per_ratio else 0.0,
            )
            found.append(select)
        part = kept_count(samples, ratio) / samples
        for budget in grid.budgets:
            cost = _visits(task) * (part if budget == "epochs" else 1.0)
            trained = (task.identity, *known, ratio, budget)
            found.append(Cell("train", *trained, needs=(select,), visits=cost))
    return found
