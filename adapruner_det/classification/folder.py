"""Images in files: any folder with one folder a class, and Tiny-ImageNet's archive.

Shape letters: N samples, B samples of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import DataError
from .image_set import ImageSet

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".gif", ".tif", ".tiff")

TINY_IMAGENET = "tiny-imagenet-200"
TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


@dataclass(frozen=True)
class FileImages:
    """N image files, decoded when asked for.

    Attributes:
        paths: the N files.
        side: S, to which images are resized, their aspect ratio lost.
        channels: 1 or 3.
    """

    paths: Sequence[Path]
    side: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.paths), self.channels, self.side, self.side)

    @property
    def num_bytes(self) -> int:
        """What they take once decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, ids: Tensor) -> FileImages:
        return FileImages([self.paths[i] for i in ids.tolist()], self.side, self.channels)

    def contents(self) -> list[str]:
        """Of each file what its digest is made of: its size in bytes."""
        return [str(path.stat().st_size) for path in self.paths]

    def read(self, i: int) -> Tensor:
        """Image ``i``: (C, S, S) uint8.

        Raises:
            DataError: a file that does not decode, named.
        """
        path = self.paths[i]
        try:
            with Image.open(path) as image:
                image = image.convert("RGB" if self.channels == 3 else "L")
                if image.size != (self.side, self.side):
                    image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
                pixels = np.array(image)
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise DataError(f"{path} does not decode: {error}; replace or remove it") from error
        return torch.from_numpy(pixels.reshape(self.side, self.side, -1)).permute(2, 0, 1)

    def read_all(self, workers: int) -> Tensor:
        """All of them: (N, C, S, S) uint8."""
        images = torch.empty(self.shape, dtype=torch.uint8)
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for i, image in enumerate(pool.map(self.read, range(len(self.paths)))):
                images[i] = image
        return images


def load_folder(
    root: str | Path, side: int, *, grey: str = "refuse", memory_mb: int = 4096, workers: int = 4
) -> tuple[ImageSet, ImageSet]:
    """``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``val``), named after ``root``.

    Args:
        root: the folder.
        side: S, to which images are resized.
        grey: ``refuse`` or ``convert`` grey images among colour ones.
        memory_mb: a split that takes more than this once decoded stays in its files.
        workers: threads that decode.

    Raises:
        DataError: a folder that is not there, a class without an image, an image that does not
            decode, a grey one among colour ones; named.
    """
    root = Path(root)
    test = "test" if (root / "test").is_dir() else "val"
    for split in ("train", test):
        if not (root / split).is_dir():
            raise DataError(
                f"there is no folder {(root / split).absolute()}; an image folder holds "
                "train/<class>/<image> and test/<class>/<image>"
            )
    classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    sets = [
        _image_set(root, split, _files_by_class(root / split, classes), classes, side).checked()
        for split in ("train", test)
    ]
    return _decoded(sets, grey, memory_mb, workers)


def load_tiny_imagenet(
    root: str | Path, *, download: bool = False, memory_mb: int = 4096, workers: int = 4
) -> tuple[ImageSet, ImageSet]:
    """Tiny-ImageNet from ``root/tiny-imagenet-200``; its labelled ``val`` is the test set.

    Its grey images are made RGB.

    Args:
        root: the folder that holds, or is to hold, the archive's own folder.
        download: fetch and unpack the archive where the folder is missing.
        memory_mb, workers: as for :func:`load_folder`.

    Raises:
        DataError: data that are missing, an archive with a wrong checksum, a damaged list; named.
    """
    root = Path(root)
    folder = root / TINY_IMAGENET
    if not folder.is_dir():
        _unpack_tiny_imagenet(root, download)
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train_files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in _images_in(folder / "train" / name / "images")
    ]
    val_files = _tiny_imagenet_val(folder / "val", classes)
    sets = [
        _image_set(folder, split, files, classes, 64).checked()
        for split, files in (("train", train_files), ("val", val_files))
    ]
    return _decoded(sets, "convert", memory_mb, workers)


