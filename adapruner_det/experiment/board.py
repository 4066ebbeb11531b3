"""The cells of grids that share a folder: which are done, and what came of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..methods.base import dynamic_names
from ..selection import Selection, lost_classes_line
from .cells import FAILED, Cell, holder, read_done, read_json
from .grid import Grid, cells
from .tables import Row
from .task import Task

logger = logging.getLogger(__name__)

SELECTION = "selection.json"


MakeTask = Callable[[], Task]


@dataclass(frozen=True)
class Part:
    """One task's grid among several that share a folder.

    Attributes:
        grid: what is compared.
        make_task: makes the task anew in every process; can be pickled.
    """

    grid: Grid
    make_task: MakeTask


class CellsLeft(DataError):
    """A grid of which not all is done, though nothing more can be run."""


class Board:
    """What is known of the cells of one grid or several; what was seen done stays done.

    Of what methods read, nothing is made that all who would read it can do without, for they are
    done: as where a grid has lost or gained a method since.

    Args:
        cells: each after those it needs; one that is there twice counts once.
        root: the folder that they share.
    """

    def __init__(self, cells: list[Cell], root: Path) -> None:
        self.root = root
        self.results: dict[str, dict[str, Any]] = {}
        own = {cell.name: cell for cell in cells}.values()
        read = {need.name for cell in own if self.result(cell) is None for need in cell.needs}
        self.cells = [
            cell
            for cell in own
            if cell.kind in ("select", "train")
            or cell.name in read
            or self.result(cell) is not None
        ]

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """What came of a cell; None where it is not done."""
        if cell.name not in self.results:
            found = read_done(cell, self.root)
            if found is None:
                return None
            self.results[cell.name] = found
        return self.results[cell.name]

    def error(self, cell: Cell) -> str | None:
        """Why a cell failed, in one line; None where it did not, or is to be tried again."""
        found = read_json(cell.folder(self.root) / FAILED)
        return str(found["error"]) if isinstance(found, dict) and "error" in found else None

    def is_ready(self, cell: Cell) -> bool:
        """Whether a cell is to be run and can be, unless another process has it."""
        return (
            self.result(cell) is None
            and self.error(cell) is None
            and all(self.result(need) is not None for need in cell.needs)
        )

    def state(self, cell: Cell) -> str:
        """``done``, ``failed: why``, ``running: who`` or ``waiting``."""
        if self.result(cell) is not None:
            return "done"
        if who := holder(cell.folder(self.root)):
            return f"running: {who}"
        error = self.error(cell)
        return "waiting" if error is None else f"failed: {error}"

    def forget_failures(self) -> None:
        """Let what failed be tried again."""
        for cell in self.cells:
            (cell.folder(self.root) / FAILED).unlink(missing_ok=True)

    def left(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell in self.cells if self.result(cell) is None]

    def require_done(self) -> None:
        """Warn of each cell that failed, and raise CellsLeft unless all are done."""
        left = self.left()
        errors = {cell.name: error for cell in left if (error := self.error(cell)) is not None}
        for name, error in errors.items():
            logger.warning("%s failed: %s", name, error)
        if left:
            raise CellsLeft(
                f"{len(errors)} of {len(self.cells)} cells failed and {len(left) - len(errors)} "
                "more were not run; the same command goes on with them"
            )


def board_of(
    parts: Sequence[Part], tasks: Sequence[Task], root: Path
) -> tuple[Board, dict[str, Task]]:
    """The cells of all parts, and a cell's name → its task; the first of those that share it.

    Raises:
        DataError: what :func:`.grid.cells` raises.
    """
    found: list[Cell] = []
    of_cell: dict[str, Task] = {}
    for part, task in zip(parts, tasks, strict=True):
        for cell in cells(part.grid, task):
            found.append(cell)
            of_cell.setdefault(cell.name, task)
    return Board(found, root), of_cell


def selection_of(cell: Cell, root: Path, keep_ratio: float) -> Selection:
    """What a cell that selects chose, at one of the ratios that it serves.

    Raises:
        DataError: a selection that was damaged since; its folder is what to remove.
    """
    (found,) = _cuts_of(cell, root, [keep_ratio])
    return found


def is_dynamic(cell: Cell) -> bool:
    """Whether a cell is a training that prunes while it goes on, so that no selection is behind."""
    return not cell.needs and cell.method in dynamic_names()


def rows_of(board: Board) -> list[Row]:
    """The trainings of a grid that are done, for tables."""
    found = []
    for cell in board.cells:
        result = board.result(cell)
        if cell.kind == "train" and result is not None:
            chosen = [board.result(need) or {} for need in cell.needs]
            cost = [r.get("seconds", 0.0) + r.get("seconds_of_needs", 0.0) for r in chosen]
            known = (cell.label, cell.keep_ratio or 1.0, cell.budget, cell.seed)
            row = Row(
                *known,
                result["value"],
                result["images"],
                sum(cost),
                result["seconds"],
                select_memory=_most(board, cell, "memory_mb"),
                select_added=_most(board, cell, "added_mb"),
                select_gpu=_most(board, cell, "gpu_mb"),
                dynamic=is_dynamic(cell),
                steps=result.get("steps", 0),
            )
            found.append(row)
    return found


def _most(board: Board, cell: Cell, name: str) -> float | None:
    """The largest of a figure over what chose the samples, and what that read; None unless all of
    them have it."""
    chose = [own for need in cell.needs for own in (need, *need.needs)]
    values = [(board.result(own) or {}).get(name) for own in chose]
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def ratios_of(cell: Cell, board: Board) -> list[float]:
    """The keep ratios at which what a cell chose is trained on, the largest first."""
    found = {own.keep_ratio for own in board.cells if cell in own.needs and own.keep_ratio}
    return sorted(found, reverse=True)


def selections_of(cell: Cell, board: Board) -> list[tuple[float, Selection]]:
    """What a cell chose, with the keep ratio, at every ratio at which it is trained on.

    Raises:
        DataError: as :func:`selection_of`.
    """
    ratios = ratios_of(cell, board)
    return list(zip(ratios, _cuts_of(cell, board.root, ratios), strict=True))


def _cuts_of(cell: Cell, root: Path, keep_ratios: Sequence[float]) -> list[Selection]:
    """At each ratio; the file is read once, which for many samples takes seconds."""
    folder = cell.folder(root)
    try:
        run = Selection.load(folder / SELECTION)
        return [run.cut(ratio) for ratio in keep_ratios]
    except DataError as error:
        raise DataError(f"{error}; remove the folder {folder}, which is made again") from error


def lost_classes_of(cell: Cell, board: Board) -> list[str]:
    """A line for each keep ratio at which what a cell chose leaves a class without an image.

    Raises:
        DataError: a selection that cannot be read.
    """
    return [
        f"{cell.label} at keep ratio {ratio:g}: {line}"
        for ratio, own in selections_of(cell, board)
        if (line := lost_classes_line(own))
    ]
