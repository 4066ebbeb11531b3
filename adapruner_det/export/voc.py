"""VOC: a list of ids a data set, to be put beside the folder's others, or a folder of its own.

Without links or copies of the images the lists alone are written, each for the folder that its data
set lies in. With them it is a whole folder: JPEGImages, and Annotations as the source has them, or
made from the boxes where the source is no VOC folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

from ..errors import DataError
from ..images import SUFFIXES
from ..samples import dataset_of
from .folder import Folder, Images
from .losses import Losses
from .names import image_names, safe_part
from .records import Record, Records

#: What an XML file cannot hold, or what is another character once it is read: a carriage return.
_NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc(records: Records, folder: Folder, images: Images, keep_ratio: float) -> None:
    """Write ``ImageSets/Main/<data set>_kept90.txt``, and all it names unless ``images`` is none.

    Crowds cannot be told from objects in this format and are left out, with a warning.

    Raises:
        DataError: an id that a list cannot hold, a class name that an XML cannot hold, or an XML
            that is gone.
    """
    if images == "none":
        ids = {record.key: os.path.splitext(record.name)[0] for record in records.records}
        _require_ids(ids)
    else:
        _require_class_names(records)
        names = image_names(records.records, suffixes=SUFFIXES)
        ids = {key: os.path.splitext(name)[0] for key, name in names.items()}
        losses = Losses("voc")
        for record in records.records:
            folder.place(f"JPEGImages/{names[record.key]}", record.path, record.key, images)
            xml = _source(record) if record.voc_file else _xml(record, records, names, losses)
            folder.write(f"Annotations/{ids[record.key]}.xml", xml)
        losses.warn()
    for name in records.dataset_names:
        own = [image_id for key, image_id in ids.items() if dataset_of(key) == name]
        split = f"{safe_part(name)}_kept{100 * keep_ratio:g}"
        folder.write(f"ImageSets/Main/{split}.txt", "".join(f"{line}\n" for line in own))


def _require_ids(ids: dict[str, str]) -> None:
    """Raise a DataError unless each id can stand in the list of its data set, once."""
    for key, image_id in ids.items():
        plain = image_id.isprintable() and image_id == image_id.strip()
        if not plain or {"", ".", ".."} & {*image_id.split("/")}:
            raise DataError(f"{image_id!r} of {key} cannot stand in a list; use --images link")
    taken: dict[tuple[str, str], str] = {}
    for key, image_id in ids.items():
        other = taken.setdefault((dataset_of(key), unicodedata.normalize("NFC", image_id)), key)
        if other != key:
            raise DataError(
                f"{image_id!r} would stand for {other} and {key} in a list; use --images link"
            )


def _require_class_names(records: Records) -> None:
    """Raise a DataError unless the classes that are written are read back as they are."""
    made = [record for record in records.records if not record.voc_file]
    used = sorted({int(own) for record in made for own in record.classes})
    taken: dict[str, str] = {}
    for name in (records.class_names[own] for own in used):
        if not name.strip() or name != name.strip() or _NOT_XML.search(name):
            raise DataError(
                f"VOC cannot hold the class name {name!r}, which is empty or has spaces around it "
                "or what XML has no character for; rename the class, or use --format coco"
            )
        other = taken.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise DataError(
                f"the classes {other!a} and {name!a} would be one in VOC; rename one of them, or "
                "use --format coco"
            )


def _source(record: Record) -> bytes:
    try:
        return Path(record.voc_file).read_bytes()
    except OSError as error:
        raise DataError(f"{record.voc_file} cannot be read: {error.strerror}") from error


def _xml(record: Record, records: Records, names: dict[str, str], losses: Losses) -> bytes:
    """VOC's corners are pixels counted from 1, the lower ones inclusive."""
    root = ET.Element("annotation")
    _add(root, "filename", os.path.basename(names[record.key]))
    size = ET.SubElement(root, "size")
    for name, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _add(size, name, value)
    for i in losses.without_crowds(record):
        obj = ET.SubElement(root, "object")
        _add(obj, "name", records.class_names[record.classes[i]])
        _add(obj, "truncated", 0)
        _add(obj, "difficult", int(record.difficult[i]))
        box = ET.SubElement(obj, "bndbox")
        x0, y0, x1, y1 = record.boxes[i].tolist()
        for name, side in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(box, name, f"{side:.10g}")
    ET.indent(root)
    return str(ET.tostring(root, encoding="unicode")).encode() + b"\n"


def _add(parent: ET.Element, name: str, value: object) -> None:
    ET.SubElement(parent, name).text = str(value)
