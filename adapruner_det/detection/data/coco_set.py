"""Any annotation file in COCO's format, with its images, as a Detectron2 data set."""

from __future__ import annotations

import json
import logging
import math
import os
import reprlib
from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from ...errors import DataError
from ...values import is_number
from .faults import Fault, SampleReader
from .identity import with_sizes

logger = logging.getLogger(__name__)

#: What an annotation hands on unchanged, as in Detectron2's own reader; ``id`` is for messages.
_KEYS = ("iscrowd", "bbox", "keypoints", "category_id", "id")


@dataclass(frozen=True)
class COCOSet(SampleReader):
    """An annotation file and its folder of images, as DatasetCatalog calls it.

    Attributes:
        json_file: the annotations.
        image_root: what its file names are relative to.
    """

    json_file: str
    image_root: str

    def read(self) -> tuple[list[dict[str, Any]], list[Fault]]:
        """Detectron2's dicts, as its ``load_coco_json`` gives them, and the faulty samples apart.

        Raises:
            DataError: a file that is not in COCO's format.
        """
        dicts, faults = _dicts(_content(self.json_file), self.image_root)
        return with_sizes(dicts), faults


def register_coco_set(name: str, json_file: str | Path, image_root: str | Path) -> None:
    """Put an annotation file in COCO's format into DatasetCatalog, and its classes beside it.

    Unlike Detectron2's ``register_coco_instances`` it reads the file now, so that the metadata are
    there before the data set is first read. Registering the same again changes nothing.

    Raises:
        DataError: a file or folder that is not there or not in COCO's format, or a taken name.
    """
    json_file, image_root = (str(Path(p).expanduser().resolve()) for p in (json_file, image_root))
    if not os.path.isdir(image_root):
        raise DataError(f"there is no folder of images {image_root} for the data set {name!r}")
    entry = COCOSet(json_file, image_root)
    content = _content(json_file)
    if name in DatasetCatalog.list():
        found = DatasetCatalog[name]
        if entry in (found, getattr(found, "reader", None)):  # the check may have wrapped it
            return
        raise DataError(f"the name {name!r} belongs to another data set; choose another name")
    DatasetCatalog.register(name, entry)
    metadata: dict[str, Any] = {
        "thing_classes": list(content.names),
        "thing_dataset_id_to_contiguous_id": content.class_of,
        "image_root": image_root,
        "evaluator_type": "coco",
    }
    annotations = [a for own in content.annotations.values() for a in own]
    # Without it an evaluator makes a file of its own from the dicts.
    if is_for_pycocotools(content.images, annotations):
        metadata["json_file"] = json_file
    MetadataCatalog.get(name).set(**metadata)


def is_for_pycocotools(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> bool:
    """Whether pycocotools evaluates by a file rightly: it takes the id 0 for no match, say."""
    plain = all(_whole(i.get(side)) for i in images for side in ("height", "width")) and all(
        _whole(a.get("id")) and "iscrowd" in a and is_number(a.get("area")) for a in annotations
    )
    # Where one object has a mask or keypoints, it asks for those of all, crowds too.
    masked = any(a.get("segmentation") for a in annotations)
    posed = any(a.get("keypoints") for a in annotations)
    return (
        plain
        and (not masked or all(map(_is_masked, annotations)))
        and (not posed or all(map(_is_posed, annotations)))
    )


def _is_posed(annotation: dict[str, Any]) -> bool:
    """Whether it has keypoints, and how many are visible."""
    return bool(annotation.get("keypoints")) and "num_keypoints" in annotation


def _is_masked(annotation: dict[str, Any]) -> bool:
    """Whether it has a mask that pycocotools reads: it takes a polygon of 4 numbers for a box."""
    mask = annotation.get("segmentation")
    if isinstance(mask, list):
        return bool(mask) and all(isinstance(own, list) and len(own) >= 6 for own in mask)
    return isinstance(mask, dict)


@dataclass(frozen=True)
class _Content:
    """A file's images in rising order of their ids, their annotations, and its classes."""

    file: str
    images: list[dict[str, Any]]
    annotations: dict[Any, list[dict[str, Any]]]
    class_of: dict[int, int]
    names: tuple[str, ...]


#: Path → size and time of change when it was last read, and what it held.
_read: dict[str, tuple[tuple[int, int], _Content]] = {}


def forget() -> None:
    """Let go of the files that were read: nothing is to be read again soon."""
    _read.clear()


def _content(file: str) -> _Content:
    try:
        if not os.path.isfile(file):
            raise DataError(f"there is no annotation file {file}")
        status = os.stat(file)
        stamp = status.st_size, status.st_mtime_ns
        if file not in _read or _read[file][0] != stamp:
            with open(file, encoding="utf-8-sig") as opened:
                _read[file] = stamp, _checked(json.load(opened), file)
        return _read[file][1]
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file} is not JSON: {error}; mend the file") from error


