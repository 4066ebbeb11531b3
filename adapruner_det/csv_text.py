"""Rows as the text of a CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """``rows`` as CSV, a line each, from which :mod:`csv` reads every text as it was."""
    lines: list[str] = []
    # Told of this end of a line, it quotes a text with a carriage return too.
    csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n").writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines)
