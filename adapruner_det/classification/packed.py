"""Data sets packed into few files: idx files, and strips of 500 images with idx labels.

Shape letters: N samples, H and W pixels.

A packed folder holds for each split (``train``, and ``test`` or ``t10k``) labels in
``<split>-labels-idx1-ubyte[.gz]`` and either images in ``<split>-images-idx3-ubyte[.gz]`` or
strips ``<split>_NNN.webp`` (or ``.png``), RGB, one square image below the other; ``classes.txt``
names the classes, one a line, and may be missing.
"""

from __future__ import annotations

import gzip
import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from ..errors import DataError
from ..images import read_upright
from .image_set import ImageSet, from_arrays
from .listing import normal, warn_of_alike_classes

logger = logging.getLogger(__name__)

#: An idx file that states more bytes is refused.
MAX_BYTES = 16 * 2**30

#: gzip makes a byte of at most so many.
GZIP_RATIO = 1032

TRAIN, TEST = "packed_train", "packed_test"


def load_packed(root: str | Path) -> tuple[ImageSet, ImageSet]:
    """The training and the test set of a packed folder, whatever it is called.

    Raises:
        DataError: a file that is missing, damaged, or does not go with the others; named.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root.absolute()}; set DATA.ROOT to the packed data")
    test_split = "t10k" if any(root.glob("t10k-labels-idx1-ubyte*")) else "test"
    if test_split == "t10k" and any(root.glob("test-labels-idx1-ubyte*")):
        logger.warning("%s: t10k-* is the test set; test-* beside it is not read.", root)
    train, test = _load_split(root, "train"), _load_split(root, test_split)
    classes = _class_names(root, train[1])
    return (
        from_arrays(TRAIN, *train, classes).checked(),
        from_arrays(TEST, *test, classes).checked(),
    )


def read_idx(path: Path, dims: Sequence[int] = (1, 2, 3, 4)) -> np.ndarray:
    """An idx file of unsigned bytes, gzipped or not: uint8 of the shape that it states.

    Never more is read or unpacked than the header states.

    Args:
        path: the file.
        dims: the numbers of dimensions that it may have.

    Raises:
        DataError: a file that cannot be read, is of another type, or is too short or too long.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _idx_shape(path, file, dims)
            size = math.prod(shape)
            raw = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch the file again") from error
    if len(raw) != size:
        held = f"{len(raw)} bytes" if len(raw) < size else "more"
        raise DataError(f"{path} states the shape {shape} but holds {held}; fetch the file again")
    return np.frombuffer(raw, np.uint8).reshape(shape).copy()


def _idx_shape(path: Path, file: IO[bytes] | gzip.GzipFile, dims: Sequence[int]) -> tuple[int, ...]:
    """What the header at the beginning of ``file`` states, once it is found to be possible."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    if magic[3] not in dims:
        wanted = " or ".join(map(str, dims))
        raise DataError(f"{path} has {magic[3]} dimensions, expected {wanted}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} ends within its header; fetch the file again")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    stated, size = math.prod(shape), path.stat().st_size
    most = size * GZIP_RATIO if path.suffix == ".gz" else size
    if 0 in shape[1:]:
        raise DataError(f"{path} states the empty shape {shape}")
    if stated > min(most, MAX_BYTES):
        raise DataError(
            f"{path} states the shape {shape}, {stated:,} bytes, but a file of {size:,} bytes "
            f"holds at most {min(most, MAX_BYTES):,}; fetch the file again"
        )
    return shape


def _load_split(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, H, W) or (N, H, W, 3), labels (N,))."""
    labels = read_idx(_find(root, f"{split}-labels-idx1-ubyte"), (1,))
    strips = _strips(root, split)
    if strips:
        images = _read_strips(strips)
        if len(images) > len(labels):
            raise DataError(
                f"the strips of {root}/{split} hold {len(images)} images but there are "
                f"{len(labels)} labels; give both from one source"
            )
        if strips[0][0] > 0 and len(images) < len(labels):
            raise DataError(
                f"{strips[0][1]} is the first strip of {split}, but strips are numbered from 0: "
                "those before it are missing, and with them the place of the labels"
            )
        labels = labels[: len(images)]  # the first k strips alone are a data set too
    else:
        images = read_idx(_find(root, f"{split}-images-idx3-ubyte"), (3,))
    if len(images) != len(labels):
        raise DataError(f"{root}: {len(images)} images but {len(labels)} labels in {split}")
    return images, labels