def _checked(data: Any, file: str) -> _Content:
    """The content of a file whose parts fit together."""
    for part in ("images", "annotations", "categories"):
        found = data.get(part) if isinstance(data, dict) else None
        if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
            raise DataError(f"{file} is not in COCO's format: it has no list of {part!r}")
        _require_ids(found, part, file)
    categories = sorted(data["categories"], key=lambda c: c["id"])
    if not categories:
        raise DataError(f"{file} names no category")
    for category in categories:
        if not isinstance(category["id"], int) or not isinstance(category.get("name"), str):
            raise DataError(f"{file}: the category {category} needs a whole id and a name")
        if any("\ud800" <= letter <= "\udfff" for letter in category["name"]):  # half a letter
            raise DataError(f"{file}: the category {category['name']!a} is no text; rename it")
    alike = [n for n, count in Counter(c["name"] for c in categories).items() if count > 1]
    if alike:
        raise DataError(f"{file}: two categories are called {alike[0]!r}; give each its own name")
    class_of = {c["id"]: i for i, c in enumerate(categories)}
    images = sorted(data["images"], key=lambda image: image["id"])
    annotations = defaultdict(list)
    known = {image["id"] for image in images}
    for a in data["annotations"]:
        if not _is_among(a.get("image_id"), known):
            raise DataError(
                f"{file}: the annotation {a['id']} is of image {a.get('image_id')!r}, "
                "which is not there; add the image or remove the annotation"
            )
        if not _is_among(a.get("category_id"), class_of):
            raise DataError(
                f"{file}: the annotation {a['id']} of image {a['image_id']} has the category "
                f"{a.get('category_id')!r}, which is not among {list(class_of)[:20]}"
            )
        annotations[a["image_id"]].append(a)
    return _Content(file, images, annotations, class_of, tuple(c["name"] for c in categories))


def _is_among(value: Any, known: Container[Any]) -> bool:
    return isinstance(value, (int, float, str)) and value in known


def _require_ids(rows: list[dict[str, Any]], part: str, file: str) -> None:
    """Ids that are there, of one type, and each given once."""
    ids = [row.get("id") for row in rows]
    if not all(isinstance(i, int) for i in ids) and not all(isinstance(i, str) for i in ids):
        bad = next(i for i in ids if not isinstance(i, int))
        raise DataError(f"{file}: the id {bad!r} in {part!r}; all must be whole numbers, or text")
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{file}: the id {twice[0]!r} is there more than once in {part!r}")


def _dicts(content: _Content, image_root: str) -> tuple[list[dict[str, Any]], list[Fault]]:
    dicts: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for image in content.images:
        try:
            file_name = _file_name(image, image_root)
            objects = [_object(a, content) for a in content.annotations[image["id"]]]
        except DataError as error:
            problem = f"{content.file}: image {image['id']!r} {error}"
            faults.append(Fault(str(image["id"]), problem))
            continue
        height, width = (_size(image.get(side)) for side in ("height", "width"))
        dicts.append(
            {
                "file_name": file_name,
                "image_id": image["id"],
                "height": height,
                "width": width,
                "annotations": objects,
            }
        )
    return dicts, faults


def _whole(value: Any) -> int:
    """A whole number above 0 as it is, else 0."""
    return value if isinstance(value, int) and value > 0 else 0


