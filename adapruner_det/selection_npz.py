"""The columns in the .npz of a stranger: read once its members, headers and sizes are known.

An archive of a few bytes can claim to hold any number of them; no array is made that is larger than
its file can hold.
Shape letters: N samples.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from typing import IO, Any

import numpy as np

from .selection_checks import brief, check_type

MAX_COLUMNS = 64
SLACK = 1 << 16


def read_columns(file: IO[bytes], size: int, num_samples: int) -> dict[str, np.ndarray]:
    """The arrays in ``file``, of ``size`` bytes: all headers are checked, then the first is read.

    A digest is 8 bytes that nothing compresses, so a file of few bytes has few samples, and of the
    longest texts in them no more than what deflate makes of the file, some thousand times its size.
    """
    if 4 * num_samples > size + SLACK:
        raise ValueError(f"a file of {size} bytes cannot hold {num_samples} samples")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_members(members, size)
        types = [_column_type(archive, member, num_samples) for member in members]
        return {
            member.filename.removesuffix(".npy"): _column(archive, member, dtype, num_samples)
            for member, dtype in zip(members, types, strict=True)
        }


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MAX_COLUMNS:
        raise ValueError(f"it has {len(members)} entries; a selection has at most {MAX_COLUMNS}")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise ValueError("it has two entries of one name")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("its entries overlap")
    for member in members:
        if not re.fullmatch(r"\w{1,64}\.npy", member.filename):
            raise ValueError(f"its entry {brief(member.filename)} is no column")
        if member.comment or len(member.extra) > 32:  # where a wrong length hides other entries
            raise ValueError(f"its entry {member.filename} has a comment")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its entry {member.filename} is compressed in an unknown way")


def _column_type(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, num_samples: int
) -> np.dtype[Any]:
    """The type of a column from its header alone, where its shape and size are what they must be.

    A few kilobytes are decompressed.
    """
    with archive.open(member) as stream:
        shape, dtype = _array_header(stream)
        start = stream.tell()
    name = member.filename.removesuffix(".npy")
    check_type(name, dtype)
    if shape != (num_samples,):
        raise ValueError(f"its column {name!r} has shape {brief(shape)} for {num_samples} samples")
    if member.file_size != start + num_samples * dtype.itemsize:
        raise ValueError(f"its column {name!r} claims {member.file_size} bytes")
    return dtype


def _column(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: np.dtype[Any], num_samples: int
) -> np.ndarray:
    """A column in this machine's order of bytes; zipfile checks its CRC."""
    with archive.open(member) as stream:
        _array_header(stream)
        array = np.frombuffer(bytearray(stream.read()), dtype, num_samples)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U" and array.view(np.uint32).max() > 0x10FFFF:
        raise ValueError(f"its column {member.filename!r} has characters that do not exist")
    return array


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type in a header of version 1.0, as numpy writes it for plain types."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"it has an array of format {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy and Python warn of headers that no one writes
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    return shape, dtype
