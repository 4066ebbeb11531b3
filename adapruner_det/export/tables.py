"""Plain files: a list of the kept images, and a CSV of all that a selection knows.

Shape letters: N samples.
"""

from __future__ import annotations

import os

import numpy as np

from ..csv_text import csv_text
from ..errors import DataError
from ..selection import Selection
from .folder import Folder, Images
from .names import image_names
from .records import Records

#: In this order; what else a selection has follows in its own.
_FIRST = ("key", "kept", "score")


def write_list(records: Records, folder: Folder, images: Images) -> None:
    """Write ``kept.txt``, a file a line in the order of the keys.

    Paths are absolute where the images stay, and relative to the folder where they are placed.

    Raises:
        DataError: a path with a line break.
    """
    lines = [os.path.abspath(record.path) for record in records.records]
    if images != "none":
        names = image_names(records.records)
        lines = [f"images/{names[record.key]}" for record in records.records]
        for record, line in zip(records.records, lines, strict=True):
            folder.place(line, record.path, record.key, images)
    for line in lines:
        if line.splitlines() != [line]:
            raise DataError(f"{line!r} has a line break, which a list cannot hold; rename the file")
    folder.write("kept.txt", "".join(f"{line}\n" for line in lines))


def write_csv(selection: Selection, folder: Folder) -> None:
    """Write ``selection.csv``, a row a sample, kept or not; numbers read back as they were.

    Where the run left samples out because they could not be used, ``excluded.csv`` says why.
    """
    columns = selection.columns
    order = [*_FIRST, *(name for name in columns if name not in _FIRST)]
    texts = [_texts(columns[name]) for name in order]
    folder.write("selection.csv", csv_text([order, *zip(*texts, strict=True)]))
    if selection.excluded:
        folder.write(
            "excluded.csv", csv_text([("key", "why"), *sorted(selection.excluded.items())])
        )


def _texts(column: np.ndarray) -> list[str]:
    """(N,) as text; numpy writes as few digits as tell a number from all others of its type."""
    return [str(value) for value in column.astype(np.str_).tolist()]
