"""The files of a folder in the VOC layout, by image id."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from pathlib import Path

from ...images import SUFFIXES, is_hidden

logger = logging.getLogger(__name__)

_COLUMN = re.compile(r"\s+(1|0|-1)$")  # that of a class's image set


def normal(name: str) -> str:
    """An id or a class as it is looked up: one system stores é as one character, another as two."""
    return unicodedata.normalize("NFC", name)


def annotation_files(folder: Path) -> dict[str, str]:
    """Normal id → path of its XML."""
    return {normal(n[:-4]): f"{folder}/{n}" for n in _files(folder) if n.endswith(".xml")}


def image_files(folder: Path) -> dict[str, str]:
    """Normal id → path of its image. Of several images with one id, the first suffix's stays."""
    found: dict[str, tuple[int, str]] = {}
    spare = []
    for name in _files(folder):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in SUFFIXES:
            continue
        rank = SUFFIXES.index(suffix.lower())
        if normal(stem) in found:
            spare.append(name)
            if found[normal(stem)][0] <= rank:
                continue
        found[normal(stem)] = rank, f"{folder}/{name}"
    if spare:
        logger.warning(
            "%s: %d id(s) have images in several formats, of which one is read, as of %s",
            folder,
            len(spare),
            spare[0],
        )
    return {stem: path for stem, (_, path) in found.items()}


def listed_ids(root: Path) -> set[str]:
    """Normal ids that may be meant by any list in ImageSets/Main, with and without a last column.

    A list that cannot be read names none: it is refused when it is asked for.
    """
    found: set[str] = set()
    for file in (root / "ImageSets" / "Main").rglob("*.txt"):
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in map(str.strip, lines):
            found |= {normal(line), normal(_COLUMN.sub("", line))}
    return found


def is_aside(folder: Path, file: str) -> bool:
    """Whether a file below ``folder`` is hidden, or in a hidden folder: no user put it there."""
    return any(map(is_hidden, os.path.relpath(file, folder).split(os.sep)))


def _files(folder: Path) -> list[str]:
    """Paths of all files below ``folder``, relative to it, with ``/``."""
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        relative = os.path.relpath(place, folder)
        prefix = "" if relative == "." else relative.replace(os.sep, "/") + "/"
        found += [prefix + name for name in names]
    return sorted(found)
