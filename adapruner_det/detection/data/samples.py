"""The samples of a run's data sets, by index.

Shape letters: N samples, G objects of a sample, H x W pixels.

A sample's index, 0 to N−1, is its place among the sorted keys of a run, taken after Detectron2 has
filtered the data sets.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)
from detectron2.structures import BoxMode
from detectron2.utils.logger import log_first_n

from ...errors import DataError
from ...images import read_upright
from ...samples import Samples, fingerprints
from .checks import CheckedSet, checked_set, class_names, collector_paused
from .identity import key_of, sample_digest


@dataclass(frozen=True)
class SampleIndex:
    """The training samples of a run, by index.

    Attributes:
        keys: the N keys, sorted.
        digests: (N,) uint64, of each sample's image and annotations.
        dicts: Detectron2's dict of each sample, with ``sample_index`` added; serialised, so that
            processes that load share them.
        dataset_names: the data sets they come from.
        excluded: key → why a sample of these data sets is not among them.
    """

    keys: list[str]
    digests: np.ndarray
    dicts: DatasetFromList
    dataset_names: tuple[str, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SampleIndex:
        """The samples of ``cfg.DATASETS.TRAIN``, checked, and filtered as Detectron2 does.

        Raises:
            DataError: what :func:`checks.checked_set` raises, data sets whose classes differ, and
                what :meth:`from_dicts` raises.
        """
        require_datasets(cfg.DATASETS.TRAIN)
        found = {n: checked_set(n, cfg.ADAPRUNER.ON_BAD_SAMPLE) for n in cfg.DATASETS.TRAIN}
        require_same_classes(cfg.DATASETS.TRAIN)
        return cls.from_sets(cfg, found)

    @classmethod
    def from_sets(cls, cfg: CfgNode, found: Mapping[str, CheckedSet]) -> SampleIndex:
        """As :meth:`from_config`, of data sets that have been checked, by name."""
        sets = {name: found[name] for name in cfg.DATASETS.TRAIN}
        index = cls.from_dicts({n: _filtered(cfg, n, own.dicts) for n, own in sets.items()})
        excluded = {k: why for own in sets.values() for k, why in own.excluded.items()}
        return replace(index, excluded=excluded)

    @classmethod
    @collector_paused()
    def from_dicts(cls, datasets: dict[str, list[dict[str, Any]]]) -> SampleIndex:
        """The samples of ``datasets``, name → Detectron2 dicts.

        Raises:
            DataError: no sample at all, or one key twice.
        """
        by_key: dict[str, dict[str, Any]] = {}
        for name, dicts in datasets.items():
            for sample in dicts:
                key = key_of(name, sample)
                if key in by_key:
                    raise DataError(
                        f"the sample {key} is there twice; image_id must be unique in a data set"
                    )
                by_key[key] = sample
        if not by_key:
            raise DataError(
                f"the data sets {', '.join(datasets) or '(none)'} have no training image; "
                "check DATASETS.TRAIN and DATALOADER.FILTER_EMPTY_ANNOTATIONS"
            )
        keys = sorted(by_key)
        digests = np.array([sample_digest(by_key[key]) for key in keys], dtype=np.uint64)
        dicts = [{**by_key[key], "sample_index": i} for i, key in enumerate(keys)]
        serialised = DatasetFromList(dicts, copy=False, serialize=True)
        return cls(keys, digests, serialised, tuple(datasets))

    @cached_property
    def samples(self) -> Samples:
        """The same as both tasks know them; images are read as Detectron2 reads them, in RGB."""
        objects = [_objects(d) for d in self.dicts]
        classes = [own for own, _ in objects]
        used = 1 + max((max(own, default=-1) for own in classes), default=-1)
        return Samples(
            keys=self.keys,
            digests=self.digests,
            datasets=fingerprints(self.keys, self.digests, self.dataset_names),
            classes=classes,
            class_names=tuple(class_names(self.dataset_names[0], used)),
            digest_of="bytes" if all(d.get("file_digest") for d in self.dicts) else "",
            excluded=self.excluded,
            read_image=self._read_image,
            boxes=[own for _, own in objects],
        )

    def _read_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB; a DataError, with its name, for a file that cannot be read."""
        return np.asarray(read_upright(self.dicts[index]["file_name"]).convert("RGB"))


