"""The folder of an export: whole or absent, and nothing of anybody else's is lost for it.

All is written into a new folder beside the place it is for, which it takes at the end. A file in it
says what the export is of and which files it has: by that a later export knows which folders it may
replace.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Literal

from ..errors import DataError
from ..files import PART, sha256, sha256_at

logger = logging.getLogger(__name__)


#: What an export has in its folder besides the format's own files.
MARKER = "adapruner_export.json"

#: Whether images stay where they are, are linked to, or copied.
Images = Literal["none", "link", "copy"]


class Folder:
    """A new folder that is being filled; names are relative to it, with ``/``.

    Attributes:
        path: where it is now.
        files: name → SHA-256 of the files that were written, copies of images among them.
        links: name → where it leads.
        images: name → key of the images that were linked or copied.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.images: dict[str, str] = {}

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file that is not there yet.

        Raises:
            ValueError: a name that leads out of the folder.
        """
        data = content.encode() if isinstance(content, str) else content
        with open(self._new(name), "xb") as file:  # x: never through a link that was placed
            file.write(data)
        self.files[name] = hashlib.sha256(data).hexdigest()

    def make(self, name: str) -> None:
        """Make a folder, which may stay empty."""
        self._new(name).mkdir()

    def place(self, name: str, source: str, key: str, how: Images) -> None:
        """Link to an image, or copy it.

        Args:
            name: that it gets.
            source: the image file.
            key: of its sample.
            how: ``link``, or ``copy``.

        Raises:
            ValueError: a name that leads out of the folder.
            DataError: an image that is not there, or a file system that has no links.
        """
        if not os.path.isfile(source):
            raise DataError(f"the image {source} of {key} is no file; prune this data anew")
        target = self._new(name)
        if how == "copy":
            with _opened(source) as image, open(target, "xb+") as copied:
                shutil.copyfileobj(image, copied, 1 << 20)
                copied.seek(0)
                self.files[name] = sha256(copied)
        else:
            self.links[name] = os.path.realpath(source)
            try:
                os.symlink(self.links[name], target)
            except OSError as error:
                raise DataError(
                    f"{self.path.parent} takes no links: {error.strerror}; use --images copy"
                ) from error
        self.images[name] = key

    def _new(self, name: str) -> Path:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{name!r} is no name below a folder")
        target = self.path.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


@contextmanager
def new_folder(
    place: str | Path,
    about: Mapping[str, Any],
    sources: Iterable[str] = (),
    overwrite: bool = False,
) -> Iterator[Folder]:
    """A folder to fill, which takes ``place`` once the block ends without an error.

    Another export's folder there is replaced, if nobody has put anything into it or changed it. Any
    other folder with something in it is refused, or moves out of the way under ``overwrite``.

    Args:
        place: the folder's.
        about: plain values that the export says of itself.
        sources: files that must not move, those that the export is made from.
        overwrite: take the place of what is no export, or no longer only that.

    Raises:
        DataError: what stands at ``place`` already, or a disk that takes no more.
    """
    if "\0" in str(place):
        raise DataError(f"{str(place)!r} is no name of a folder")
    target = Path(os.path.realpath(place))
    sources = list(sources)
    _require_free(target, sources, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        part = _hidden_beside(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    handle = os.open(part, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, where nothing is swept either
            fcntl.flock(handle, fcntl.LOCK_SH)  # it is no leftover of a killed export
        folder = Folder(part)
        yield folder
        text = json.dumps(_marker(folder, about), indent=1, ensure_ascii=False)
        folder.write(MARKER, text.encode("utf-8", "backslashreplace"))
        os.sync()  # once for all of its files, before they can be seen
        _take_place(part, target, sources, overwrite)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        os.close(handle)
        shutil.rmtree(part, ignore_errors=True)


def _marker(folder: Folder, about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        own = version("adapruner-det")
    except PackageNotFoundError:
        own = "unknown"
    return {
        "adapruner_det_export": 1,
        "version": own,
        **about,
        "images": folder.images,
        "links": folder.links,
        "files": folder.files,
    }


def _require_free(target: Path, sources: Iterable[str], overwrite: bool) -> None:
    """Raise a DataError unless the export may take the place of what stands at ``target``."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise DataError(f"{target} is a file; name a folder that is not there yet")
    below = os.path.join(target, "")
    inside = [file for file in sources if os.path.realpath(file).startswith(below)]
    if inside:
        raise DataError(
            f"{inside[0]}, which is exported, lies in {target}, whose place the export would take; "
            "name another folder"
        )
    if not overwrite and any(target.iterdir()) and (foreign := _foreign(target)):
        raise DataError(
            f"{target} is there already and not an export alone ({foreign}); name another folder, "
            "or use --overwrite, which moves it out of the way"
        )


def _foreign(target: Path) -> str:
    """Why a folder is not an export alone, as it was written; empty if it is."""
    try:
        marker = json.loads((target / MARKER).read_bytes())
        files, links = dict(marker["files"]), dict(marker.get("links", {}))
        if marker["adapruner_det_export"] != 1:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no {MARKER}"
    for place, folders, names in os.walk(target):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(place, f)))]:
            path = os.path.join(place, name)
            own = os.path.relpath(path, target).replace(os.sep, "/")
            if own == MARKER:
                continue
            if own not in files and own not in links:
                return f"it has {own!r} besides"
            if _content(path) != (files.get(own), links.get(own)):
                return f"its {own!r} was changed"
    return ""


def _take_place(part: Path, target: Path, sources: Iterable[str], overwrite: bool) -> None:
    """Rename ``part`` to ``target``; what stood there is removed, or kept if it is no export."""
    _require_free(target, sources, overwrite)  # again: it may have come meanwhile
    old = None
    foreign = target.is_dir() and any(target.iterdir()) and _foreign(target)
    if target.is_dir():
        old = _aside(target) if foreign else _hidden_beside(target)
        os.rename(target, old)
    try:
        os.rename(part, target)
    except OSError:
        if old is not None:
            os.rename(old, target)
        raise
    if foreign:
        logger.warning("What was in %s is now in %s.", target, old)
    elif old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _aside(target: Path) -> Path:
    """A place beside ``target`` that is free."""
    number = 1
    while os.path.lexists(f"{target}-old-{number}"):
        number += 1
    return Path(f"{target}-old-{number}")


def _sweep(target: Path) -> None:
    """Remove what exports to ``target`` that were killed have left; those that run are locked."""
    for left in target.parent.glob(f".{_escaped(target.name[:32])}.*{PART}"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


def _hidden_beside(target: Path) -> Path:
    """A new empty folder beside ``target``, named so that :func:`_sweep` finds it."""
    while True:
        path = target.with_name(f".{target.name[:32]}.{secrets.token_hex(4)}{PART}")
        with suppress(FileExistsError):
            path.mkdir()
            return path


def _escaped(name: str) -> str:
    """``name`` as a pattern that it alone matches."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _opened(source: str) -> IO[bytes]:
    try:
        return open(source, "rb")
    except OSError as error:
        raise DataError(f"the image {source} cannot be read: {error.strerror}") from error


def _unwritable(target: Path, error: OSError) -> DataError:
    return DataError(
        f"{target} cannot be written: {error.strerror}; free space there or name another folder"
    )


def _content(path: str) -> tuple[str | None, str | None]:
    """The SHA-256 of a file, and where a link leads; None is what it is not."""
    if os.path.islink(path):
        return None, os.readlink(path)
    if not os.path.isfile(path):
        return None, None
    return sha256_at(path), None
