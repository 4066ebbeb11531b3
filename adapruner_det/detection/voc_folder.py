"""Any folder in the VOC layout as a Detectron2 data set.

Annotations/<id>.xml    ImageSets/Main/<split>.txt    JPEGImages/<id>.jpg (.jpeg, .png)
"""

from __future__ import annotations

import logging
import math
import os
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from ..errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


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
            annotations of the folder, so that its splits agree.
        year: 2007 for the 11-point metric, anything else for the area under the curve.

    Raises:
        DataError: a folder or split that is not there, or a name that is taken.
    """
    root = Path(root).expanduser().resolve()
    _require_layout(root, split)
    if name in DatasetCatalog.list():
        meta = MetadataCatalog.get(name)
        same_classes = not class_names or meta.get("thing_classes") == list(class_names)
        if (meta.get("dirname"), meta.get("split")) == (str(root), split) and same_classes:
            return
        raise DataError(
            f"the name {name!r} belongs to another data set "
            f"({meta.get('dirname')}, {meta.get('split')}, classes {meta.get('thing_classes')}); "
            "choose another name"
        )
    classes = list(class_names) if class_names else find_class_names(root)
    DatasetCatalog.register(name, partial(load_voc_folder, root, split, classes))
    MetadataCatalog.get(name).set(
        thing_classes=classes,
        dirname=str(root),
        split=split,
        year=year,
        evaluator_type="voc_folder",
    )


def register_from_config(cfg: CfgNode) -> None:
    """Register what ``cfg.ADAPRUNER.VOC_FOLDERS`` lists, entries ``name=path:split``.

    A relative path is relative to $DETECTRON2_DATASETS (``datasets`` without it). Where the
    training set is such a folder, the number of classes in ``cfg.MODEL`` is set from it.

    Raises:
        DataError: an entry of another form, training and test folders whose classes differ, and
            what :func:`register_voc_folder` raises.
    """
    base = os.environ.get("DETECTRON2_DATASETS", "datasets")
    for entry in cfg.ADAPRUNER.VOC_FOLDERS:
        name, equals, place = entry.partition("=")
        path, colon, split = place.rpartition(":")
        if not (name and equals and path and colon and split):
            raise DataError(
                f"ADAPRUNER.VOC_FOLDERS has the entry {entry!r}; write 'name=path:split', "
                "as in 'my_train=/data/my:trainval'"
            )
        root = os.path.join(base, os.path.expandvars(os.path.expanduser(path)))
        register_voc_folder(name, root, split, cfg.ADAPRUNER.VOC_CLASSES)
    names = {entry.partition("=")[0] for entry in cfg.ADAPRUNER.VOC_FOLDERS}
    _require_same_classes([n for n in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if n in names])
    if cfg.DATASETS.TRAIN and cfg.DATASETS.TRAIN[0] in names:
        _set_num_classes(cfg, len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes))


def load_voc_folder(
    root: str | Path, split: str, class_names: list[str] | tuple[str, ...]
) -> list[dict[str, Any]]:
    """Detectron2's dicts of a split, as its own VOC reader gives them, and ``difficult`` besides.

    Boxes are (x0, y0, x1, y1) in pixels, decimals kept. As in Detectron2, xmin and ymin are taken
    as 1-based and lowered by one. Boxes without area are left out, with one warning.

    Raises:
        DataError: naming the file: an annotation that does not parse, an image or annotation that
            is missing, or a class that is not in ``class_names``.
    """
    root = Path(root)
    _require_layout(root, split)
    category = {name: i for i, name in enumerate(class_names)}
    # Backwards, so that of a.jpg and a.png the former stays: Detectron2 reads only that.
    files = sorted((root / "JPEGImages").iterdir(), reverse=True)
    images = {p.stem: p for p in files if p.suffix in IMAGE_SUFFIXES}
    split_file = root / "ImageSets" / "Main" / f"{split}.txt"
    dicts: list[dict[str, Any]] = []
    empty: list[str] = []
    for image_id in _read_split(split_file):
        annotation = root / "Annotations" / f"{image_id}.xml"
        for kind, there in (("image", image_id in images), ("annotation", annotation.is_file())):
            if not there:
                raise DataError(
                    f"{split_file} names {image_id!r}, whose {kind} is missing in {root}; "
                    "remove the line or add the file"
                )
        tree = _parse(annotation)
        height, width = _image_size(tree, images[image_id])
        objects = [_read_object(obj, category, annotation) for obj in tree.iter("object")]
        kept = [o for o in objects if o["bbox"][2] > o["bbox"][0] and o["bbox"][3] > o["bbox"][1]]
        empty += [str(annotation)] * (len(objects) - len(kept))
        dicts.append(
            {
                "file_name": str(images[image_id]),
                "image_id": image_id,
                "height": height,
                "width": width,
                "annotations": kept,
            }
        )
    if empty:
        logger.warning(
            "%d box(es) without area are left out, the first in %s", len(empty), empty[0]
        )
    return dicts


def find_class_names(root: Path) -> list[str]:
    """The sorted class names in all annotations of a folder.

    Raises:
        DataError: no annotation names a class, or one does not parse.
    """
    names = {
        _class_name(obj, file)
        for file in sorted((root / "Annotations").glob("*.xml"))
        for obj in _parse(file).iter("object")
    }
    if not names:
        raise DataError(f"no annotation in {root / 'Annotations'} has an object")
    return sorted(names)


def _require_layout(root: Path, split: str) -> None:
    missing = [
        d for d in ("Annotations", "ImageSets/Main", "JPEGImages") if not (root / d).is_dir()
    ]
    if missing:
        raise DataError(
            f"{root} is not a folder in the VOC layout: it has no {' and no '.join(missing)}; "
            "needed are Annotations, ImageSets/Main and JPEGImages"
        )
    found = sorted(p.stem for p in (root / "ImageSets" / "Main").glob("*.txt"))
    if split not in found:
        raise DataError(
            f"{root} has no split {split!r}: ImageSets/Main/{split}.txt is missing; "
            f"there are {', '.join(found) or 'none'}"
        )


def _require_same_classes(names: list[str]) -> None:
    """Without it a class that one folder lacks would shift the numbers of those after it."""
    classes = {name: MetadataCatalog.get(name).thing_classes for name in names}
    for name, own in classes.items():
        if own != classes[names[0]]:
            raise DataError(
                f"the classes of {names[0]!r} and {name!r} differ: {classes[names[0]]} and {own}; "
                "list the classes of all in ADAPRUNER.VOC_CLASSES"
            )


def _read_split(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the split file {file} cannot be read: {error}; mend the file") from error
    return [line.split()[0] for line in lines if line.strip()]  # VOC's lists may have 2 columns


def _parse(file: Path) -> ET.Element:
    try:
        return ET.parse(file).getroot()
    except (ET.ParseError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"the annotation {file} does not parse: {error}; mend the file") from error


def _image_size(tree: ET.Element, image: Path) -> tuple[int, int]:
    """(height, width) from the annotation, or from the image where it does not say."""
    height, width = (tree.findtext(f"size/{name}") for name in ("height", "width"))
    try:
        size = int(float(height or 0)), int(float(width or 0))
    except ValueError:
        size = 0, 0
    if min(size) > 0:
        return size
    with Image.open(image) as opened:
        return opened.height, opened.width


def _class_name(obj: ET.Element, file: Path) -> str:
    name = (obj.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{file} has an object without a name; mend the file")
    return name


def _read_object(obj: ET.Element, category: dict[str, int], file: Path) -> dict[str, Any]:
    name = _class_name(obj, file)
    if name not in category:
        raise DataError(
            f"{file} has the class {name!r}, which is not among {list(category)}; "
            "add it to ADAPRUNER.VOC_CLASSES or correct the file"
        )
    try:
        x0, y0, x1, y1 = box = [
            float(str(obj.findtext(f"bndbox/{side}"))) for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        difficult = int(obj.findtext("difficult") or 0)
        if not all(map(math.isfinite, box)):
            raise ValueError(f"{box} is not finite")
    except ValueError as error:
        raise DataError(f"{file} has a box that does not parse: {error}; mend the file") from error
    return {
        "category_id": category[name],
        "bbox": [x0 - 1.0, y0 - 1.0, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "difficult": difficult,
    }


def _set_num_classes(cfg: CfgNode, count: int) -> None:
    for node in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET, cfg.MODEL.YOLO):
        node.NUM_CLASSES = count
