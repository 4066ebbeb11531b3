"""Identity of samples, and pruned splits as data sets.

Shape letters: N samples.

A sample is known by its key ``dataset_name/image_id``. Its index, 0 to N−1, is its place among the
sorted keys of a run, taken after Detectron2 has filtered the data sets.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)

from ...errors import DataError
from ...samples import Samples, fingerprint, fingerprints
from ...selection import Selection
from ...selection_file import REQUIRED_COLUMNS
from .checks import (
    CheckedSet,
    UsablePart,
    checked_set,
    class_names,
    collector_paused,
    leave_out,
    read_dataset,
    set_apart_from_files,
)
from .faults import has_object
from .identity import sample_digest, sample_key, with_file_digests

logger = logging.getLogger(__name__)


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
        digests = np.array([sample_digest(by_key[key]) for key in keys], dtype=np.uint64)
        dicts = [{**by_key[key], "sample_index": i} for i, key in enumerate(keys)]
        serialised = DatasetFromList(dicts, copy=False, serialize=True)
        return cls(keys, digests, serialised, tuple(datasets))

    @cached_property
    def digest_of(self) -> str:
        """What the digests are of, as :class:`Selection` has it: ``bytes`` once images are read."""
        return "bytes" if all(d.get("file_digest") for d in self.dicts) else ""

    def fingerprints(self) -> dict[str, str]:
        """Data-set name → fingerprint of its keys and annotations."""
        return fingerprints(self.keys, self.digests, self.dataset_names)

    @cached_property
    def samples(self) -> Samples:
        """What a selection says of these samples."""
        return Samples(
            keys=self.keys,
            digests=self.digests,
            datasets=self.fingerprints(),
            classes=self.classes(),
            class_names=tuple(self.class_names()),
            digest_of=self.digest_of,
            excluded=self.excluded,
        )

    def classes(self) -> list[list[int]]:
        """The category ids of each sample's boxes, one a box; those of crowds do not count."""
        return self._classes

    @cached_property
    def _classes(self) -> list[list[int]]:
        return [
            [int(a["category_id"]) for a in d.get("annotations", ()) if not a.get("iscrowd")]
            for d in self.dicts
        ]

    def class_names(self) -> list[str]:
        """The classes that the data sets name, as many as their samples use."""
        used = 1 + max((max(own, default=-1) for own in self.classes()), default=-1)
        return class_names(self.dataset_names[0], used)


def register_selection(path: str | Path) -> list[str]:
    """Put the kept part of each of a selection's data sets into DatasetCatalog.

    ``voc_2007_trainval`` kept at 90% becomes ``voc_2007_trainval@kept90``, with the base set's
    classes and other metadata. Reading such a set first checks that the base set still is what was
    selected from. Where another selection has that name already, digits of its own are added.

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
        if MetadataCatalog.get(base).get("thing_classes") is None:
            read_dataset(base)  # of a COCO data set the classes are known once it has been read
        part = _KeptPart(base, selection)
        name = f"{base}@kept{selection.keep_ratio * 100:g}"
        if name in DatasetCatalog.list() and DatasetCatalog[name] != part:
            name = f"{name}-{part.digest}"
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, part)
            MetadataCatalog.get(name).set(**_metadata_of_part(base))
        names.append(name)
    return names


def leave_out_excluded(selection: Selection) -> None:
    """Leave out of a selection's data sets what its run left out, whatever is wrong with it.

    Raises:
        DataError: a base data set that is not registered.
    """
    for base in selection.datasets:
        require_registered(base)
        excluded = {k: v for k, v in selection.excluded.items() if k.rsplit("/", 1)[0] == base}
        if excluded:
            leave_out(base, excluded)


def _metadata_of_part(base: str) -> dict[str, Any]:
    """What holds for a part of ``base`` too."""
    metadata = {k: v for k, v in MetadataCatalog.get(base).as_dict().items() if k != "name"}
    set_apart_from_files(metadata)
    return metadata


class _KeptPart:
    """The kept samples of one base data set, as DatasetCatalog calls it.

    Two are equal where they keep the same samples of the same data.
    """

    def __init__(self, base: str, selection: Selection) -> None:
        self._base, self._selection = base, selection
        columns = selection.columns
        known = [k for k in columns["key"].tolist() if k.rsplit("/", 1)[0] == base]
        rows = np.isin(columns["key"], known)
        self._part = {name: columns[name][rows] for name in REQUIRED_COLUMNS}
        kept = self._part["key"][self._part["kept"].astype(bool)].tolist()
        self._kept = frozenset(kept)
        self.digest = fingerprint(kept, self._part["digest"][self._part["kept"].astype(bool)])[:8]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _KeptPart):
            return NotImplemented
        return self._base == other._base and all(
            np.array_equal(column, other._part[name]) for name, column in self._part.items()
        )

    def __hash__(self) -> int:
        return hash((self._base, self.digest))

    def __call__(self) -> list[dict[str, Any]]:
        reader = DatasetCatalog[self._base]
        usable = UsablePart(self._base, reader, self._selection.excluded)
        dicts = {sample_key(self._base, d): d for d in usable()}
        self._check(dicts if self._selection.digest_of != "bytes" else _digested(dicts))
        return [d for key, d in dicts.items() if key in self._kept]

    def _check(self, dicts: dict[str, dict[str, Any]]) -> None:
        """Compare with what was selected from; images that training filtered out do not count."""
        chosen = set(self._part["key"].tolist())
        keys = sorted(k for k, d in dicts.items() if k in chosen or has_object(d))
        part = replace(
            self._selection,
            datasets={self._base: self._selection.datasets[self._base]},
            columns=self._part,
        )
        part.check(keys, np.array([sample_digest(dicts[k]) for k in keys], dtype=np.uint64))


def _digested(dicts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return dict(zip(dicts, with_file_digests(list(dicts.values())), strict=True))


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


def require_same_classes(names: Sequence[str]) -> None:
    """Raise a DataError unless one category id means one class in all of ``names``.

    Detectron2 asks for the same. The data sets have been read.
    """
    classes = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    for name, own in classes.items():
        if own is None or classes[names[0]] is None:
            continue
        if list(own) != list(classes[names[0]]):
            raise DataError(
                f"the classes of {names[0]!r} and {name!r} differ: {classes[names[0]]} and {own}; "
                "use data sets with the same classes in the same order (those of VOC folders can "
                "be set with ADAPRUNER.VOC_CLASSES)"
            )


def _filtered(cfg: CfgNode, name: str, dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples that Detectron2 would train on, as its ``get_detection_dataset_dicts`` does."""
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and all("annotations" in d for d in dicts):
        dicts = filter_images_with_only_crowd_annotations(dicts)
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    if cfg.MODEL.KEYPOINT_ON and keypoints > 0:
        dicts = filter_images_with_few_keypoints(dicts, keypoints)
    return dicts
