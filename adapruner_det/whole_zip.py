"""Whether a zip archive, which checkpoints and arrays are, is as it was written.

The records at its end are those of PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any


def is_whole_zip(path: str | Path) -> bool:
    """Whether a zip archive, as ``torch.save`` writes one, is what was written.

    Every entry's content has a checksum; what stands between and after them has none, but is either
    there twice or known, and PyTorch relies on parts of it that Python does not look at.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return (
                all(_is_plain(entry) for entry in archive.infolist())
                and _ends_well(file, archive)
                and archive.testzip() is None
            )
    except Exception:  # whatever a decoder meets in a damaged file
        return False


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is no folder, unless by name, not encrypted, here, and of one size."""
    folder = entry.external_attr & 0x10 and not entry.is_dir()
    encrypted = entry.flag_bits & (0x1 | 0x40 | 0x2000)
    stored = entry.compress_type == zipfile.ZIP_STORED
    sizes = stored and entry.compress_size != entry.file_size
    return not (folder or encrypted or entry.volume or sizes)


# What ends a zip archive: signature, disks, numbers of entries, size and place of their list. The
# first two records are there in a large archive and in PyTorch's, and tell of the same.
_LONG_END = struct.Struct("<4sQ4x2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<28x3H12x")


def _ends_well(file: IO[bytes], archive: zipfile.ZipFile) -> bool:
    """Whether the records at the end of a zip archive describe its list of entries."""
    start, count = archive.start_dir, len(archive.infolist())
    stop = file.seek(0, os.SEEK_END) - len(archive.comment) - _END.size
    end = _record(file, stop, _END)
    locator = _record(file, stop - _LOCATOR.size, _LOCATOR)
    if locator[0] == b"PK\6\7":
        stop -= _LOCATOR.size + _LONG_END.size
        known = (b"PK\6\6", 44, 0, 0, count, count, stop - start, start)
        if locator[1:] != (0, stop, 1) or _record(file, stop, _LONG_END) != known:
            return False
    if _listed(file, start, count) != stop:
        return False
    wanted = (count, count, stop - start, start)
    limits = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)  # stand for what has no room
    return end[:3] + end[7:] == (b"PK\5\6", 0, 0, len(archive.comment)) and all(
        found in (value, limit)
        for found, value, limit in zip(end[3:7], wanted, limits, strict=True)
    )


def _listed(file: IO[bytes], place: int, count: int) -> int:
    """Where a list of ``count`` entries ends that begins at ``place``."""
    for _ in range(count):
        lengths = _record(file, place, _ENTRY)  # of its name, extra field and comment
        place += _ENTRY.size + sum(lengths)
    return place


def _record(file: IO[bytes], place: int, kind: struct.Struct) -> tuple[Any, ...]:
    file.seek(place)
    return kind.unpack(file.read(kind.size))
