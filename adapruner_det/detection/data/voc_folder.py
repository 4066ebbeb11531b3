"""Any folder in the VOC layout as a Detectron2 data set.

Annotations/<id>.xml    ImageSets/Main/<split>.txt    JPEGImages/<id>.jpg (.jpeg, .png, ...)
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import pascal_voc
from detectron2.structures import BoxMode

from ...errors import DataError
from ...images import SUFFIXES
from .faults import BoxCounts, Fault, SampleReader
from .identity import with_sizes
from .voc_files import (
    annotation_files,
    id_and_sign,
    image_files,
    is_aside,
    listed_ids,
    normal,
    other_files,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VOCFolder(SampleReader):
    """A split of a folder, as DatasetCatalog calls it.

    Attributes:
        root: the folder.
        split: the name of a file in ImageSets/Main, without ``.txt``.
        class_names: in the order of their category ids.
    """

    root: str
    split: str
    class_names: tuple[str, ...]

    def read(self) -> tuple[list[dict[str, Any]], list[Fault]]:
        """As :func:`read_voc_folder`."""
        return read_voc_folder(self.root, self.split, self.class_names)


def folder_behind(name: str, reader: object) -> VOCFolder | None:
    """The folder that ``reader`` of the data set ``name`` gives as it stands, or None.

    Detectron2's own reader gives the same as this project's, but neither ``difficult`` nor the name
    of a file that is broken or missing. A function of the user's may leave out samples, merge
    classes or move boxes, so that no folder is what it gives, whatever the metadata name.
    """
    if isinstance(reader, VOCFolder):
        return reader
    if getattr(reader, "__module__", "") != pascal_voc.__name__:
        return None
    meta = MetadataCatalog.get(name)
    return VOCFolder(meta.dirname, meta.split, tuple(meta.thing_classes))


def register_voc_folder(
    name: str,
    root: str | Path,
    split: str,
    class_names: list[str] | None = None,
    year: int = 2012,
) -> None:
    """Put a folder in the VOC layout into DatasetCatalog and MetadataCatalog.

    Args:
        name: of the data set; registering the same folder and split again changes nothing.
        root: the folder.
        split: the name of a file in ImageSets/Main, without ``.txt``.
        class_names: in the order of their category ids; by default the sorted names found in all
            annotations of the folder, so that its splits agree. They are put into NFC.
        year: 2007 for the 11-point metric, anything else for the area under the curve.

    Raises:
        DataError: a folder or split that is not there, or a name that is taken.
    """
    root = Path(root).expanduser().resolve()
    _require_layout(root, split)
    classes = [normal(own) for own in class_names or ()]
    if name in DatasetCatalog.list():
        meta = MetadataCatalog.get(name)
        same_classes = not classes or meta.get("thing_classes") == classes
        if (meta.get("dirname"), meta.get("split")) == (str(root), split) and same_classes:
            return
        raise DataError(
            f"the name {name!r} belongs to another data set "
            f"({meta.get('dirname')}, {meta.get('split')}, classes {meta.get('thing_classes')}); "
            "choose another name"
        )
    classes = classes or find_class_names(root)
    DatasetCatalog.register(name, VOCFolder(str(root), split, tuple(classes)))
    MetadataCatalog.get(name).set(
        thing_classes=classes,
        dirname=str(root),
        split=split,
        year=year,
        evaluator_type="voc_folder",
    )


def load_voc_folder(
    root: str | Path, split: str, class_names: list[str] | tuple[str, ...]
) -> list[dict[str, Any]]:
    """Detectron2's dicts of a split, as its own VOC reader gives them, and ``difficult`` besides.

    Boxes are (x0, y0, x1, y1) in pixels, decimals kept. As in Detectron2, xmin and ymin are taken
    as 1-based and lowered by one. Boxes that cannot be trained on are left out, with a warning.

    Raises:
        DataError: naming the file: an annotation that does not parse, an image or annotation that
            is missing, or a class that is not in ``class_names``.
    """
    return VOCFolder(str(root), split, tuple(class_names))()


def read_voc_folder(
    root: str | Path, split: str, class_names: list[str] | tuple[str, ...]
) -> tuple[list[dict[str, Any]], list[Fault]]:
    """As :func:`load_voc_folder`, with the faulty samples apart, in the order of the split.

    Raises:
        DataError: a folder or a split that is unfit as a whole.
    """
    root = Path(root)
    _require_layout(root, split)
    folder = _Folder(root, split, class_names)
    dicts: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for image_id in read_split(root, split):
        try:
            dicts.append(folder.sample(image_id))
        except DataError as error:
            faults.append(Fault(image_id, str(error)))
    boxes = BoxCounts()
    dicts = [boxes.sort_out(d, folder.annotation_file(d["image_id"])) for d in with_sizes(dicts)]
    boxes.warn(f"{root}, {split}")
    return dicts, faults


def find_class_names(root: Path) -> list[str]:
    """The class names in all annotations of a folder that parse: in NFC, sorted as they stand.

    Those of files that stand aside, as a program's own copies do, count only where a list names
    them. Classes that no list leads to have ids all the same, with a warning.

    Raises:
        DataError: no annotation names a class.
    """
    listed, folder = listed_ids(root), root / "Annotations"
    names: set[str] = set()
    unlisted: dict[str, str] = {}
    error: DataError | None = None
    for image_id, file in annotation_files(folder).items():
        if image_id not in listed and is_aside(folder, file):
            continue
        try:
            own = {box.name for box in _parse(file).boxes}
        except DataError as found:  # of a sample, if one of the split
            error = error or found
            continue
        if image_id in listed:
            names |= own
        else:
            unlisted |= dict.fromkeys(own - unlisted.keys(), file)
    if not names and not unlisted:
        raise error or DataError(f"no annotation in {folder} has an object")
    if listed:
        known = {normal(name) for name in names}
        _warn_of_unlisted({name: f for name, f in unlisted.items() if normal(name) not in known})
    return list(dict.fromkeys(map(normal, sorted(names | unlisted.keys()))))


def _warn_of_unlisted(files: dict[str, str]) -> None:
    """Say which classes, each with a file that has it, no list leads to."""
    if files:
        name, file = next(iter(files.items()))
        logger.warning(
            "%d class(es) are in no image that a list in ImageSets/Main names, and have an id all "
            "the same: %r in %s; if that is a stray file, remove it",
            len(files),
            name,
            file,
        )


def read_split(root: Path, split: str) -> list[str]:
    """The ids that a split's file names, one a line.

    A line is an id as a whole where there is a file of that name. Otherwise a last column of 1, 0
    or −1 is that of a class's image set and no part of the id.

    Raises:
        DataError: a file that cannot be read, an id twice, or one that leads out of the folder.
    """
    file = _split_file(root, split)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the split file {file} cannot be read: {error}; mend the file") from error
    annotations = annotation_files(root / "Annotations")
    rows = [id_and_sign(line.strip(), annotations) for line in lines if line.strip()]
    ids = [image_id for image_id, _ in rows]
    for image_id in ids:
        if "\0" in image_id or os.path.isabs(image_id) or ".." in image_id.split("/"):
            raise DataError(
                f"{file} names {image_id!r}, which leads out of {root}; remove the line"
            )
    twice = [image_id for image_id, count in Counter(map(normal, ids)).items() if count > 1]
    if twice:
        raise DataError(
            f"{file} names {twice[0]!r} more than once ({len(twice)} ids are repeated); "
            "name each image once"
        )
    if not ids:
        raise DataError(f"the split file {file} names no image")
    _warn_of_signs(file, [sign for _, sign in rows])
    return ids


class _Box(NamedTuple):
    """A box as its file has it: a class, (xmin, ymin, xmax, ymax), and the difficult flag."""

    name: str
    box: tuple[float, float, float, float]
    difficult: int


class _Annotation(NamedTuple):
    """What an XML file says; height and width are 0 where it does not."""

    height: int
    width: int
    boxes: list[_Box]


class _Folder:
    """The files of a folder by image id, and its classes."""

    def __init__(self, root: Path, split: str, class_names: list[str] | tuple[str, ...]) -> None:
        self._root, self._split = root, _split_file(root, split)
        self._category = {normal(name): i for i, name in enumerate(class_names)}
        self._images = image_files(root / "JPEGImages")
        self._annotations = annotation_files(root / "Annotations")
        self._others: dict[str, dict[str, str]] = {}

    def sample(self, image_id: str) -> dict[str, Any]:
        """Detectron2's dict of one image.

        Raises:
            DataError: naming the file that is missing or does not parse.
        """
        image = self._images.get(normal(image_id))
        annotated = normal(image_id) in self._annotations
        for kind, found in (("image", image is not None), ("annotation", annotated)):
            if not found:
                raise DataError(
                    f"{self._split} names {image_id!r}, whose {kind} is missing in {self._root}"
                    + self._other(kind, image_id)
                )
        file = self.annotation_file(image_id)
        annotation = _parse(file)
        return {
            "file_name": image,
            "image_id": image_id,
            "height": annotation.height,
            "width": annotation.width,
            "annotations": [self._object(box, file) for box in annotation.boxes],
        }

    def annotation_file(self, image_id: str) -> str:
        """The XML of an image that has one."""
        return self._annotations[normal(image_id)]

    def _other(self, kind: str, image_id: str) -> str:
        """What is there in place of a missing file; a clause of the error, or nothing."""
        place = {"image": "JPEGImages", "annotation": "Annotations"}[kind]
        if place not in self._others:
            self._others[place] = other_files(self._root / place)
        name = self._others[place].get(normal(image_id))
        suffixes = ", ".join(SUFFIXES) if kind == "image" else ".xml"
        return f"; {place}/{name} is there, but read are {suffixes}: convert it" if name else ""

    def _object(self, box: _Box, file: str) -> dict[str, Any]:
        category = self._category.get(normal(box.name))
        if category is None:
            raise DataError(
                f"{file} has the class {box.name!r}, which is not among {list(self._category)} "
                "(ADAPRUNER.VOC_CLASSES, where it is set)"
            )
        x0, y0, x1, y1 = box.box
        return {
            "category_id": category,
            "bbox": [x0 - 1.0, y0 - 1.0, x1, y1],
            "bbox_mode": BoxMode.XYXY_ABS,
            "difficult": box.difficult,
        }


def _require_layout(root: Path, split: str) -> None:
    if not root.is_dir():
        raise DataError(
            f"there is no folder {root.absolute()}; needed is one with Annotations, "
            "ImageSets/Main and JPEGImages"
        )
    missing = [
        d for d in ("Annotations", "ImageSets/Main", "JPEGImages") if not (root / d).is_dir()
    ]
    if missing:
        raise DataError(
            f"{root} is not a folder in the VOC layout: it has no {' and no '.join(missing)}; "
            "needed are Annotations, ImageSets/Main and JPEGImages"
        )
    if not _split_file(root, split).is_file():
        found = sorted(p.stem for p in (root / "ImageSets" / "Main").glob("*.txt"))
        stem = split.removesuffix(".txt")
        hint = f"; write {stem!r}, without .txt" if stem != split and stem in found else ""
        raise DataError(
            f"{root} has no split {split!r}: ImageSets/Main/{split}.txt is missing; "
            f"there are {', '.join(found) or 'none'}{hint}"
        )


def _split_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _warn_of_signs(file: Path, signs: list[str]) -> None:
    negative = signs.count("-1")
    if negative:
        logger.warning(
            "%s is the image set of a class: all its %d images are taken, the %d marked -1 too",
            file,
            len(signs),
            negative,
        )


_CAPITAL_TAG = re.compile(rb"<[A-Z]")

_Stamp = tuple[int, int]  # size in bytes, time of the last change in nanoseconds

#: Path → what it held when it was last read: a data set is asked for several times in a run.
_parsed: dict[str, tuple[_Stamp, _Annotation]] = {}


def forget() -> None:
    """Let go of the annotations that were read: nothing is to be read again soon."""
    _parsed.clear()


def _parse(file: str) -> _Annotation:
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise DataError(f"the annotation {file} is not a regular file")
        stamp = status.st_size, status.st_mtime_ns
        if file not in _parsed or _parsed[file][0] != stamp:
            _parsed[file] = stamp, _annotation(_root_element(file), file)
        return _parsed[file][1]
    except (ET.ParseError, ValueError, LookupError, OSError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the annotation {file} does not parse: {error}") from error


def _root_element(path: str) -> ET.Element:
    """The parsed file, without namespaces."""
    with open(path, "rb") as file:
        text = file.read()
    plain = text.replace(b"\0", b"") if b"\0" in text else text  # of UTF-16
    if b"<!ENTITY" in plain or b"<!DOCTYPE" in plain:
        raise DataError(f"the annotation {path} defines entities, which are not read")
    root = ET.fromstring(text)
    if b"xmlns" in plain or _CAPITAL_TAG.search(plain):
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        raise DataError(f"{path} is no annotation: it begins with <{root.tag}>")
    return root


def _annotation(tree: ET.Element, file: str) -> _Annotation:
    boxes = [box for obj in tree.iter("object") for box in _boxes(obj, file)]
    return _Annotation(*_stated_size(tree), boxes)


def _stated_size(tree: ET.Element) -> tuple[int, int]:
    """(height, width), or zeros where the annotation does not say."""
    height, width = (tree.findtext(f"size/{name}") for name in ("height", "width"))
    try:
        size = int(float(height or 0)), int(float(width or 0))
    except (ValueError, OverflowError):
        return 0, 0
    return size if min(size) > 0 else (0, 0)


def _boxes(obj: ET.Element, file: str) -> list[_Box]:
    """The boxes of an object: one, or all that a tool has put under one name.

    Those of its parts, as VOC has them for people, are not among them.
    """
    names = [(name.text or "").strip() for name in obj.findall("name")]
    if not any(names):
        raise DataError(f"{file} has an object without a name")
    if len(names) > 1:
        raise DataError(f"{file} has an object with {len(names)} names: {', '.join(names)}")
    name = names[0]
    found = obj.findall("bndbox")
    if not found:
        raise DataError(f"{file} has an object {name!r} without a bndbox")
    try:
        difficult = int(obj.findtext("difficult") or 0)
        return [_Box(name, _coordinates(box), difficult) for box in found]
    except ValueError as error:
        raise DataError(f"{file} has a box that does not parse: {error}, of {name!r}") from error


def _coordinates(box: ET.Element) -> tuple[float, float, float, float]:
    texts = {child.tag: child.text or "" for child in box}
    for side in ("xmin", "ymin", "xmax", "ymax"):
        if side not in texts:
            raise ValueError(f"it has no {side}")
        if "_" in texts[side]:  # which Python takes for a separator of digits
            raise ValueError(f"could not convert string to float: {texts[side]!r}")
    if len(texts) != len(box):
        raise ValueError("it has a side twice")
    x0, y0, x1, y1 = (float(texts[side]) for side in ("xmin", "ymin", "xmax", "ymax"))
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"{[x0, y0, x1, y1]} is not finite")
    return x0, y0, x1, y1
