"""Samples: what both tasks call a training set, and what one of its samples is known by.

A sample is one image with its annotations. Its key is ``dataset_name/image_id``; its index, 0 to
N−1, is its place among the sorted keys of a run; its digest changes with what it is. Shape letters:
N samples, G objects of a sample, H x W pixels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

#: A box may reach beyond its image by so many pixels without a word: annotation tools round.
BOX_SLACK = 1.5


@dataclass(frozen=True)
class Samples:
    """The N samples that a run may train on, in the order of their keys.

    Attributes:
        keys: sorted and distinct.
        digests: (N,) uint64, of each sample's image and annotations.
        datasets: data-set name → fingerprint of its keys and digests.
        classes: the class ids of each sample, one an object; crowds do not count.
        class_names: what the ids mean.
        digest_of: ``bytes`` where a digest is of the annotations and the bytes of the image's file,
            ``pixels`` where it is of those and the image as it lies in memory, else empty.
        excluded: key → why, of samples that are left out because they cannot be used.
        read_image: index → (H, W, 3) uint8 RGB; None where images cannot be read one by one.
        boxes: of each sample (G, 4) float32, its objects' (x0, y0, x1, y1) in pixels of the image
            as it is annotated, in the order of ``classes``; None where objects have no boxes.
    """

    keys: Sequence[str]
    digests: np.ndarray
    datasets: Mapping[str, str]
    classes: Sequence[Sequence[int]]
    class_names: Sequence[str] = ()
    digest_of: str = ""
    excluded: Mapping[str, str] = field(default_factory=dict)
    read_image: Callable[[int], np.ndarray] | None = None
    boxes: Sequence[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N,) int64, how many objects each sample has."""
        return np.array([len(own) for own in self.classes], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of all data sets. Hexadecimal."""
        return hashlib.sha256(repr(sorted(self.datasets.items())).encode()).hexdigest()

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one sample.

        Raises:
            ValueError: samples whose images cannot be read one by one.
        """
        if self.read_image is None:
            raise ValueError("the images of these samples cannot be read one by one")
        return self.read_image(index)


def sample_key(dataset_name: str, image_id: str) -> str:
    """``dataset_name/image_id``; one slash separates the two, so those of an id are turned."""
    return f"{dataset_name}/{image_id.replace('/', chr(92))}"


def dataset_of(key: str) -> str:
    """The name of the data set in a key; empty where a key has none."""
    return key.rpartition("/")[0]


def image_id_of(key: str) -> str:
    """The image id in a key."""
    return key.rpartition("/")[2]


def digest(text: str) -> int:
    """64 bits of SHA-256, as an unsigned integer."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def fingerprint(keys: Iterable[str], digests: Iterable[int]) -> str:
    """SHA-256 over keys and digests, in hexadecimal."""
    total = hashlib.sha256()
    for key, value in zip(keys, digests, strict=True):
        total.update(f"{key} {int(value):016x}\n".encode())
    return total.hexdigest()


def fingerprints(
    keys: Sequence[str], digests: Sequence[int] | np.ndarray, dataset_names: Iterable[str]
) -> dict[str, str]:
    """Data-set name → fingerprint of its part of ``keys`` and ``digests``, (N,) each."""
    rows: dict[str, tuple[list[str], list[int]]] = {name: ([], []) for name in dataset_names}
    for key, value in zip(keys, digests, strict=True):
        own_keys, own_digests = rows[dataset_of(key)]
        own_keys.append(key)
        own_digests.append(int(value))
    return {name: fingerprint(*columns) for name, columns in rows.items()}


def alike_name(name: str) -> str:
    """``name`` of a class without case and spaces."""
    return "".join(name.casefold().split())


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """Groups of those that differ by case or spaces alone: mostly one class, written twice."""
    alike = defaultdict(list)
    for name in names:
        alike[alike_name(name)].append(name)
    return [group for group in alike.values() if len(group) > 1]
