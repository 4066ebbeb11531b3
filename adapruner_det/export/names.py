"""Names of files in an export: they stay in its folder, and no two are one.

A data set may come from a stranger, and a name that is fine where it lies may lead elsewhere, say
something else in a list of names, or meet another one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections.abc import Collection, Sequence

from ..images import SUFFIXES, format_of
from ..samples import dataset_of
from .records import Record

logger = logging.getLogger(__name__)

#: The suffixes that formats give to the labels of an image.
LABELS = (".txt", ".xml")

MAX_BYTES = 200  # of one part of a name; file systems take 255, and a suffix is still to come


#: Pillow's format → its suffix, where that is not the format's name in lower case.
_SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}


def image_names(
    records: Sequence[Record], *, flat: bool = False, suffixes: Collection[str] = ()
) -> dict[str, str]:
    """Key → the name of its image below the export's folder of images, parted by ``/``.

    It is the record's own where that is safe and free; below a folder named after the data set
    where there are several. No two names are one without their suffixes, so that labels can have
    their images' names, nor where upper and lower case are one. Of two such names, the record with
    the larger key gets a part of its key's SHA-256 besides.

    Args:
        records: in the order of their keys.
        flat: without folders; ``a/x.jpg`` is ``a_x.jpg``.
        suffixes: those that readers of the format know an image by, in lower case; by default any.
            A name with another suffix, or with none, gets that of what is in the file. Where they
            do not know that either, they may pass the image over, which is said with the count.
    """
    several = len({dataset_of(record.key) for record in records}) > 1
    names = Names()
    found = {}
    passed_over: list[str] = []
    for record in records:
        parts = safe_parts(record.name)
        if suffixes:
            parts[-1] = _with_suffix(parts[-1], record.path, suffixes)
            if _suffix(parts[-1]) not in suffixes:
                passed_over.append(record.key)
        if several:
            parts.insert(0, safe_part(dataset_of(record.key)))
        found[record.key] = names.add(["_".join(parts)] if flat else parts, record.key)
    if passed_over:
        logger.warning(
            "%d image(s) are of a format that readers may pass over without a word, the first %s: "
            "they know %s",
            len(passed_over),
            passed_over[0],
            ", ".join(suffixes),
        )
    return found


def _with_suffix(name: str, path: str, suffixes: Collection[str]) -> str:
    """``name``, with the suffix of what is in the file where its own is none of ``suffixes``."""
    own = _suffix(name)
    kind = "" if own in suffixes else format_of(path)
    wanted = _SUFFIX_OF.get(kind, f".{kind.lower()}")
    if not kind or own == wanted:
        return name
    stem = os.path.splitext(name)[0] if own in SUFFIXES else name  # photo.2024 has none
    return stem + wanted


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


class Names:
    """The names that are taken, without regard to case and to how letters are composed.

    A name takes those of the labels that formats put at its place in other folders, too.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, parts: Sequence[str], key: str) -> str:
        """Take a name for the sample ``key``: ``parts`` joined by ``/``, or one like it.

        Args:
            parts: of the name, safe each.
            key: of the sample; it tells one of two like names from the other.

        Raises:
            ValueError: a key that has taken all its names.
        """
        name = "/".join(_short(part) for part in parts)
        stem, suffix = os.path.splitext("_".join(parts))
        digest = hashlib.sha256(os.fsencode(key)).hexdigest()
        others = (f"{_short(stem)}-{digest[:n]}{suffix}" for n in range(8, 65, 8))
        for own in (name, *others):
            taken, folders = _taken(own), _above(_folded(own))
            if not ((taken | folders) & self._files or taken & self._folders):
                self._files |= taken
                self._folders |= folders
                return own
        raise ValueError(f"the key {key!r} has too many names")


def safe_parts(name: str) -> list[str]:
    """The parts of a name below a folder, none of which leads out of it. At least one."""
    parts = [part for part in name.split("/") if part.strip() not in ("", ".", "..")]
    return [safe_part(part) for part in parts] or ["image"]


def safe_part(part: str) -> str:
    """``part`` as a file's name that stands for itself in a list, and that no reader passes over.

    What is no visible character, ``/`` and ``\\`` become ``_``, and so does a dot at its beginning,
    which would hide the file.
    """
    kept = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in part).strip()
    if kept.startswith("."):
        kept = "_" + kept[1:]
    return kept or "_"


def _short(part: str) -> str:
    """``part`` with at most MAX_BYTES bytes before its suffix."""
    if len(part.encode()) <= MAX_BYTES:
        return part
    stem, suffix = os.path.splitext(part)
    suffix = suffix if len(suffix) <= 10 else ""
    return stem.encode()[:MAX_BYTES].decode(errors="ignore") + suffix


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _taken(name: str) -> set[str]:
    """What a file of that name takes: itself, and what its labels are called."""
    folded = _folded(name)
    stem = os.path.splitext(folded)[0]
    return {folded, *(stem + suffix for suffix in LABELS)}


def _above(name: str) -> set[str]:
    """The folders that a name lies in: those of ``a/b/c`` are ``a/b`` and ``a``."""
    parts = name.split("/")
    return {"/".join(parts[:end]) for end in range(1, len(parts))}
