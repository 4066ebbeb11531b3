"""What can be checked of a tool that ended well, in the process that it ran in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .case import Check
from .toys import OUT

#: A warning of one thing, as its ``says``.
ONE = r"re:\b1 (of|box|object|image|file|annotation|sample|folder|hidden|other|\S+ file)"


def selection(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The selection in ``out``: the JSON and the columns."""
    header = json.loads((folder / OUT / "selection.json").read_text())
    with np.load(folder / OUT / "selection.npz", allow_pickle=False) as archive:
        return header, {name: archive[name] for name in archive.files}


def samples(count: int) -> Check:
    """The selection is over ``count`` samples."""

    def check(folder: Path) -> str:
        found = len(selection(folder)[1]["key"])
        return "" if found == count else f"{found} samples, not {count}"

    return check


def keys_are(*ids: str) -> Check:
    """The selection's sample ids, without the data set's name, are ``ids``."""

    def check(folder: Path) -> str:
        found = sorted(key.rsplit("/", 1)[1] for key in selection(folder)[1]["key"].tolist())
        return "" if found == sorted(ids) else f"the samples are {found}"

    return check


def excluded(*ids: str) -> Check:
    """The selection names ``ids`` as excluded and has no row for them."""

    def check(folder: Path) -> str:
        header, columns = selection(folder)
        listed = json.dumps({k: v for k, v in header.items() if "exclu" in k.lower()})
        keys = " ".join(columns["key"].tolist())
        wrong = [i for i in ids if i not in listed or i in keys]
        return f"{wrong} not recorded as excluded" if wrong else ""

    return check


def boxes(count: int, name: str = "toy_train") -> Check:
    """A data set of the catalogue has ``count`` boxes."""

    def check(folder: Path) -> str:
        from detectron2.data import DatasetCatalog

        found = sum(len(d["annotations"]) for d in DatasetCatalog.get(name))
        return "" if found == count else f"{found} boxes in {name}, not {count}"

    return check


def images(count: int, name: str = "toy_train") -> Check:
    """A data set of the catalogue has ``count`` images."""

    def check(folder: Path) -> str:
        from detectron2.data import DatasetCatalog

        found = len(DatasetCatalog.get(name))
        return "" if found == count else f"{found} images in {name}, not {count}"

    return check


def classes(*names: str, of: str = "toy_train") -> Check:
    """A data set of the catalogue has the classes ``names``."""

    def check(folder: Path) -> str:
        from detectron2.data import MetadataCatalog

        found = tuple(MetadataCatalog.get(of).thing_classes)
        return "" if found == names else f"the classes are {found}"

    return check


def holds(path: str) -> Check:
    """A file is there and not empty."""

    def check(folder: Path) -> str:
        place = folder / path
        return "" if place.is_file() and place.stat().st_size else f"{path} is not there"

    return check


def lacks(path: str) -> Check:
    """A file is not there: what data could only have made by running as code."""
    return lambda folder: f"{path} is there" if (folder / path).exists() else ""


def kept(count: int) -> Check:
    """So many samples stay."""

    def check(folder: Path) -> str:
        found = int(selection(folder)[1]["kept"].sum())
        return "" if found == count else f"{found} kept, not {count}"

    return check


def header(test: Callable[[dict[str, Any]], bool], what: str) -> Check:
    """The selection's JSON passes ``test``."""
    return lambda folder: "" if test(selection(folder)[0]) else f"the selection has not {what}"


def result_images(count: int) -> Check:
    """A classifier was trained on ``count`` images."""

    def check(folder: Path) -> str:
        found = json.loads((folder / OUT / "result.json").read_text())["images"]
        return "" if found == count else f"trained on {found} images, not {count}"

    return check


def whole_zips(folder: Path) -> str:
    """Every checkpoint in ``out`` is whole, and nothing half-written is left."""
    torn = [p.name for p in (folder / OUT).glob("*.pt*") if not _is_whole(p)]
    left = [p.name for p in (folder / OUT).glob(".*") if p.name != ".lock"]
    return f"torn or left over: {torn + left}" if torn or left else ""


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
