"""FiftyOne: its ``FiftyOneImageDetectionDataset``, or ``FiftyOneImageClassificationDataset``.

``fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.<either>)`` reads it.
Both are documented and do not change with FiftyOne's database, as its own ``FiftyOneDataset`` does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from .folder import Folder, Images
from .losses import Losses
from .names import image_names
from .records import Record, Records


def write_fiftyone(records: Records, folder: Folder, images: Images) -> None:
    """Write ``labels.json``, and ``data/`` with the images, empty where they stay.

    An image is known by its name in ``data/`` without suffix, or by its path where it stays. Crowds
    and difficult objects are boxes with that attribute; boxes are not cut off.

    Raises:
        DataError: two samples of one image that stays where it is, as two data sets may have it.
    """
    ids = {record.key: os.path.abspath(record.path) for record in records.records}
    folder.make("data")
    if images != "none":
        names = image_names(records.records, flat=True)
        for record in records.records:
            folder.place(f"data/{names[record.key]}", record.path, record.key, images)
        ids = {key: os.path.splitext(name)[0] for key, name in names.items()}
    losses = Losses("fiftyone")
    _require_apart(ids)
    labels = {
        ids[record.key]: _objects(record, losses) if record.label is None else record.label
        for record in records.records
    }
    losses.warn()
    content = {"classes": list(records.class_names), "labels": labels}
    folder.write("labels.json", json.dumps(content))


def _require_apart(ids: Mapping[str, str]) -> None:
    """Raise a DataError where two samples have one id, under which one alone has its labels."""
    first: dict[str, str] = {}
    for key, own in ids.items():
        if (other := first.setdefault(own, key)) != key:
            raise DataError(
                f"{other} and {key} are both of the image {own}, by which FiftyOne would know them "
                "as one; use --images link or copy"
            )


def _objects(record: Record, losses: Losses) -> list[dict[str, Any]]:
    """Boxes are (left, top, width, height) as shares of the image's width and height."""
    losses.unusable(record)
    losses.masks(record)
    width, height = record.width, record.height
    found = []
    for i, (x0, y0, x1, y1) in enumerate(record.boxes.tolist()):
        attributes: dict[str, Any] = {"key": record.key}
        if record.ids:
            attributes["annotation_id"] = record.ids[i]
        if record.crowd[i]:
            attributes["iscrowd"] = 1
        if record.difficult[i]:
            attributes["difficult"] = 1
        found.append(
            {
                "label": int(record.classes[i]),
                "bounding_box": [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
                "attributes": attributes,
            }
        )
    return found
