"""Pictures: what a report shows of the samples besides their columns.

Shape letters: N samples, M objects of one of them, H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..export.records import Record
from ..images import read_upright


@dataclass(frozen=True)
class Picture:
    """One sample as a person sees it.

    Attributes:
        key: ``dataset_name/image_id``.
        read: the upright image; it raises a DataError where the file cannot be used.
        width, height: of the image that the boxes are on, in pixels.
        boxes: (M, 4) float64, (x0, y0, x1, y1) in pixels from the upper left corner.
        classes: (M,) int64, places among the class names.
        crowd: (M,) bool, whether a box is around a crowd.
        difficult: (M,) bool, VOC's flag.
        label: the class of the whole image, of a data set for classification.
        file: the name of its file, without folders; empty where it has none.
    """

    key: str
    read: Callable[[], Image.Image]
    width: int
    height: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    difficult: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    label: int | None = None
    file: str = ""


def of_records(records: Iterable[Record]) -> dict[str, Picture]:
    """Key → picture, of samples that an export could be made of."""
    return {record.key: _of_record(record) for record in records}


def of_array(key: str, pixels: Callable[[], np.ndarray], label: int) -> Picture:
    """The picture of a labelled image that is no file.

    Args:
        key: of the sample.
        pixels: gives (H, W, 3) uint8 RGB.
        label: its class.
    """
    height, width = pixels().shape[:2]
    return Picture(key, lambda: Image.fromarray(pixels()), width, height, label=label)


def of_file(key: str, path: str, width: int, height: int, label: int) -> Picture:
    """The picture of a labelled image file; ``width`` and ``height`` are those of it upright."""
    file = os.path.basename(path)
    return Picture(key, lambda: read_upright(path), width, height, label=label, file=file)


def _of_record(record: Record) -> Picture:
    return Picture(
        key=record.key,
        read=lambda: read_upright(record.path),
        width=record.width,
        height=record.height,
        boxes=record.boxes,
        classes=record.classes,
        crowd=record.crowd,
        difficult=record.difficult,
        label=record.label,
        file=record.name.rpartition("/")[2],
    )
