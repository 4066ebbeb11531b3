"""What the detector of a run says of the images that it flagged, so that a page names the boxes.

Shape letters: N samples.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..core.ends import FAULT
from ..report.predictions import Predicted, best
from ..samples import dataset_of
from ..selection import Selection
from .data.checks import read_dataset
from .data.identity import key_of
from .data.kept_splits import register_parts
from .data.loader import NamingMapper
from .inference import Batch, upright_detections
from .task import trained_model
from .training.lazy import evaluation_mapper

logger = logging.getLogger(__name__)

#: Of so many images at most, and after so many seconds of no further one.
MOST, SECONDS = 200, 30.0


def predictions_of_flagged(
    cfg: CfgNode, selection: Selection, *, most: int = MOST, seconds: float = SECONDS
) -> dict[str, Predicted]:
    """Key → what the run's own detector detects, of the samples with a fault.

    Those that are dropped for it come first, and of them the first to go; then those that would be.

    Args:
        cfg: of the run; its model lies in OUTPUT_DIR, and it has registered the data sets.
        selection: of the run, of N samples.
        most: of so many samples at most.
        seconds: after which no further image is looked at.

    Raises:
        DataError: a model or data that are not there or are others, and boxes that are not upright.
    """
    rows = flagged(selection)[:most]
    if not len(rows):
        return {}
    model = trained_model(cfg, cfg.OUTPUT_DIR)
    keys: list[str] = []
    end = time.monotonic() + seconds

    def batches() -> Iterator[Batch]:
        for key, image in _images(cfg, selection, rows):
            if time.monotonic() > end:
                logger.info("That is enough after %d of them", len(keys))
                return
            keys.append(key)
            yield [image]

    logger.info("Looking at what has a fault, to name its boxes: %d images", len(rows))
    found = upright_detections(model, batches())
    return dict(zip(keys, map(best, found), strict=True))


def flagged(selection: Selection) -> np.ndarray:
    """The rows of the samples with a fault, see :func:`predictions_of_flagged` for their order."""
    columns, nothing = selection.columns, np.zeros(selection.num_samples, dtype=bool)
    is_fault = columns["why"] == FAULT if "why" in columns else nothing
    is_fault = is_fault | columns.get("flagged", nothing).astype(bool)
    order = np.lexsort((-columns["score"].astype(np.float64), columns["kept"]))
    return order[is_fault[order]]


def _images(
    cfg: CfgNode, selection: Selection, rows: np.ndarray
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and image of some samples, in their order, as an evaluation reads them.

    It is read in this process alone: an evaluation's loader shares them among those of a run.
    """
    chosen = np.zeros(selection.num_samples, dtype=bool)
    chosen[rows] = True
    columns = {**selection.columns, "kept": chosen}
    part = replace(selection, keep_ratio=float(chosen.mean()), columns=columns)
    bases = {dataset_of(key) for key in part.kept_keys}
    samples = {
        key_of(base, sample): sample
        for base, name in register_parts(part).items()
        if base in bases
        for sample in read_dataset(name)
    }
    mapper = NamingMapper(evaluation_mapper(cfg))
    for key in selection.columns["key"][rows].tolist():
        yield key, mapper(samples[key])
