"""What a file in COCO's format says, and whether it is what was read of a data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ...errors import DataError
from .samples import corners

#: Sides that differ by less are the same: some readers hold them in 32 bits.
_TOLERANCE = 1e-3


def coco_content(file: str) -> dict[str, Any]:
    """The parts of a file, or nothing where it is JSON, but not in COCO's format.

    Raises:
        DataError: a file that cannot be read.
    """
    try:
        with open(PathManager.get_local_path(str(file)), encoding="utf-8-sig") as opened:
            content = json.load(opened)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    parts = ("images", "annotations", "categories")
    known = isinstance(content, dict) and all(isinstance(content.get(p), list) for p in parts)
    return content if known else {}


def says_the_same(
    content: Mapping[str, Any], dicts: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> bool:
    """Whether a file has every sample, with the same image, boxes, classes and crowds.

    A reader may merge classes or mend boxes, so that the file is not what was read. Boxes that
    cannot be trained on are compared as well. The file may have further images.

    Args:
        content: as :func:`coco_content` gives it.
        dicts: the samples, checked.
        names: of the classes; the file's categories are those of their names.
    """
    class_of = {name: number for number, name in enumerate(names)}
    index = {sample["image_id"]: number for number, sample in enumerate(dicts)}
    try:
        images = {image["id"]: image["file_name"] for image in content["images"]}
        classes = {c["id"]: class_of.get(c["name"], -1) for c in content["categories"]}
        if any(_base(images[d["image_id"]]) != _base(d["file_name"]) for d in dicts):
            return False
        told = _rows(
            (index[a["image_id"]], a, classes[a["category_id"]], BoxMode.XYWH_ABS)
            for a in content["annotations"]
            if a["image_id"] in index
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return False  # it lacks a sample, or it does not parse, as what was read does
    read = _rows(
        (number, a, a["category_id"], a["bbox_mode"])
        for number, sample in enumerate(dicts)
        for part in ("annotations", "unusable_annotations")
        for a in sample.get(part, ())
    )
    return told.shape == read.shape and np.allclose(told, read, 0, _TOLERANCE, equal_nan=True)


def _base(file: object) -> str:
    return os.path.basename(str(file))


def _rows(objects: Iterable[tuple[int, Mapping[str, Any], int, int]]) -> np.ndarray:
    """(M, 7) float64 in an order of their own: number of the sample, class, crowd, corners."""
    rows = np.array(
        [
            (number, category, bool(a.get("iscrowd")), *map(float, corners(a["bbox"], mode)))
            for number, a, category, mode in objects
        ],
        dtype=np.float64,
    ).reshape(-1, 7)
    return rows[np.lexsort(rows.T[::-1])]