def _image_set(
    root: Path, split: str, files: list[tuple[Path, int]], classes: list[str], side: int
) -> ImageSet:
    """Unread, colour; sorted by key: ``<folder>_<split>/<path with \\ for />``."""
    name = f"{root.resolve().name}_{split}"
    keyed = sorted(
        (f"{name}/" + "\\".join(path.relative_to(root / split).parts), path, label)
        for path, label in files
    )
    images = FileImages([path for _, path, _ in keyed], side, channels=3)
    labels = torch.tensor([label for _, _, label in keyed], dtype=torch.int64)
    return ImageSet(name, [key for key, _, _ in keyed], images, labels, classes)


def _decoded(
    sets: list[ImageSet], grey: str, memory_mb: int, workers: int
) -> tuple[ImageSet, ImageSet]:
    """The two sets with the channels that their files have, in memory where they fit."""
    channels = _channels([path for s in sets for path in s.images.paths], grey)
    decoded = []
    for images in sets:
        files = replace(images.images, channels=channels)
        fits = files.num_bytes <= memory_mb * 2**20
        decoded.append(replace(images, images=files.read_all(workers) if fits else files))
    return decoded[0], decoded[1]


def _channels(paths: list[Path], grey: str) -> int:
    """1 where all images are grey, else 3."""
    grey_paths = [path for path in paths if _is_grey(path)]
    if grey_paths and len(grey_paths) == len(paths):
        return 1
    if grey_paths and grey == "refuse":
        raise DataError(
            f"{grey_paths[0]} is grey among colour images ({len(grey_paths)} of {len(paths)} "
            "are); DATA.GREY convert makes them RGB"
        )
    if grey_paths:
        logger.info("%d of %d images are grey and made RGB.", len(grey_paths), len(paths))
    return 3


def _is_grey(path: Path) -> bool:
    try:
        with Image.open(path) as image:  # reads the header only
            return image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} does not decode: {error}; replace or remove it") from error


def _files_by_class(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """(file, label) of every image. A folder that is none of ``classes`` is an error."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]} is a class without a folder in train; add one or remove it"
        )
    return [(path, classes.index(name)) for name in names for path in _images_in(folder / name)]


def _images_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]


def _tiny_imagenet_val(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """(file, label) by ``val_annotations.txt``: file, class, and a box, separated by tabs."""
    listing = folder / "val_annotations.txt"
    if not listing.is_file():
        raise DataError(f"there is no {listing}; unpack the archive again")
    files = []
    for number, line in enumerate(listing.read_text().splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in classes:
            raise DataError(f"{listing}, line {number}: expected file and class, found {line!r}")
        path = folder / "images" / fields[0]
        if not path.is_file():
            raise DataError(f"{listing}, line {number}: there is no image {path}")
        files.append((path, classes.index(fields[1])))
    return files


def _unpack_tiny_imagenet(root: Path, download: bool) -> None:
    """Unpack ``root/tiny-imagenet-200.zip``, fetched if need be, once its checksum is right."""
    archive = root / f"{TINY_IMAGENET}.zip"
    if not archive.is_file():
        if not download:
            raise DataError(
                f"there is neither {root.absolute() / TINY_IMAGENET} nor {archive.name} beside "
                f"it; get it from {TINY_IMAGENET_URL} or set DATA.DOWNLOAD True"
            )
        _fetch(TINY_IMAGENET_URL, archive)
    found = _md5(archive)
    if found != TINY_IMAGENET_MD5:
        raise DataError(
            f"{archive} has the MD5 {found}, expected {TINY_IMAGENET_MD5}: it is damaged or "
            "something else; remove it and fetch it again"
        )
    with tempfile.TemporaryDirectory(dir=root) as part:  # whole or not there
        with zipfile.ZipFile(archive) as file:
            file.extractall(part)
        (Path(part) / TINY_IMAGENET).rename(root / TINY_IMAGENET)


def _fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        with urllib.request.urlopen(url) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        part.replace(path)
    except (OSError, urllib.error.URLError) as error:
        raise DataError(f"{url} cannot be fetched: {error}; put it at {path} yourself") from error
    finally:
        part.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
