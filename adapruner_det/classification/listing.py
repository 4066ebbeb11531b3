"""Which files below a folder are the images of which class, and what else lies there."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, shown
from ..images import SUFFIXES, is_hidden
from ..samples import alike_name, alike_names

logger = logging.getLogger(__name__)


class ImageFile(NamedTuple):
    """A file that should be an image.

    Attributes:
        path: of the file.
        image_id: its path below its split with ``\\`` for ``/``, in NFC; the key ends with it.
        label: its class's place among the classes.
    """

    path: str
    image_id: str
    label: int


@dataclass(frozen=True)
class Listing:
    """What lies below ``<folder>/<class>/``.

    Attributes:
        folder: with one folder a class.
        images: name of a class's folder → the paths of its images, in any order.
        passed_over: why → the paths of files and folders that are not read.
    """

    folder: str
    images: dict[str, list[str]] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    def class_names(self) -> list[str]:
        """The names of the classes in NFC, sorted.

        Raises:
            DataError: no class, a name that is not UTF-8, or two that are one in NFC.
        """
        names: dict[str, str] = {}
        for own in self.images:
            name = normal(own, self.folder)
            if name in names:
                raise DataError(
                    f"{self.folder} has two folders of the class {shown(name)}, which differ in "
                    "how its letters are composed in Unicode; put all images into one"
                )
            names[name] = own
        if not names:
            raise DataError(
                f"{self.folder} has no folder of a class; images lie in {self.folder}/<class>/"
            )
        return sorted(names)

    def files(self, classes: Sequence[str]) -> list[ImageFile]:
        """The images, with the place of their class in ``classes``, sorted by image id.

        Raises:
            DataError: a folder that is none of ``classes``, or two files with one image id.
        """
        self.class_names()
        label_of = {name: label for label, name in enumerate(classes)}
        files = []
        for own, paths in self.images.items():
            name = normal(own, self.folder)
            if name not in label_of:
                alike = [c for c in classes if alike_name(c) == alike_name(name)]
                hint = f" (it has {shown(alike[0])})" if alike else ""
                raise DataError(
                    f"{shown(os.path.join(self.folder, own))} is a class without a folder in "
                    f"train{hint}; add one or remove it"
                )
            files += [ImageFile(path, self._image_id(path), label_of[name]) for path in paths]
        return sorted_by_id(files)

    def report(self) -> None:
        """Log what is not read: how much, and an example."""
        for why, paths in self.passed_over.items():
            kinds = Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in paths)
            most = ", ".join(f"{shown(kind)}: {count}" for kind, count in kinds.most_common(3))
            detail = f" ({most})" if why.startswith(_OTHER) else ""
            logger.warning(
                "%s: %d %s%s, first %s", self.folder, len(paths), why, detail, shown(min(paths))
            )

    def _image_id(self, path: str) -> str:
        parts = Path(path).relative_to(self.folder).parts
        return unicodedata.normalize("NFC", "\\".join(parts))


_OTHER = "files are not read as images"
_HIDDEN = "hidden files or folders are ignored"
_LOOP = "links lead back to a folder above them and are not followed"
_LOOSE = "images are not read, as they lie in no class's folder"


def list_images(folder: str | Path) -> Listing:
    """Look through ``folder/<class>/`` at any depth; links to folders are followed.

    Names that begin with a dot, and what operating systems add, are passed over.

    Raises:
        DataError: a folder that cannot be read, named.
    """
    found = Listing(str(folder))
    for entry in _entries(str(folder)):
        if is_hidden(entry.name):
            _pass_over(found, _HIDDEN, entry.path)
        elif _is_folder(entry):
            found.images[entry.name] = list(_images_below(entry.path, found))
        else:
            _pass_over(found, _LOOSE if is_image(entry.name) else _OTHER, entry.path)
    return found


def _images_below(folder: str, found: Listing) -> Iterator[str]:
    """The paths of all images below ``folder``, whether they are regular files or not."""
    pending = [(folder, frozenset({_identity(found.folder), _identity(folder)}))]
    while pending:
        here, above = pending.pop()
        for entry in _entries(here):
            if is_hidden(entry.name):
                _pass_over(found, _HIDDEN, entry.path)
            elif not _is_folder(entry) and is_image(entry.name):
                yield entry.path
            elif not _is_folder(entry):
                _pass_over(found, _OTHER, entry.path)
            elif _identity(entry.path) in above:
                _pass_over(found, _LOOP, entry.path)
            else:
                if is_image(entry.name):
                    logger.warning("%s is a folder, not an image.", shown(entry.path))
                pending.append((entry.path, above | {_identity(entry.path)}))


def sorted_by_id(files: Iterable[ImageFile]) -> list[ImageFile]:
    """The files in the order of their image ids.

    Raises:
        DataError: two files with one id.
    """
    files = sorted(files, key=lambda file: (file.image_id, file.path))
    for one, two in zip(files, files[1:], strict=False):
        if one.image_id == two.image_id:
            raise DataError(
                f"{shown(one.path)} and {shown(two.path)} have one name, {shown(one.image_id)}, "
                "once its letters are composed as Unicode's NFC does; rename one of them"
            )
    return files


def warn_of_alike_classes(classes: Sequence[str]) -> None:
    """Log the classes whose names differ by case or spaces alone."""
    for first, *others in alike_names(classes):
        for name in others:
            logger.warning(
                "The classes %r and %r differ by case or spaces alone: are they one?", first, name
            )


def is_image(name: str) -> bool:
    """Whether a file's name has the suffix of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def normal(name: str, where: str | Path) -> str:
    """``name`` in NFC.

    Raises:
        DataError: a name that is not UTF-8, in the folder ``where``.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} has a name that is not UTF-8: {name!a}; rename it") from None
    return unicodedata.normalize("NFC", name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"the folder {shown(folder)} cannot be read: {error.strerror}; make it readable"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str) -> tuple[int, int]:
    """What two names of one folder share."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _pass_over(found: Listing, why: str, path: str) -> None:
    found.passed_over.setdefault(why, []).append(path)
