"""What is planted in a training set to see whether a method finds it: wrong labels, twins.

Shape letters: N samples, W planted, C channels, H and W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .image_set import ImageSet

#: Of the samples, the part that twins are copies of.
SOURCES = 0.1
#: Standard deviations of a copy's brightness, as a factor, and of its noise, of 255.
BRIGHTNESS, NOISE = 0.05, 4.0

#: What is drawn.
LABELS, TWINS = range(2)


def _generator(seed: int, what: int) -> np.random.Generator:
    """One whose numbers no training draws: the order of an epoch is seeded by (SEED, epoch), and
    NumPy takes a seed and one followed by zeros for the same."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(what,)))


def with_wrong_labels(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, Tensor]:
    """Replace round(share·N) labels by another class each, drawn evenly.

    Returns:
        The set, and the indices of the samples whose label is now wrong, in rising order.

    Raises:
        DataError: a set of one class, which has no wrong label.
    """
    if share and len(images.class_names) < 2:
        raise DataError("DATA.WRONG_LABELS needs two classes or more; set it to 0")
    rng = _generator(seed, LABELS)
    order = rng.permutation(len(images))
    wrong = torch.from_numpy(np.sort(order[: round(share * len(images))]))
    shift = torch.from_numpy(rng.integers(1, len(images.class_names), len(wrong)))
    labels = images.labels.clone()
    labels[wrong] = (labels[wrong] + shift) % len(images.class_names)
    return replace(images, labels=labels), wrong


def with_twins(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, Tensor]:
    """Replace round(share·N) samples by near-copies of others, as a camera that stands still takes.

    A copy has its source's label, another brightness and noise. The sources are a tenth of the
    samples, drawn at random, so at a share of one half each has five copies on average.

    Returns:
        The set, and the indices of the samples that are copies now, in rising order.

    Raises:
        DataError: images that are read from files one by one, or a share that leaves no source.
    """
    count = round(share * len(images))
    if not count:
        return images, torch.empty(0, dtype=torch.int64)
    if not isinstance(images.images, Tensor):
        raise DataError("DATA.TWINS needs images that fit in DATA.MEMORY_MB; raise it")
    sources = max(round(SOURCES * len(images)), 1)
    if count + sources > len(images):
        raise DataError(
            f"DATA.TWINS {share:g} of {len(images)} images leaves too few to be copied; lower it"
        )
    rng = _generator(seed, TWINS)
    order = rng.permutation(len(images))
    copies = np.sort(order[:count])
    origin = torch.from_numpy(rng.choice(order[count : count + sources], count))
    bright = 1.0 + BRIGHTNESS * rng.normal(size=(count, 1, 1, 1))
    noise = NOISE * rng.normal(size=(count, *images.images.shape[1:]))
    pixels, labels = images.images.clone(), images.labels.clone()
    twins = np.clip(np.rint(bright * pixels[origin].numpy() + noise), 0, 255).astype(np.uint8)
    pixels[copies], labels[copies] = torch.from_numpy(twins), labels[origin]
    # What a file's bytes say no longer holds of any image, so digests are of the pixels.
    return replace(images, images=pixels, labels=labels, contents=None), torch.from_numpy(copies)
