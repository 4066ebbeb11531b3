"""How far a comparison is, and how long it will still take."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import timedelta

from tqdm import tqdm

from ..errors import DataError
from .board import Board, lost_classes_of
from .cells import Cell, holder

logger = logging.getLogger(__name__)


class Progress:
    """A bar over all cells; a log line, and warnings of lost classes, of each cell seen done.

    Args:
        board: of all grids.
        workers: that run it, unless more are seen.
    """

    def __init__(self, board: Board, workers: int) -> None:
        self._board, self._workers = board, workers
        board.left()  # looks at them all
        self._told = {*board.results}
        self._end: float | None = None

    def __enter__(self) -> Progress:
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} elapsed{postfix}"
        total = sum(cell.visits for cell in self._board.cells)
        self._bar = tqdm(total=total, bar_format=form, disable=None)
        self._refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self) -> None:
        """Look for cells that have been done since."""
        left = self._board.left()
        known = self._told | {cell.name for cell in left}
        found = [cell for cell in self._board.cells if cell.name not in known]
        for cell in found:
            self._told.add(cell.name)
            self._warn_of_lost_classes(cell)
        if found:
            self._refresh()
            logger.info("%s done: %s", ", ".join(cell.name for cell in found), self._text())
        self._bar.set_postfix_str(self._text())

    def _refresh(self) -> None:
        board, left = self._board, self._board.left()
        seconds = sum(result.get("seconds", 0.0) for result in board.results.values())
        rest = sum(cell.visits for cell in left)
        visits = self._bar.total - rest
        held = sum(holder(cell.folder(board.root)) is not None for cell in left)
        if visits:
            self._end = time.monotonic() + rest * seconds / visits / max(held, self._workers)
        done = len(board.cells) - len(left)
        self._bar.set_description_str(f"{done} of {len(board.cells)} cells", refresh=False)
        self._bar.update(visits - self._bar.n)

    def _text(self) -> str:
        if self._end is None:
            return "time left not known yet"
        return f"{timedelta(seconds=max(0, round(self._end - time.monotonic())))} left"

    def _warn_of_lost_classes(self, cell: Cell) -> None:
        if cell.kind != "select":
            return
        with suppress(DataError):  # of a file that is damaged since, which the trainings will tell
            for line in lost_classes_of(cell, self._board):
                logger.warning("%s", line)
