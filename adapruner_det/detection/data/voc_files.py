"""The files of a folder in the VOC layout, by image id."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from ...images import SUFFIXES, is_hidden

logger = logging.getLogger(__name__)

_COLUMN = re.compile(r"\s+(1|0|-1)$")  # that of a class's image set


def normal(name: str) -> str:
    """An id or a class as it is looked up: one system stores é as one character, another as two."""
    return unicodedata.normalize("NFC", name)


def annotation_files(folder: Path) -> dict[str, str]:
    """Normal id → path of its XML. Of several, which differ by case or composition, the last one's.

    That is ``.xml`` of ``.XML`` and ``.xml``.
    """
    found: dict[str, str] = {}
    spare = []
    for name in _files(folder):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() == ".xml":
            if normal(stem) in found:
                spare.append(name)
            found[normal(stem)] = f"{folder}/{name}"
    if spare:
        logger.warning(
            "%s: %d id(s) have several annotations, of which one is read, as %s",
            folder,
            len(spare),
            spare[0],
        )
    return found


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


def id_and_sign(line: str, known: Container[str]) -> tuple[str, str]:
    """(id, sign) of a line of a list; the sign is empty without such a column.

    Args:
        line: without what is blank around it.
        known: normal ids; one that is the whole line has no column.
    """
    column = _COLUMN.search(line)
    if column is None or normal(line) in known:
        return line, ""
    return line[: column.start()], column[1]


def other_files(folder: Path) -> dict[str, str]:
    """Normal id → name below ``folder`` of a file with whatever suffix."""
    return {normal(os.path.splitext(name)[0]): name for name in _files(folder)}


def is_aside(folder: Path, file: str) -> bool:
    """Whether a file below ``folder`` is hidden, or in a folder that is hidden or linked to.

    What a program keeps for itself, and what was linked for lists to name.
    """
    parts = os.path.relpath(file, folder).split(os.sep)
    above = (folder.joinpath(*parts[:end]) for end in range(1, len(parts)))
    return any(map(is_hidden, parts)) or any(map(os.path.islink, above))


def _files(folder: Path) -> list[str]:
    """Paths of all files below ``folder``, relative to it, with ``/``.

    Links to folders are followed, but for those that lead back to a folder above them.
    """
    if not folder.is_dir():
        return []
    found: list[str] = []
    pending = [("", frozenset({_identity(os.stat(folder))}))]
    while pending:
        prefix, above = pending.pop()
        with suppress(OSError), os.scandir(folder / prefix) as entries:
            for entry in entries:
                own = _folder_identity(entry)
                if own is None:
                    found.append(prefix + entry.name)
                elif own not in above:
                    pending.append((f"{prefix}{entry.name}/", above | {own}))
    return sorted(found)


def _folder_identity(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        return _identity(entry.stat()) if entry.is_dir() else None
    except OSError:  # a link to itself
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    """What two names of one folder share."""
    return status.st_dev, status.st_ino
