"""Identity of samples, and pruned splits as data sets.

Shape letters: N samples.

A sample is known by its key ``dataset_name/image_id``. Its index, 0 to N−1, is its place among the
sorted keys of a run, taken after Detectron2 has filtered the data sets.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

from ..errors import DataError
from ..selection import Selection, digest, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleIndex:
    """The training samples of a run, by index.

    Attributes:
        keys: the N keys, sorted.
        digests: (N,) uint64, of each sample's annotations.
        dicts: Detectron2's dict of each sample, with ``sample_index`` added.
        dataset_names: the data sets they come from.
    """

    keys: list[str]
    digests: np.ndarray
    dicts: list[dict[str, Any]]
    dataset_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SampleIndex:
        """The samples of ``cfg.DATASETS.TRAIN``, filtered as Detectron2 filters them.

        Raises:
            DataError: data sets whose classes differ, and what :meth:`from_dicts` raises.
        """
        _require_same_classes(cfg.DATASETS.TRAIN)
        return cls.from_dicts({name: _filtered(cfg, name) for name in cfg.DATASETS.TRAIN})

    @classmethod
    def from_dicts(cls, datasets: dict[str, list[dict[str, Any]]]) -> SampleIndex:
        """The samples of ``datasets``, name → Detectron2 dicts.

        Raises:
            DataError: no sample at all, or one key twice.
        """
        by_key: dict[str, dict[str, Any]] = {}
        for name, dicts in datasets.items():
            for sample in dicts:
                key = sample_key(name, sample)
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
        dicts = [{**by_key[key], "sample_index": i} for i, key in enumerate(keys)]
        digests = np.array([sample_digest(d) for d in dicts], dtype=np.uint64)
        return cls(keys, digests, dicts, tuple(datasets))

    def fingerprints(self) -> dict[str, str]:
        """Data-set name → fingerprint of its keys and annotations."""
        rows = {name: ([], []) for name in self.dataset_names}  # type: dict[str, tuple[list, list]]
        for key, value in zip(self.keys, self.digests, strict=True):
            keys, digests = rows[key.rsplit("/", 1)[0]]
            keys.append(key)
            digests.append(value)
        return {name: fingerprint(*columns) for name, columns in rows.items()}


def sample_key(dataset_name: str, sample: dict[str, Any]) -> str:
    """``dataset_name/image_id``."""
    image_id = str(sample["image_id"]).replace("/", "\\")  # one slash separates name from id
    return f"{dataset_name}/{image_id}"


def sample_digest(sample: dict[str, Any]) -> int:
    """64 bits over the image's file name, its size, and its boxes with their classes."""
    objects = sorted(
        [int(a["category_id"]), *(round(float(v), 3) for v in a["bbox"])]
        for a in sample.get("annotations", ())
    )
    name = os.path.basename(sample["file_name"])
    return digest(json.dumps([name, sample.get("height"), sample.get("width"), objects]))


def register_selection(path: str | Path) -> list[str]:
    """Put the kept part of each of a selection's data sets into DatasetCatalog.

    ``voc_2007_trainval`` kept at 90% becomes ``voc_2007_trainval@kept90``, with the base set's
    metadata. Reading such a set first checks that the base set still is what was selected from.

    Args:
        path: the .json of a selection.

    Returns:
        The names registered, in the order of the selection's data sets.

    Raises:
        DataError: a file that is no selection, or a base data set that is not registered.
    """
    return register_kept(Selection.load(path))


def register_kept(selection: Selection) -> list[str]:
    """As :func:`register_selection`, for a selection in memory."""
    names = []
    for base in selection.datasets:
        require_registered(base)
        name = f"{base}@kept{selection.keep_ratio * 100:g}"
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, _KeptPart(selection, base))
        metadata = {k: v for k, v in MetadataCatalog.get(base).as_dict().items() if k != "name"}
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
    return names


@dataclass(frozen=True)
class _KeptPart:
    """The kept samples of one base data set, as DatasetCatalog calls it."""

    selection: Selection
    base: str

    def __call__(self) -> list[dict[str, Any]]:
        dicts = {sample_key(self.base, d): d for d in DatasetCatalog.get(self.base)}
        self._check(dicts)
        return [d for key, d in dicts.items() if key in self.selection.kept_keys]

    def _check(self, dicts: dict[str, dict[str, Any]]) -> None:
        """Compare with what was selected from: images that training filtered out do not count."""
        columns = self.selection.columns
        known = [k for k in columns["key"].tolist() if k.rsplit("/", 1)[0] == self.base]
        chosen = set(known)
        keys = sorted(k for k, d in dicts.items() if k in chosen or _has_object(d))
        rows = np.isin(columns["key"], known)
        part = Selection(
            method=self.selection.method,
            keep_ratio=self.selection.keep_ratio,
            seed=self.selection.seed,
            datasets={self.base: self.selection.datasets[self.base]},
            columns={name: columns[name][rows] for name in ("key", "digest", "kept")},
        )
        part.check(keys, np.array([sample_digest(dicts[k]) for k in keys], dtype=np.uint64))


def _has_object(sample: dict[str, Any]) -> bool:
    """Whether Detectron2's FILTER_EMPTY_ANNOTATIONS lets a sample be trained on."""
    return any(not a.get("iscrowd") for a in sample.get("annotations", ()))


def require_registered(name: str) -> None:
    """Raise a DataError naming near matches unless ``name`` is in DatasetCatalog."""
    known = sorted(DatasetCatalog.list())
    if name in known:
        return
    near = [k for k in known if k.split("_")[0] == name.split("_")[0]]
    raise DataError(
        f"there is no data set named {name!r}"
        + (f"; near it are {', '.join(near[:6])}" if near else "")
        + "; register a folder in the VOC layout with "
        f"ADAPRUNER.VOC_FOLDERS \"['{name}=/path/to/folder:trainval']\""
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


def _require_same_classes(names: Sequence[str]) -> None:
    """One category id must mean one class in all sets, as Detectron2 asks for."""
    classes = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    for name, own in classes.items():
        if own != classes[names[0]]:
            raise DataError(
                f"the classes of {names[0]!r} and {name!r} differ: {classes[names[0]]} and {own}; "
                "train on data sets with the same classes in the same order"
            )


def _filtered(cfg: CfgNode, name: str) -> list[dict[str, Any]]:
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    try:
        return get_detection_dataset_dicts(
            [name],
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
        )
    except AssertionError as error:  # how Detectron2 says that nothing is left
        raise DataError(f"the data set {name!r} has no image to train on: {error}") from error
