"""The kept part of a selection's data sets, as data sets that Detectron2 can train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...samples import dataset_of, fingerprint
from ...selection import Selection
from ...selection_checks import REQUIRED_COLUMNS
from .checks import UsablePart, leave_out, read_dataset, set_apart_from_files
from .faults import has_object
from .identity import key_of, sample_digest, with_file_digests
from .keypoints import visible_keypoints
from .samples import require_registered


def register_selection(path: str | Path) -> list[str]:
    """Put the kept part of each of a selection's data sets into DatasetCatalog.

    ``voc_2007_trainval`` kept at 90% becomes ``voc_2007_trainval@kept90``, with the base set's
    classes and other metadata. Reading such a set first checks that the base set still is what was
    selected from. Where another selection has that name already, digits of its own are added.

    Args:
        path: the .json of a selection.

    Returns:
        The names of the parts in the order of the selection's data sets, without those of which
        nothing is kept, as Detectron2 takes no data set without an image.

    Raises:
        DataError: a file that is no selection, or a base data set that is not registered.
    """
    return register_kept(Selection.load(path))


def register_kept(selection: Selection, *, digits: bool = False) -> list[str]:
    """As :func:`register_selection`, for a selection in memory; see :func:`register_parts`."""
    filled = {dataset_of(key) for key in selection.kept_keys}
    parts = register_parts(selection, digits=digits)
    return [name for base, name in parts.items() if base in filled]


def register_parts(selection: Selection, *, digits: bool = False) -> dict[str, str]:
    """Data set → the name of its kept part, which is registered, whether it keeps one or none.

    Args:
        selection: what to keep of its data sets.
        digits: add digits of its own to each name at any rate, so that the name, which is part of
            the configuration, does not depend on what else this process has registered.

    Raises:
        DataError: a base data set that is not registered.
    """
    names = {}
    for base in selection.datasets:
        require_registered(base)
        if MetadataCatalog.get(base).get("thing_classes") is None:
            read_dataset(base)  # of a COCO data set the classes are known once it has been read
        part = _KeptPart(base, selection)
        name = f"{base}@kept{selection.keep_ratio * 100:g}"
        if digits or (name in DatasetCatalog.list() and DatasetCatalog[name] != part):
            name = f"{name}-{part.digest}"
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, part)
            MetadataCatalog.get(name).set(**_metadata_of_part(base))
        names[base] = name
    return names


def leave_out_excluded(selection: Selection) -> None:
    """Leave out of a selection's data sets what its run left out, whatever is wrong with it.

    Raises:
        DataError: a base data set that is not registered.
    """
    for base in selection.datasets:
        require_registered(base)
        excluded = {k: v for k, v in selection.excluded.items() if dataset_of(k) == base}
        if excluded:
            leave_out(base, excluded)


def _metadata_of_part(base: str) -> dict[str, Any]:
    """What holds for a part of ``base`` too."""
    metadata = {k: v for k, v in MetadataCatalog.get(base).as_dict().items() if k != "name"}
    set_apart_from_files(metadata)
    return metadata


#: What makes two parts one, whatever scored their samples.
_WHAT_STAYS = ("key", "digest", "kept")


class _KeptPart:
    """The kept samples of one base data set, as DatasetCatalog calls it.

    Two are equal where they keep the same samples of the same data.
    """

    def __init__(self, base: str, selection: Selection) -> None:
        self._base, self._selection = base, selection
        columns = selection.columns
        known = [k for k in columns["key"].tolist() if dataset_of(k) == base]
        rows = np.isin(columns["key"], known)
        self._part = {name: columns[name][rows] for name in REQUIRED_COLUMNS}
        kept = self._part["key"][self._part["kept"].astype(bool)].tolist()
        self._kept = frozenset(kept)
        self.digest = fingerprint(kept, self._part["digest"][self._part["kept"].astype(bool)])[:8]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _KeptPart):
            return NotImplemented
        return self._base == other._base and all(
            np.array_equal(self._part[name], other._part[name]) for name in _WHAT_STAYS
        )

    def __hash__(self) -> int:
        return hash((self._base, self.digest))

    def __call__(self) -> list[dict[str, Any]]:
        reader = DatasetCatalog[self._base]
        usable = UsablePart(self._base, reader, self._selection.excluded)
        dicts = {key_of(self._base, d): d for d in usable()}
        self._check(dicts if self._selection.digest_of != "bytes" else _digested(dicts))
        return [d for key, d in dicts.items() if key in self._kept]

    def _check(self, dicts: dict[str, dict[str, Any]]) -> None:
        """Compare with what was selected from; images that training filtered out do not count.

        How many visible keypoints a training asked of an image the selection does not say: no more
        than the least of those that it chose from, which is 0 where it asked for none.
        """
        chosen = set(self._part["key"].tolist())
        asked = min((visible_keypoints(d) for k, d in dicts.items() if k in chosen), default=0)
        keys = sorted(
            k
            for k, d in dicts.items()
            if k in chosen or (has_object(d) and visible_keypoints(d) >= asked)
        )
        part = replace(
            self._selection,
            datasets={self._base: self._selection.datasets[self._base]},
            columns=self._part,
        )
        part.check(keys, np.array([sample_digest(dicts[k]) for k in keys], dtype=np.uint64))


def _digested(dicts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return dict(zip(dicts, with_file_digests(list(dicts.values())), strict=True))
