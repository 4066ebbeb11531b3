"""YOLO, as Ultralytics reads it: ``data.yaml``, ``train.txt``, ``images/`` and ``labels/``.

A data set for classification is what Ultralytics takes there, a folder of images a class. All names
are without further folders, for some readers look into none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np
import yaml

from ..errors import DataError
from ..samples import BOX_SLACK
from .folder import Folder, Images
from .losses import Losses
from .names import Names, image_names, safe_part
from .records import Record, Records

logger = logging.getLogger(__name__)

#: What all versions of Ultralytics know an image by, and what torchvision knows too, by which they
#: read folders of classes.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".mpo", ".dng")
CLASS_SUFFIXES = SUFFIXES[:-2]

_HEADER = """\
# Paths are relative to this file. Only training images were selected: `val` is what is trained on,
# until it names a list or folder of other images.
"""


def write_yolo(records: Records, folder: Folder, images: Images) -> None:
    """Write the labels of all kept images, and link or copy them.

    Boxes are cut off at the edges of their image, as training does it; those of crowds are left
    out. Both are said. Under ``none`` the images are expected at ``images/``, by the names that
    ``train.txt`` has.

    Raises:
        DataError: a data set for classification without links or copies.
    """
    if records.is_classification:
        _write_classes(records, folder, images)
        return
    names = image_names(records.records, flat=True, suffixes=SUFFIXES)
    losses = Losses("yolo")
    for record in records.records:
        name = names[record.key]
        if images != "none":
            folder.place(f"images/{name}", record.path, record.key, images)
        folder.write(f"labels/{os.path.splitext(name)[0]}.txt", _labels(record, losses))
    losses.warn()
    folder.write("train.txt", "".join(f"./images/{names[r.key]}\n" for r in records.records))
    content = {
        "train": "train.txt",
        "val": "train.txt",
        "names": dict(enumerate(records.class_names)),
    }
    folder.write("data.yaml", _HEADER + yaml.safe_dump(content, sort_keys=False))


def _labels(record: Record, losses: Losses) -> str:
    """A line a box: its class, then centre, width and height as shares of the image's."""
    chosen = losses.without_crowds(record)
    losses.difficult(record)
    boxes, size = record.boxes[chosen], np.array([record.width, record.height], dtype=np.float64)
    corners = np.clip(boxes.reshape(-1, 2, 2), 0, size)
    cut = (np.abs(corners - boxes.reshape(-1, 2, 2)) > BOX_SLACK).any((1, 2))
    losses.add("are cut off at the edges of their image", record, int(cut.sum()))
    low, high = corners[:, 0], corners[:, 1]
    shares = np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)
    return "".join(
        " ".join([str(own), *(f"{share:.10g}" for share in row)]) + "\n"
        for own, row in zip(record.classes[chosen].tolist(), shares.tolist(), strict=True)
    )


def _write_classes(records: Records, folder: Folder, images: Images) -> None:
    if images == "none":
        raise DataError(
            "YOLO's classification knows the class of an image by its folder; use --images link"
        )
    folders = _class_folders(records.class_names)
    names = image_names(records.records, flat=True, suffixes=CLASS_SUFFIXES)
    for record in records.records:
        assert record.label is not None
        place = f"train/{folders[record.label]}/{names[record.key]}"
        folder.place(place, record.path, record.key, images)


def _class_folders(class_names: Sequence[str]) -> list[str]:
    """The folder of each class: its name, where that can be one and no other class has it.

    Readers take the folder for the class, so those that have another name are said.
    """
    taken, folders = Names(), [""] * len(class_names)
    # Those that are folders as they stand come first.
    for own, name in sorted(enumerate(class_names), key=lambda one: safe_part(one[1]) != one[1]):
        folders[own] = taken.add([safe_part(name)], f"class {name}")
    other = [f"{n!r} is {f!r}" for n, f in zip(class_names, folders, strict=True) if n != f]
    if other:
        logger.warning(
            "%d class(es) have a folder, and so a class in YOLO, of another name: %s",
            len(other),
            ", ".join(other[:5]) + (", ..." if len(other) > 5 else ""),
        )
    return folders
