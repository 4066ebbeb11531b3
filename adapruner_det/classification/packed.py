"""Data sets packed into few files: idx files, and strips of 500 images with idx labels.

Shape letters: N samples, H and W pixels.

A packed folder holds for each split (``train``, and ``test`` or ``t10k``) labels in
``<split>-labels-idx1-ubyte[.gz]`` and either images in ``<split>-images-idx3-ubyte[.gz]`` or
strips ``<split>_NNN.webp`` (or ``.png``), RGB, one square image below the other; ``classes.txt``
names the classes, one a line, and may be missing.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .image_set import ImageSet, from_arrays


def load_packed(root: str | Path) -> tuple[ImageSet, ImageSet]:
    """The training and the test set of a packed folder, named after it.

    Raises:
        DataError: a file that is missing or damaged, named.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root.absolute()}; set DATA.ROOT to the packed data")
    train, test = _load_split(root, "train"), _load_split(root, *_test_split(root))
    return train, test


def read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes, gzipped or not: uint8 of the shape that it states.

    Raises:
        DataError: a file that cannot be read, is of another type, or is too short or too long.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch the file again") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an idx file of unsigned bytes")
    dims = raw[3]
    header = 4 + 4 * dims
    shape = struct.unpack(f">{dims}I", raw[4:header]) if len(raw) >= header else ()
    if len(raw) - header != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"{path} states the shape {shape} but holds {len(raw) - header} bytes; "
            "fetch the file again"
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


def _test_split(root: Path) -> tuple[str]:
    return ("t10k",) if any(root.glob("t10k-labels-idx1-ubyte*")) else ("test",)


def _load_split(root: Path, split: str) -> ImageSet:
    labels = read_idx(_find(root, f"{split}-labels-idx1-ubyte"))
    strips = sorted([*root.glob(f"{split}_*.webp"), *root.glob(f"{split}_*.png")])
    if strips:
        images = np.concatenate([_read_strip(path) for path in strips])
        if len(images) > len(labels):
            raise DataError(
                f"the strips of {root}/{split} hold {len(images)} images but there are "
                f"{len(labels)} labels; give both from one source"
            )
        labels = labels[: len(images)]  # the first k strips alone are a data set too
    else:
        images = read_idx(_find(root, f"{split}-images-idx3-ubyte"))
    if len(images) != len(labels):
        raise DataError(f"{root}: {len(images)} images but {len(labels)} labels in {split}")
    name = f"{root.resolve().name}_{'train' if split == 'train' else 'test'}"
    return from_arrays(name, images, labels, _class_names(root, labels)).checked()


def _find(root: Path, name: str) -> Path:
    for path in (root / f"{name}.gz", root / name):
        if path.is_file():
            return path
    raise DataError(f"there is neither {name} nor {name}.gz in {root.absolute()}")


def _read_strip(path: Path) -> np.ndarray:
    """(N, W, W, 3) uint8."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} does not decode: {error}; fetch the file again") from error
    height, width, _ = pixels.shape
    if height % width:
        raise DataError(f"{path} is {width}×{height}; a strip holds whole square images")
    return pixels.reshape(-1, width, width, 3)


def _class_names(root: Path, labels: np.ndarray) -> list[str]:
    path = root / "classes.txt"
    if path.is_file():
        return path.read_text().split()
    return [str(c) for c in range(int(labels.max()) + 1)] if len(labels) else []