def _find(root: Path, name: str) -> Path:
    found = [path for path in (root / f"{name}.gz", root / name) if path.is_file()]
    if len(found) > 1:
        logger.warning("%s is read; %s beside it is not.", *found)
    if found:
        return found[0]
    raise DataError(f"there is neither {name} nor {name}.gz in {root.absolute()}")


def _strips(root: Path, split: str) -> list[tuple[int, Path]]:
    """(number, file) of each strip, in rising order."""
    found: dict[int, Path] = {}
    for path in sorted([*root.glob(f"{split}_*.webp"), *root.glob(f"{split}_*.png")]):
        match = re.fullmatch(rf"{split}_(\d+)", path.stem, re.ASCII)
        if match is None:
            logger.warning("%s is not read: a strip is called %s_NNN.", path, split)
        elif found.setdefault(int(match[1]), path) != path:
            raise DataError(f"{found[int(match[1])]} and {path} are one strip; remove one of them")
    numbers = sorted(found)
    for before, after in zip(numbers, numbers[1:], strict=False):
        if after != before + 1:
            raise DataError(
                f"the strips of {split} in {root} go from number {before} to {after}: what lies "
                "between is missing, and with it the place of the labels; fetch it again"
            )
    return [(number, found[number]) for number in numbers]


def _read_strips(strips: Sequence[tuple[int, Path]]) -> np.ndarray:
    """(N, W, W, 3) uint8 of all strips, which hold images of one size, as many each."""
    parts = [_read_strip(path) for _, path in strips]
    first, last = parts[0], len(parts) - 1
    for place, ((_, path), part) in enumerate(zip(strips, parts, strict=True)):
        if part.shape[1] != first.shape[1]:
            raise DataError(
                f"{path} is {part.shape[1]} pixels wide, {strips[0][1].name} {first.shape[1]}; "
                "all strips must have one width"
            )
        if len(part) > len(first) or (len(part) < len(first) and place < last):
            raise DataError(
                f"{path} holds {len(part)} images, {strips[0][1].name} {len(first)}; only the "
                "last strip may hold fewer, or the labels lose their place"
            )
    return np.concatenate(parts)


def _read_strip(path: Path) -> np.ndarray:
    """(N, W, W, 3) uint8."""
    # Larger ones are refused below, by a limit of our own.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    pixels = np.asarray(read_upright(path).convert("RGB"))
    height, width, _ = pixels.shape
    if height % width:
        raise DataError(f"{path} is {width}×{height}; a strip holds whole square images")
    return pixels.reshape(-1, width, width, 3)


def _class_names(root: Path, labels: np.ndarray) -> list[str]:
    """One a line of ``classes.txt``, or numbers up to the highest label."""
    path = root / "classes.txt"
    if not path.is_file():
        return [str(c) for c in range(int(labels.max()) + 1)] if len(labels) else []
    names = [normal(line.strip(), path) for line in _text(path).rstrip().splitlines()]
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise DataError(f"{path}, line {number}: {name!r} is no name of a class")
        if name in names[: number - 1]:
            raise DataError(f"{path}, line {number}: the class {name!r} is there a second time")
    warn_of_alike_classes(names)
    return names


def _text(path: Path) -> str:
    """UTF-8, or UTF-16 where it begins with that one's mark."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}; write it in UTF-8") from error
