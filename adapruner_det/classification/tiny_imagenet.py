"""Tiny-ImageNet: its archive, its folders, and its list of test labels."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, shown
from .folder import Split, load_splits
from .image_set import ImageSet
from .listing import ImageFile, list_images, logger, sorted_by_id

NAME = "tiny-imagenet-200"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
SIDE = 64


def load_tiny_imagenet(
    root: str | Path,
    *,
    download: bool = False,
    memory_mb: int = 4096,
    workers: int = 4,
    on_bad: str = "stop",
) -> tuple[ImageSet, ImageSet]:
    """Tiny-ImageNet from ``root/tiny-imagenet-200``; its labelled ``val`` is the test set.

    Its grey images are made RGB.

    Args:
        root: the folder that holds, or is to hold, the archive's own folder.
        download: fetch and unpack the archive where the folder is missing.
        memory_mb, workers, on_bad: as for :func:`.folder.load_folder`.

    Raises:
        DataError: data that are missing, an archive with a wrong checksum, a damaged list; named.
    """
    root = Path(root)
    folder = root / NAME
    if not folder.is_dir():
        _unpack(root, download)
    listing = list_images(folder / "train")
    listing.report()
    classes = listing.class_names()
    splits = [
        Split(f"{NAME}_train", listing.files(classes)),
        Split(f"{NAME}_val", sorted_by_id(_test_files(folder / "val", classes))),
    ]
    return load_splits(splits, classes, SIDE, "convert", memory_mb, workers, on_bad)


def _test_files(folder: Path, classes: Sequence[str]) -> list[ImageFile]:
    """By ``val_annotations.txt``: file, class, and a box, separated by tabs."""
    listing = folder / "val_annotations.txt"
    files: dict[str, ImageFile] = {}
    for number, line in enumerate(_lines(listing), 1):
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        where = f"{listing}, line {number}"
        if label not in classes or not name:
            raise DataError(f"{where}: expected file and class, found {line!r}")
        if name in (".", "..") or "/" in name:
            raise DataError(f"{where}: {name!r} is no name of a file in {folder / 'images'}")
        if name in files:
            raise DataError(f"{where}: {name} is there a second time; remove one of the lines")
        path = folder / "images" / name
        if not path.is_file():
            raise DataError(f"{where}: there is no image {path}")
        files[name] = ImageFile(str(path), f"images\\{name}", classes.index(label))
    unlisted = [p.name for p in (folder / "images").iterdir() if p.name not in files]
    if unlisted:
        logger.warning(
            "%s: %d files are not in %s and not read, first %s",
            folder / "images",
            len(unlisted),
            listing.name,
            shown(min(unlisted)),
        )
    return list(files.values())


def _lines(listing: Path) -> list[str]:
    if not listing.is_file():
        raise DataError(f"there is no {listing}; unpack the archive again")
    try:
        return listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing} cannot be read: {error}; unpack the archive again") from error


def _unpack(root: Path, download: bool) -> None:
    """Unpack ``root/tiny-imagenet-200.zip``, fetched if need be, once its checksum is right."""
    archive = root / f"{NAME}.zip"
    if not archive.is_file():
        if not download:
            raise DataError(
                f"there is neither {root.absolute() / NAME} nor {archive.name} beside "
                f"it; get it from {URL} or set DATA.DOWNLOAD True"
            )
        _fetch(URL, archive)
    found = md5(archive)
    if found != MD5:
        raise DataError(
            f"{archive} has the MD5 {found}, expected {MD5}: it is damaged or "
            "something else; remove it and fetch it again"
        )
    with tempfile.TemporaryDirectory(dir=root) as part:  # whole or not there
        with zipfile.ZipFile(archive) as file:
            file.extractall(part)
        try:
            (Path(part) / NAME).rename(root / NAME)
        except OSError:
            if not (root / NAME).is_dir():  # which another run has unpacked meanwhile
                raise


def _fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: another run may be fetching the same file.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        try:
            with urllib.request.urlopen(url) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target)
            part.replace(path)
        except (OSError, urllib.error.URLError) as error:
            raise DataError(
                f"{url} cannot be fetched: {error}; put it at {path} yourself"
            ) from error


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, in hexadecimal."""
    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
