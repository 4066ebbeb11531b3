"""The samples of a detection run as a report shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...report.pictures import Picture, of_records
from ...selection import Selection
from .records import kept_records


def pictures_of(selection: Selection) -> dict[str, Picture]:
    """Key → picture, of all samples of ``selection``, kept or not.

    Raises:
        DataError: a base data set that is not registered, cannot be read, or has changed.
    """
    everything = {**selection.columns, "kept": np.ones(selection.num_samples, dtype=bool)}
    return of_records(kept_records(replace(selection, keep_ratio=1.0, columns=everything)).records)
