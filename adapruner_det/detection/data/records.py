"""The kept samples of a selection as exports know them.

Shape letters: M objects of an image.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools.mask import encode

from ...export.records import Record, Records
from ...selection import Selection
from .checks import class_names, collector_paused, read_dataset, whole_reader
from .coco_file import coco_content, says_the_same
from .identity import key_of
from .kept_splits import register_parts
from .voc_files import annotation_files, normal
from .voc_folder import VOCFolder

logger = logging.getLogger(__name__)

#: What an export takes from a record and not from a COCO annotation's further fields.
_KNOWN = ("id", "image_id", "category_id", "bbox", "iscrowd")


@collector_paused()
def kept_records(selection: Selection) -> Records:
    """What ``selection`` keeps of its data sets, which are registered and still what they were.

    Raises:
        DataError: a base data set that is not registered, cannot be read, or has changed.
    """
    records: list[Record] = []
    only: list[dict[str, Any]] = []
    files: list[str] = []
    for base, kept in register_parts(selection).items():
        source = _Source(base, read_dataset(kept))
        only.append(source.header)
        files += [source.coco_file] if source.coco_file else []
        found = [_record(base, sample, source) for sample in source.samples]
        _warn_of_rotated(base, sum(rotated for _, rotated in found))
        records += [record for record, _ in found]
    used = 1 + max((int(r.classes.max()) for r in records if len(r.classes)), default=-1)
    return Records(
        records=sorted(records, key=lambda record: record.key),
        class_names=class_names(next(iter(selection.datasets)), used),
        coco_header=only[0] if len(only) == 1 else {},
        files=files,
    )


@dataclass(frozen=True)
class _Source:
    """The files behind a registered data set, whichever of this project's readers or Detectron2's.

    Attributes:
        name: of the data set.
        samples: that are kept of it. Where a file says otherwise of them, they are what counts.
    """

    name: str
    samples: list[dict[str, Any]]

    @cached_property
    def voc_root(self) -> str:
        """The folder in the VOC layout whose annotations are those of the samples, or nothing."""
        reader = whole_reader(self.name)
        return reader.root if isinstance(reader, VOCFolder) else ""

    @cached_property
    def image_root(self) -> str:
        """What the names of images are relative to; empty where it is not known."""
        meta = MetadataCatalog.get(self.name)
        if folder := self.voc_root or meta.get("dirname"):
            return os.path.join(folder, "JPEGImages")
        return str(getattr(whole_reader(self.name), "image_root", meta.get("image_root")) or "")

    @cached_property
    def header(self) -> dict[str, Any]:
        """What its COCO file has besides images and annotations; empty where none says the same."""
        return {k: v for k, v in self._coco.items() if k not in ("images", "annotations")}

    @cached_property
    def images(self) -> dict[Any, Mapping[str, Any]]:
        """Image id → what its COCO file says of the image."""
        return {image["id"]: image for image in self._coco.get("images", ())}

    @cached_property
    def annotations(self) -> dict[Any, list[Mapping[str, Any]]]:
        """Image id → what its COCO file says of its objects, in the file's order."""
        found: dict[Any, list[Mapping[str, Any]]] = {}
        for annotation in self._coco.get("annotations", ()):
            found.setdefault(annotation["image_id"], []).append(annotation)
        return found

    @cached_property
    def coco_file(self) -> str:
        """Where its COCO file is; empty where there is none."""
        meta = MetadataCatalog.get(self.name)
        return str(getattr(whole_reader(self.name), "json_file", meta.get("json_file")) or "")

    @cached_property
    def _coco(self) -> dict[str, Any]:
        file = self.coco_file
        content = coco_content(file) if file else {}
        if not content or says_the_same(content, self.samples, class_names(self.name)):
            return content
        logger.warning(
            "%s: what is exported is what its reader gives, for %s has other images, boxes or "
            "classes",
            self.name,
            file,
        )
        return {}

    def voc_file(self, image_id: str) -> str:
        """The XML of an image; empty where there is none under its name."""
        return self._voc_files.get(normal(image_id), "") if self.voc_root else ""

    @cached_property
    def _voc_files(self) -> dict[str, str]:
        return annotation_files(Path(self.voc_root, "Annotations"))


def _record(base: str, sample: dict[str, Any], source: _Source) -> tuple[Record, int]:
    """A sample's record, and how many of its boxes were rotated."""
    objects = sample.get("annotations", ())
    image_id = sample["image_id"]
    boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
    image = source.images.get(image_id, {})
    entries = source.annotations.get(image_id, []) if image else []
    by_id = {entry["id"]: entry for entry in entries if "id" in entry}  # some files have none
    record = Record(
        key=key_of(base, sample),
        path=str(sample["file_name"]),
        name=_name(sample, image, source),
        width=int(sample["width"]),
        height=int(sample["height"]),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        classes=np.array([a["category_id"] for a in objects], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd")) for a in objects], dtype=bool),
        difficult=np.array([bool(a.get("difficult")) for a in objects], dtype=bool),
        ids=[a["id"] for a in objects] if all("id" in a for a in objects) else (),
        unusable=len(sample.get("unusable_annotations", ())),
        extras=[_extra(a, by_id.get(a.get("id"))) for a in objects],
        coco_image=image,
        coco_annotations=entries,
        voc_file=source.voc_file(str(image_id)),
    )
    return record, sum(a["bbox_mode"] == BoxMode.XYWHA_ABS for a in objects)


def _name(sample: Mapping[str, Any], image: Mapping[str, Any], source: _Source) -> str:
    """Where the image lies below its folder."""
    path = str(sample["file_name"])
    if isinstance(image.get("file_name"), str):
        return str(image["file_name"])
    if source.voc_root:  # the id as the split has it, which composes letters as it likes
        return f"{sample['image_id']}{os.path.splitext(path)[1]}"
    below = os.path.relpath(path, source.image_root) if source.image_root else ""
    inside = below and not below.startswith(os.pardir)
    return below.replace(os.sep, "/") if inside else os.path.basename(path)


def _extra(annotation: Mapping[str, Any], entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """What COCO has of an object besides: as its file says it, or as Detectron2's dict does."""
    if entry is not None:
        return {name: value for name, value in entry.items() if name not in _KNOWN}
    found: dict[str, Any] = {}
    mask = annotation.get("segmentation")
    if isinstance(mask, np.ndarray):  # (H, W), which Detectron2 trains on as it is
        mask = encode(np.asfortranarray(mask, dtype=np.uint8))
    if isinstance(mask, dict):
        counts = mask["counts"]
        counts = counts.decode() if isinstance(counts, bytes) else counts
        found["segmentation"] = {"size": list(mask["size"]), "counts": counts}
    elif isinstance(mask, (list, tuple)):
        found["segmentation"] = [np.asarray(p, dtype=float).ravel().tolist() for p in mask]
    points = annotation.get("keypoints")
    if points is not None and len(points):  # Detectron2's are coordinates, COCO's pixel indices
        flat = np.asarray(points, dtype=float).reshape(-1, 3) - (0.5, 0.5, 0.0)
        found["keypoints"] = flat.ravel().tolist()
        found["num_keypoints"] = int((flat[:, 2] > 0).sum())
    return found


def _warn_of_rotated(name: str, count: int) -> None:
    if count:
        logger.warning("%s: %d rotated box(es) become the upright ones around them", name, count)
