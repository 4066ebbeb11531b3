"""Images in files: any folder with one folder a class.

Shape letters: N samples, B samples of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..errors import DataError, shown
from ..image_check import check_images
from ..images import ImageFacts, read_upright
from ..samples import dataset_of, sample_key
from .image_set import ImageSet
from .listing import ImageFile, list_images, warn_of_alike_classes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileImages:
    """N image files, decoded when asked for.

    Attributes:
        paths: the N files.
        side: S, to which images are resized, their aspect ratio lost.
        channels: 1 or 3.
    """

    paths: Sequence[str]
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

    def read(self, i: int) -> Tensor:
        """Image ``i``, upright as its EXIF orientation says: (C, S, S) uint8.

        Raises:
            DataError: a file that cannot be used, named.
        """
        image = read_upright(self.paths[i]).convert("RGB" if self.channels == 3 else "L")
        if image.size != (self.side, self.side):
            image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        pixels = np.array(image).reshape(self.side, self.side, -1)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def read_all(self, workers: int) -> Tensor:
        """All of them, with a progress bar: (N, C, S, S) uint8."""
        images = torch.empty(self.shape, dtype=torch.uint8)
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            read = pool.map(self.read, range(len(self.paths)))
            bar = tqdm(
                read,
                "reading images",
                len(self.paths),
                unit="image",
                mininterval=1,
                leave=False,
                disable=None,
            )
            for i, image in enumerate(bar):
                images[i] = image
        return images


@dataclass(frozen=True)
class Split:
    """The files of one split, before they are checked.

    Attributes:
        name: of the data set.
        files: its images, sorted by image id.
    """

    name: str
    files: Sequence[ImageFile]

    def key(self, file: ImageFile) -> str:
        """Of a sample: ``name/image_id``."""
        return sample_key(self.name, file.image_id)


def load_folder(
    root: str | Path,
    side: int,
    *,
    grey: str = "refuse",
    memory_mb: int = 4096,
    workers: int = 4,
    on_bad: str = "stop",
) -> tuple[ImageSet, ImageSet]:
    """``root/train/<class>/*`` and ``root/test/<class>/*`` (or ``val``).

    Keys are ``folder_train/<class>\\<file>``, whatever ``root`` is called.

    Args:
        root: the folder.
        side: S, to which images are resized.
        grey: ``refuse`` or ``convert`` grey images among colour ones.
        memory_mb: a split that takes more than this once decoded stays in its files.
        workers: threads that decode.
        on_bad: ``stop`` at, or ``skip``, images that cannot be used.

    Raises:
        DataError: a folder that is not there, a class without an image, an image that cannot be
            used, a grey one among colour ones; named.
    """
    train, test = _split_folders(Path(root))
    listings = [list_images(path) for path in (train, test)]
    for listing in listings:
        listing.report()
    classes = listings[0].class_names()
    warn_of_alike_classes(classes)
    splits = [
        Split(f"folder_{path.name}", listing.files(classes))
        for path, listing in zip((train, test), listings, strict=True)
    ]
    return load_splits(splits, classes, side, grey, memory_mb, workers, on_bad)


def load_splits(
    splits: Sequence[Split],
    classes: Sequence[str],
    side: int,
    grey: str,
    memory_mb: int,
    workers: int,
    on_bad: str,
) -> tuple[ImageSet, ImageSet]:
    """The training and the test set of two splits, with every file checked.

    Args:
        splits: of training and of testing.
        classes: what the labels mean.
        side, grey, memory_mb, workers, on_bad: as for :func:`load_folder`.

    Raises:
        DataError: as for :func:`load_folder`.
    """
    facts = check_images([file.path for split in splits for file in split.files])
    bad = {path: found.problem for path, found in facts.items() if found.problem}
    _refuse_or_say(bad, facts, on_bad)
    usable = [file for split in splits for file in split.files if file.path not in bad]
    channels = _channels([file.path for file in usable], facts, grey)
    sets = [_image_set(split, classes, facts, side, channels).checked() for split in splits]
    _warn_of_notes({file.path: facts[file.path].note for file in usable})
    _warn_of_copies(*sets)
    # Larger ones are refused above, by a limit of our own.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    decoded = []
    for images in sets:
        assert isinstance(images.images, FileImages)
        fits = images.images.num_bytes <= memory_mb * 2**20
        decoded.append(replace(images, images=images.images.read_all(workers)) if fits else images)
    return decoded[0], decoded[1]


def _split_folders(root: Path) -> tuple[Path, Path]:
    """The folders of training and test images."""
    test = "test" if (root / "test").is_dir() else "val"
    for split in ("train", test):
        if not (root / split).is_dir():
            raise DataError(
                f"there is no folder {(root / split).absolute()}; an image folder holds "
                "train/<class>/<image> and test/<class>/<image>"
            )
    if test == "test" and (root / "val").is_dir():
        logger.warning("%s is not read: there is a test folder beside it.", root / "val")
    return root / "train", root / test


def _refuse_or_say(bad: Mapping[str, str], facts: Mapping[str, ImageFacts], on_bad: str) -> None:
    """One line about images that cannot be used: an error, or a warning where they are skipped."""
    if not bad:
        return
    examples = ", ".join(f"{shown(path)} {bad[path]}" for path in sorted(bad)[:3])
    line = f"{len(bad)} of {len(facts)} images cannot be used: {examples}"
    line += f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    if on_bad == "stop":
        raise DataError(
            f"{line}; replace or remove them, or leave them out with ADAPRUNER.ON_BAD_SAMPLE skip"
        )
    logger.warning("%s: left out.", line)


def _image_set(
    split: Split,
    classes: Sequence[str],
    facts: Mapping[str, ImageFacts],
    side: int,
    channels: int,
) -> ImageSet:
    """Unread, without the images that cannot be used."""
    files = [file for file in split.files if not facts[file.path].problem]
    return ImageSet(
        split.name,
        [split.key(file) for file in files],
        FileImages([file.path for file in files], side, channels),
        torch.tensor([file.label for file in files], dtype=torch.int64),
        classes,
        [facts[file.path].digest for file in files],
        {
            # A name that is not UTF-8 could not be written to a selection.
            os.fsencode(split.key(file)).decode(errors="backslashreplace"): problem
            for file in split.files
            if (problem := facts[file.path].problem)
        },
    )


def _channels(paths: Sequence[str], facts: Mapping[str, ImageFacts], grey: str) -> int:
    """1 where all images are grey, else 3."""
    grey_paths = [path for path in paths if facts[path].is_grey]
    if grey_paths and len(grey_paths) == len(paths):
        return 1
    if grey_paths and grey == "refuse":
        raise DataError(
            f"{shown(grey_paths[0])} is grey among colour images ({len(grey_paths)} of "
            f"{len(paths)} are); DATA.GREY convert makes them RGB"
        )
    if grey_paths:
        logger.info("%d of %d images are grey and made RGB.", len(grey_paths), len(paths))
    return 3


def _warn_of_notes(notes: Mapping[str, str]) -> None:
    """Log what is lost when images are read: how often, and an example."""
    for note in sorted(set(notes.values()) - {""}):
        paths = [path for path, own in notes.items() if own == note]
        logger.warning("Of %d image(s): %s %s.", len(paths), shown(paths[0]), note)


def _warn_of_copies(train: ImageSet, test: ImageSet) -> None:
    """Log files that are there twice, byte for byte, where that does harm."""
    first: dict[str, tuple[str, int]] = {}
    in_both, two_classes = [], []
    for images in (train, test):
        rows = zip(images.keys, images.contents or (), images.labels.tolist(), strict=True)
        for key, content, label in rows:
            other, other_label = first.setdefault(content, (key, label))
            if label != other_label:
                two_classes.append((other, key))
            if images is test and dataset_of(other) == train.name:
                in_both.append((other, key))
    for pairs, harm in (
        (in_both, "are for training and for testing: the accuracy on them says nothing"),
        (two_classes, "stand in two classes: one of the two labels is wrong"),
    ):
        if pairs:
            one, two = map(shown, pairs[0])
            logger.warning(
                "%d file(s), the same byte for byte, %s; first %s and %s.",
                len(pairs),
                harm,
                one,
                two,
            )
