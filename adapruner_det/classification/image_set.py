"""ImageSet: labelled images with the identity that selections need.

Shape letters: N samples, B samples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import logging
import unicodedata
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..errors import DataError
from ..samples import Samples, digest, fingerprints, sample_key
from ..selection import Selection, class_column

logger = logging.getLogger(__name__)

#: Data sets that version 0.1 named after their folder.
ONCE_NAMED_AFTER_THEIR_FOLDER = ("folder_train", "packed_train", "tiny-imagenet-200_train")


class UnreadImages(Protocol):
    """N images of one size, read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __getitem__(self, ids: Tensor) -> UnreadImages:
        """The images of ``ids`` (B,), still unread."""

    def read(self, i: int) -> Tensor:
        """Image ``i``, (C, H, W) uint8."""


@dataclass(frozen=True)
class ImageSet:
    """N labelled images of one data set.

    Attributes:
        name: of the data set; the keys begin with it.
        keys: ``name/image_id``, sorted and distinct.
        images: (N, C, H, W) uint8, or as many unread.
        labels: (N,) int64, places in ``class_names``.
        class_names: what the labels mean.
        contents: of each image a digest of its file's bytes; None where it is not a file.
        excluded: key → why, of the images that were left out because they cannot be used.
    """

    name: str
    keys: Sequence[str]
    images: UnreadImages | Tensor
    labels: Tensor
    class_names: Sequence[str]
    contents: Sequence[str] | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def checked(self, cure: str = "remove the class or give it images") -> ImageSet:
        """This set.

        Args:
            cure: what is to be done about a class without a sample.

        Raises:
            DataError: no image, a label outside the classes, or a class without a sample; named.
        """
        if not len(self):
            raise DataError(f"the data set {self.name} has no image")
        if len(self.labels) != len(self) or self.images.shape[0] != len(self):
            raise DataError(
                f"the data set {self.name} has {self.images.shape[0]} images and "
                f"{len(self.labels)} labels; there must be one label per image"
            )
        num_classes = len(self.class_names)
        bad = torch.nonzero((self.labels < 0) | (self.labels >= num_classes)).flatten()
        if len(bad):
            first = int(bad[0])
            raise DataError(
                f"the label of {self.keys[first]} is {int(self.labels[first])}, outside 0 to "
                f"{num_classes - 1} (and {len(bad) - 1} more like it); correct the labels or the "
                "list of classes"
            )
        empty = [self.class_names[c] for c in self.missing_classes()]
        if empty:
            raise DataError(
                f"the data set {self.name} has no image of {', '.join(empty[:3])} "
                f"({len(empty)} of {num_classes} classes are empty); {cure}"
            )
        return self

    def missing_classes(self) -> list[int]:
        """The classes without a sample."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        return torch.nonzero(counts == 0).flatten().tolist()

    def subset(self, ids: Tensor) -> ImageSet:
        """The samples of ``ids`` (K,), distinct, in rising order."""
        ids = ids.sort().values
        return replace(
            self,
            keys=[self.keys[i] for i in ids.tolist()],
            images=self.images[ids],
            labels=self.labels[ids],
            contents=None if self.contents is None else [self.contents[i] for i in ids.tolist()],
        )

    @property
    def digest_of(self) -> str:
        """What the digests are of, as a Selection has it."""
        return "pixels" if self.contents is None else "bytes"

    def _digests(self) -> np.ndarray:
        """(N,) uint64, of each sample's class and content: its file's bytes, or its pixels."""
        contents = self.contents
        if contents is None:
            assert isinstance(self.images, Tensor)
            contents = [f"{zlib.crc32(image):08x}" for image in self.images.contiguous().numpy()]
        names = [self.class_names[c] for c in self.labels.tolist()]
        pairs = zip(names, contents, strict=True)
        return np.array([digest(f"{name}\n{content}") for name, content in pairs], dtype=np.uint64)

    @cached_property
    def samples(self) -> Samples:
        """This set as methods, selections and reports know it."""
        digests = self._digests()
        return Samples(
            keys=self.keys,
            digests=digests,
            datasets=fingerprints(self.keys, digests, [self.name]),
            classes=[[label] for label in self.labels.tolist()],
            class_names=tuple(self.class_names),
            digest_of=self.digest_of,
            excluded=self.excluded,
            read_image=self._read_image,
        )

    def _read_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; a grey image has three like channels."""
        images = self.images
        pixels = images[index] if isinstance(images, Tensor) else images.read(index)
        return np.repeat(pixels.numpy(), 3 // len(pixels), axis=0).transpose(1, 2, 0)

    def kept(self, selection: Selection) -> ImageSet:
        """The part that ``selection`` keeps.

        Raises:
            DataError: a selection of other data, with the first three keys that differ.
        """
        return self.with_keys(self.checked_selection(selection).kept_keys)

    def with_keys(self, keys: Collection[str]) -> ImageSet:
        """The samples whose key is one of ``keys``."""
        return self._where([key in keys for key in self.keys])

    def checked_selection(self, selection: Selection) -> Selection:
        """``selection`` with this set's name, keys and classes, once it is found to be of this set.

        A selection that version 0.1 made of files has digests of decoded pixels or of sizes; it is
        known by its image ids alone, with a warning.

        Raises:
            DataError: a selection of other data.
        """
        mine, selection = self._matched(selection)
        if len(mine) < len(self):
            logger.warning(
                "%d image(s) that the pruning run left out are left out here too.",
                len(self) - len(mine),
            )
        if self._by_name_alone(selection):
            logger.warning(
                "The selection is of version 0.1, which kept no digest of the files' bytes: the "
                "images were found by their names alone."
            )
        classes = class_column([label] for label in mine.labels.tolist())
        return replace(
            selection,
            columns={**selection.columns, **classes},
            class_names=tuple(self.class_names),
        )

    def _matched(self, selection: Selection) -> tuple[ImageSet, Selection]:
        """This set without what the selection's run left out, and ``selection`` with its names."""
        if self.name in ONCE_NAMED_AFTER_THEIR_FOLDER and len(selection.datasets) == 1:
            selection = selection.with_dataset_name(self.name)
        mine = self._where([key not in selection.excluded for key in self.keys])
        if self._by_name_alone(selection):
            selection = mine._with_digests_of_same_names(selection)
        selection.check(mine.keys, mine.samples.digests)
        return mine, selection

    def _by_name_alone(self, selection: Selection) -> bool:
        return self.digest_of == "bytes" and not selection.digest_of

    def _with_digests_of_same_names(self, selection: Selection) -> Selection:
        """``selection`` with its keys in NFC, and this set's digests under the keys it shares."""
        digests = dict(zip(self.keys, self.samples.digests.tolist(), strict=True))
        old = zip(selection.columns["key"].tolist(), selection.columns["digest"], strict=True)
        pairs = [(unicodedata.normalize("NFC", key), int(value)) for key, value in old]
        order = sorted(range(len(pairs)), key=lambda i: pairs[i][0])
        columns = {name: column[order] for name, column in selection.columns.items()}
        keys = [pairs[i][0] for i in order]
        columns["key"] = np.array(keys)
        columns["digest"] = np.array(
            [digests.get(key, pairs[i][1]) for key, i in zip(keys, order, strict=True)], np.uint64
        )
        try:
            return replace(selection, columns=columns)
        except ValueError:  # two keys that are one in NFC: `check` says what differs
            return selection

    def _where(self, chosen: Sequence[bool]) -> ImageSet:
        if all(chosen):  # spares a copy of the images
            return self
        return self.subset(torch.nonzero(torch.tensor(chosen, dtype=torch.bool)).flatten())


def from_arrays(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> ImageSet:
    """An ImageSet whose image ids are the images' places in their file.

    Args:
        name: of the data set.
        images: (N, H, W) or (N, H, W, C) uint8.
        labels: (N,) whole numbers.
        class_names: what the labels mean.
    """
    if images.ndim == 3:
        images = images[..., None]
    digits = max(6, len(str(len(images) - 1)))  # of all alike, or the keys would not be sorted
    keys = [sample_key(name, f"{i:0{digits}d}") for i in range(len(images))]
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet(name, keys, tensor, torch.as_tensor(labels, dtype=torch.int64), class_names)


def draw(num_samples: int, count: int, seed: int) -> Tensor:
    """``count`` of N indices without replacement, in rising order: (count,) int64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.sort(rng.permutation(num_samples)[:count]))


def split_off(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """(the rest, round(share·N) samples drawn at random), for choosing hyper-parameters.

    Raises:
        DataError: a share that leaves nothing on either side.
    """
    count = round(share * len(images))
    if not 0 < count < len(images):
        raise DataError(
            f"DATA.HOLDOUT {share:g} of {len(images)} images is {count}; both parts need images"
        )
    held = draw(len(images), count, seed)
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[held] = False
    return images.subset(torch.nonzero(rest).flatten()), images.subset(held)


def shrunk(images: ImageSet, factor: int) -> ImageSet:
    """The images by the means of blocks of ``factor`` x ``factor`` pixels.

    Raises:
        DataError: images that are read from files one by one, or whose sides are no multiple.
    """
    if factor == 1:
        return images
    if not isinstance(images.images, Tensor):
        raise DataError("DATA.SHRINK is for images that lie in memory; set DATA.SIZE instead")
    height, width = images.images.shape[2:]
    if height % factor or width % factor:
        raise DataError(
            f"DATA.SHRINK is {factor}, but the images of {images.name} are {height}x{width}: the "
            "sides must be multiples of it"
        )
    means = avg_pool2d(images.images.to(torch.float32), factor)
    return replace(images, images=means.round().to(torch.uint8))
