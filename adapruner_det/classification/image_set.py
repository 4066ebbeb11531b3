"""ImageSet: labelled images with the identity that selections need.

Shape letters: N samples, B samples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..selection import Selection, digest, fingerprint


class UnreadImages(Protocol):
    """N images of one size, read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __getitem__(self, ids: Tensor) -> UnreadImages:
        """The images of ``ids`` (B,), still unread."""

    def contents(self) -> list[str]:
        """Of each image what its digest is made of."""


@dataclass(frozen=True)
class ImageSet:
    """N labelled images of one data set.

    Attributes:
        name: of the data set; the keys begin with it.
        keys: ``name/image_id``, sorted and distinct.
        images: (N, C, H, W) uint8, or as many unread.
        labels: (N,) int64, places in ``class_names``.
        class_names: what the labels mean.
    """

    name: str
    keys: Sequence[str]
    images: UnreadImages | Tensor
    labels: Tensor
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def in_memory(self) -> bool:
        """Whether the images are one tensor."""
        return isinstance(self.images, Tensor)

    def checked(self) -> ImageSet:
        """This set.

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
                f"({len(empty)} of {num_classes} classes are empty); remove the class or give "
                "it images"
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
        )

    def digests(self) -> np.ndarray:
        """(N,) uint64, of each sample's class and content (its file's size where unread)."""
        if isinstance(self.images, Tensor):
            contents = [f"{zlib.crc32(image):08x}" for image in self.images.contiguous().numpy()]
        else:
            contents = self.images.contents()
        names = [self.class_names[c] for c in self.labels.tolist()]
        pairs = zip(names, contents, strict=True)
        return np.array([digest(f"{name}\n{content}") for name, content in pairs], dtype=np.uint64)

    def fingerprints(self, digests: np.ndarray) -> dict[str, str]:
        """Data-set name → fingerprint, as a Selection has it."""
        return {self.name: fingerprint(self.keys, digests.tolist())}

    def kept(self, selection: Selection) -> ImageSet:
        """The part that ``selection`` keeps.

        Raises:
            DataError: a selection of other data, with the first three keys that differ.
        """
        selection.check(self.keys, self.digests())
        return self.subset(torch.from_numpy(np.flatnonzero(selection.columns["kept"])))


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
    keys = [f"{name}/{i:06d}" for i in range(len(images))]
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet(name, keys, tensor, torch.as_tensor(labels, dtype=torch.int64), class_names)


def draw(num_samples: int, count: int, seed: int) -> Tensor:
    """``count`` of N indices without replacement, in rising order: (count,) int64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.sort(rng.permutation(num_samples)[:count]))


def with_wrong_labels(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, Tensor]:
    """Replace round(share·N) labels by another class each, drawn evenly.

    Returns:
        The set, and the indices of the samples whose label is now wrong, in rising order.
    """
    wrong = draw(len(images), round(share * len(images)), seed)
    rng = np.random.default_rng([seed, 1])
    shift = torch.from_numpy(rng.integers(1, len(images.class_names), len(wrong)))
    labels = images.labels.clone()
    labels[wrong] = (labels[wrong] + shift) % len(images.class_names)
    return replace(images, labels=labels), wrong


def split_off(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """(the rest, round(share·N) samples drawn at random), for choosing hyper-parameters."""
    held = draw(len(images), round(share * len(images)), seed)
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[held] = False
    return images.subset(torch.nonzero(rest).flatten()), images.subset(held)
