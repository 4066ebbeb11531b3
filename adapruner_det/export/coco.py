"""COCO: ``annotations.json``, and ``images/`` where they are linked or copied.

What comes from one COCO file is taken over as it stands there, for the images that are kept: ids,
categories, areas, crowds, segmentations, keypoints and what else it says. Anything else gets ids of
its own, from 1, and the key of each image under ``key``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from ..errors import DataError
from .folder import Folder, Images
from .losses import Losses
from .names import image_names
from .records import Record, Records


def write_coco(records: Records, folder: Folder, images: Images) -> None:
    """Write the annotations, and link or copy the images.

    Without images the file names are those of the source, relative to its folder of images.

    Raises:
        DataError: two images of one name without their files, as two data sets may have them.
    """
    names = {record.key: record.name for record in records.records}
    if images == "none":
        _require_apart(records)
    else:
        names = image_names(records.records)
        for record in records.records:
            folder.place(f"images/{names[record.key]}", record.path, record.key, images)
    taken_over = bool(records.coco_header)
    content = _taken_over(records, names) if taken_over else _made(records, names)
    folder.write("annotations.json", json.dumps(content))


def _require_apart(records: Records) -> None:
    """Raise a DataError where two image files have one name, by which COCO knows them."""
    first: dict[str, Record] = {}
    for record in records.records:
        other = first.setdefault(record.name, record)
        if os.path.realpath(other.path) != os.path.realpath(record.path):
            raise DataError(
                f"{other.key} and {record.key} both have the file name {record.name}, so that a "
                "reader could not tell their images apart; use --images link or copy"
            )


def _taken_over(records: Records, names: Mapping[str, str]) -> dict[str, Any]:
    """The part of a COCO file that is of the kept images."""
    renamed = {r.key: r.coco_image["file_name"] != names[r.key] for r in records.records}
    return {
        **records.coco_header,
        "images": [
            {**r.coco_image, "file_name": names[r.key]} if renamed[r.key] else dict(r.coco_image)
            for r in records.records
        ],
        "annotations": [dict(own) for r in records.records for own in r.coco_annotations],
    }


def _made(records: Records, names: Mapping[str, str]) -> dict[str, Any]:
    losses = Losses("coco")
    numbered = list(enumerate(records.records, 1))
    rows = [
        {**row, "image_id": number}
        for number, record in numbered
        for row in _annotations(record, losses)
    ]
    losses.warn()
    return {
        "images": [
            {
                "id": number,
                "file_name": names[record.key],
                "width": record.width,
                "height": record.height,
                "key": record.key,
            }
            for number, record in numbered
        ],
        "annotations": [{"id": number, **row} for number, row in enumerate(rows, 1)],
        "categories": _categories(records.class_names),
    }


def _categories(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]


def _annotations(record: Record, losses: Losses) -> Iterator[dict[str, Any]]:
    losses.unusable(record)
    for i, (x0, y0, x1, y1) in enumerate(record.boxes.tolist()):
        extra = dict(record.extras[i]) if record.extras else {}
        extra.setdefault("area", _area(extra.get("segmentation"), (x1 - x0) * (y1 - y0)))
        yield {
            "category_id": int(record.classes[i]) + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": int(record.crowd[i]),
            **({"difficult": 1} if record.difficult[i] else {}),
            **extra,
        }


def _area(segmentation: Any, box_area: float) -> float:
    """Of a mask where there is one, in square pixels; else of the box."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        return float(coco_mask.area(segmentation))
    if not segmentation:
        return box_area
    return sum(_polygon_area(polygon) for polygon in segmentation)


def _polygon_area(polygon: Sequence[float]) -> float:
    """By the shoelace formula; ``polygon`` is x0, y0, x1, y1 and so on."""
    xs, ys = polygon[::2], polygon[1::2]
    nexts = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for x, y, next_x, next_y in nexts)) / 2