def _size(value: Any) -> int:
    """A size, also of 640.0 or "640"; 0 where the file does not say: the image tells it."""
    try:
        return max(int(float(value)), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _file_name(image: dict[str, Any], image_root: str) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"has the file_name {name!r}: give it one")
    path = os.path.normpath(os.path.join(image_root, name))
    if "\0" in name or not path.startswith(os.path.join(image_root, "")):
        raise DataError(f"has the file_name {name!r}, which leads out of {image_root}")
    return path


def _object(annotation: dict[str, Any], content: _Content) -> dict[str, Any]:
    """Detectron2's annotation; the check of the sample finds what is wrong with its box."""
    if annotation.get("ignore"):
        raise DataError(f"has 'ignore' in annotation {annotation['id']}: remove it")
    obj = {key: annotation[key] for key in _KEYS if key in annotation}
    obj["bbox_mode"] = BoxMode.XYWH_ABS
    obj["category_id"] = content.class_of[annotation["category_id"]]
    if isinstance(obj.get("bbox"), list):
        obj["bbox"] = obj["bbox"][:]  # the caller's own: the file's content stays in memory
    try:
        if segmentation := _segmentation(annotation.get("segmentation")):
            obj["segmentation"] = segmentation
        if annotation.get("keypoints"):
            obj["keypoints"] = _keypoints(annotation["keypoints"])
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise DataError(
            f"has a mask or keypoints that do not parse in annotation {annotation['id']}: {error}"
        ) from error
    return obj


def _segmentation(given: Any) -> Any:
    """Polygons of at least three corners, or a compressed RLE."""
    if isinstance(given, dict):
        return _rle(given["counts"], *given["size"])
    if isinstance(given, (str, bool, int, float)):
        raise ValueError(f"{given!r} is no list of polygons")
    for polygon in given or ():
        _require_numbers(polygon)
    return [p for p in given or () if len(p) % 2 == 0 and len(p) >= 6]


def _rle(counts: Any, height: int, width: int) -> dict[str, Any]:
    if not (_whole(height) and _whole(width)):
        raise ValueError(f"a mask of {height!r}×{width!r} pixels")
    if not isinstance(counts, (list, str)):
        raise ValueError(f"counts of the type {type(counts).__name__}")
    # What the runs do not reach pycocotools leaves as the memory happens to be.
    runs = _runs(counts) if isinstance(counts, str) else counts
    if set(map(type, runs)) - {int} or min(runs) < 0 or sum(runs) != height * width:
        raise ValueError(f"counts that do not make a mask of {height}×{width} pixels")
    found = {"size": [height, width], "counts": counts}
    return found if isinstance(counts, str) else coco_mask.frPyObjects(found, height, width)


def _runs(counts: str) -> list[int]:
    """The lengths of the runs of a compressed RLE, as pycocotools reads them.

    A number is of 5 bits a letter, the lowest first; from the fourth on it is the difference to the
    one before the last.
    """
    letters = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    ends = (letters & 32) == 0  # of a number
    if not len(letters) or not ends[-1] or letters.min() < 0 or letters.max() > 63:
        raise ValueError(f"the counts {reprlib.repr(counts)}")
    starts = np.flatnonzero(np.append(True, ends[:-1]))
    bits = 5 * (np.arange(len(letters)) - np.repeat(starts, np.diff([*starts, len(letters)])))
    if bits.max() > 30:
        raise ValueError("a count of more than 32 bits")
    runs: np.ndarray = np.add.reduceat((letters & 31) << bits, starts)
    runs -= (letters[ends] & 16) << (bits[ends] + 1)  # the sign
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return list(runs.tolist())


def _keypoints(given: list[float]) -> list[float]:
    """COCO's are pixel indices, Detectron2's are coordinates; every third number is a flag."""
    _require_numbers(given)
    if len(given) % 3:
        raise ValueError(f"{len(given)} numbers, which are not three a point")
    return [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(given)]


def _require_numbers(values: list[Any]) -> None:
    """Raise a ValueError unless it is a list of finite numbers."""
    # Some files have millions of them, so no loop over single ones.
    if not isinstance(values, list) or set(map(type, values)) - {int, float}:
        raise ValueError(f"{reprlib.repr(values)} is no list of numbers")
    if not math.isfinite(sum(values)):
        raise ValueError("a number that is not finite")