def _objects(sample: Mapping[str, Any]) -> tuple[list[int], np.ndarray]:
    """The class ids, and the boxes (G, 4) float32, of a Detectron2 dict; crowds are no objects."""
    own = [a for a in sample.get("annotations", ()) if not a.get("iscrowd")]
    boxes = [corners(a["bbox"], a["bbox_mode"]) for a in own]
    classes = [int(a["category_id"]) for a in own]
    return classes, np.array(boxes, dtype=np.float32).reshape(-1, 4)


def corners(box: Sequence[float], mode: int) -> Sequence[float]:
    """(x0, y0, x1, y1). The common modes by hand: a data set may have a million boxes."""
    if mode == BoxMode.XYXY_ABS:
        return box
    if mode == BoxMode.XYWH_ABS:
        x, y, width, height = box
        return x, y, x + width, y + height
    found: Sequence[float] = BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS)
    return found[:4]


def require_registered(name: str) -> None:
    """Raise a DataError naming near matches unless ``name`` is in DatasetCatalog."""
    known = sorted(DatasetCatalog.list())
    if name in known:
        return
    alike = difflib.get_close_matches(name, known, 3, 0.75)
    near = dict.fromkeys(alike + [k for k in known if k.split("_")[0] == name.split("_")[0]])
    raise DataError(
        f"there is no data set named {name!r}"
        + (f"; near it are {', '.join([*near][:6])}" if near else "")
        + "; register a folder in the VOC layout with "
        f"ADAPRUNER.VOC_FOLDERS \"['{name}=/path/to/folder:trainval']\", or a COCO file with "
        f"ADAPRUNER.COCO_SETS \"['{name}=/path/to/file.json:/path/to/images']\""
    )


def require_datasets(names: Sequence[str]) -> None:
    """Raise a DataError unless all ``names`` are registered and their files are where they say."""
    for name in names:
        require_registered(name)
        meta = MetadataCatalog.get(name)
        folder = getattr(meta, "dirname", None) or getattr(meta, "image_root", None)
        if folder and not os.path.isdir(folder):
            raise DataError(
                f"the data set {name!r} is not there: looked in {os.path.abspath(folder)}; "
                f"{_how_to_get(name)}. `make demo` needs no data set"
            )


def _how_to_get(name: str) -> str:
    if name.startswith("voc_"):
        return (
            "get it with `python datasets/prepare_voc.py`, or set DETECTRON2_DATASETS to the "
            "folder that has VOC2007 and VOC2012"
        )
    return "set DETECTRON2_DATASETS to the folder that has it (see datasets/README.md)"


def require_same_classes(names: Sequence[str]) -> None:
    """Raise a DataError unless one category id means one class in all of ``names``.

    Detectron2 asks for the same. The data sets have been read.
    """
    told = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    classes = {name: list(own) for name, own in told.items() if own is not None}
    first = next(iter(classes), "")
    for name, own in classes.items():
        if own != classes[first]:
            raise DataError(
                f"the classes of {first!r} and {name!r} differ: {classes[first]} and {own}; "
                "use data sets with the same classes in the same order (those of VOC folders can "
                "be set with ADAPRUNER.VOC_CLASSES)"
            )


def _filtered(cfg: CfgNode, name: str, dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples that Detectron2 would train on, as its ``get_detection_dataset_dicts`` does."""
    dicts = _with_objects(cfg, dicts)
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    if cfg.MODEL.KEYPOINT_ON and keypoints > 0:
        dicts = filter_images_with_few_keypoints(dicts, keypoints)
    return dicts


def _with_objects(cfg: CfgNode, dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and all("annotations" in d for d in dicts):
        return list(filter_images_with_only_crowd_annotations(dicts))
    return dicts


def warn_of_empty(cfg: CfgNode, name: str, dicts: list[dict[str, Any]]) -> None:
    """Say how many images of a training set are left out because they have no object.

    Detectron2 says so itself as it filters, but to a log that is not yet set up.

    Args:
        cfg: the configuration.
        name: of the data set.
        dicts: its samples, without unusable boxes and not yet filtered.
    """
    stay = {id(sample) for sample in _with_objects(cfg, dicts)}
    if empty := [sample for sample in dicts if id(sample) not in stay]:
        line = (
            f"{name}: {len(empty)} image(s) without objects are left out "
            f"(DATALOADER.FILTER_EMPTY_ANNOTATIONS), the first is {empty[0]['file_name']}"
        )
        # A run whose data are looked at twice, as where DROP is auto, says it once.
        log_first_n(logging.WARNING, line, key="message")
