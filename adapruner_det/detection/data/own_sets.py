"""The data sets that a configuration brings along: ``ADAPRUNER.VOC_FOLDERS`` and ``COCO_SETS``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...errors import DataError
from .checks import collector_paused
from .coco_set import register_coco_set
from .samples import require_same_classes
from .voc_files import normal
from .voc_folder import register_voc_folder


@collector_paused()
def register_from_config(cfg: CfgNode) -> None:
    """Register what ``cfg.ADAPRUNER.VOC_FOLDERS`` and ``COCO_SETS`` list.

    Entries are ``name=path:split`` and ``name=annotations.json:images``. A relative path is
    relative to $DETECTRON2_DATASETS (``datasets`` without it), or to the working directory where
    there is nothing of that name. Where the training set is one of them, the number of classes in
    ``cfg.MODEL`` is set from it.

    Raises:
        DataError: an entry that does not parse, a name given twice, or data that are unfit.
    """
    node = cfg.ADAPRUNER
    _require_class_names(node.VOC_CLASSES)
    names: list[str] = []
    for key in ("VOC_FOLDERS", "COCO_SETS"):
        if isinstance(node[key], str):
            raise DataError(
                f"ADAPRUNER.{key} is {node[key]!r}; it must be a list: \"['{_FORM[key]}']\""
            )
        for entry in node[key]:
            name, path, last = _parts(entry, key)
            if name in names:
                raise DataError(f"ADAPRUNER names two data sets {name!r}; give each a name")
            names.append(name)
            if key == "VOC_FOLDERS":
                register_voc_folder(name, _found(path), last, list(node.VOC_CLASSES))
            else:
                register_coco_set(name, _found(path), _found(last))
    used = [n for n in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if n in names]
    require_same_classes(used)
    if cfg.DATASETS.TRAIN and cfg.DATASETS.TRAIN[0] in names:
        _set_num_classes(cfg, len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes))


def _require_class_names(names: Sequence[object]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise DataError(
                f"ADAPRUNER.VOC_CLASSES lists {name!r}, which is no name; write '{name}' with "
                "quotes around it"
            )
    twice = [name for name, count in Counter(map(normal, map(str, names))).items() if count > 1]
    if twice:
        raise DataError(f"ADAPRUNER.VOC_CLASSES lists {twice[0]!r} twice; list each class once")


_FORM = {
    "VOC_FOLDERS": "my_train=/data/my:trainval",
    "COCO_SETS": "my_train=/data/my/train.json:/data/my/images",
}


def _parts(entry: object, key: str) -> tuple[str, str, str]:
    """(name, path, what follows the colon) of ``name=path:last``.

    It is the last colon, but for COCO's files the last of those whose two sides are there.
    """
    name, equals, place = str(entry).partition("=")
    path, colon, last = place.rpartition(":")
    if key == "COCO_SETS":
        cuts = [(place[:i], place[i + 1 :]) for i, own in enumerate(place) if own == ":"]
        there = [cut for cut in cuts if all(c and os.path.exists(_found(c)) for c in cut)]
        path, last = there[-1] if there else (path, last)
    if not (isinstance(entry, str) and name and equals and path and colon and last):
        raise DataError(
            f"ADAPRUNER.{key} has the entry {entry!r}; write "
            f"'{'name=path:split' if key == 'VOC_FOLDERS' else 'name=annotations.json:images'}', "
            f"as in '{_FORM[key]}'"
        )
    if "/" in name or "@" in name:
        raise DataError(f"ADAPRUNER.{key} names a data set {name!r}; leave / and @ out of it")
    return name, path, last


def _found(path: str) -> str:
    path = os.path.expandvars(os.path.expanduser(path))
    below = os.path.join(os.environ.get("DETECTRON2_DATASETS", "datasets"), path)
    return path if os.path.exists(path) and not os.path.exists(below) else below


def _set_num_classes(cfg: CfgNode, count: int) -> None:
    for node in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET, cfg.MODEL.YOLO):
        node.NUM_CLASSES = count
