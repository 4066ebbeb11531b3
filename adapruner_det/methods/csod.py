"""CSOD: images whose objects stand for their classes, and are not what is there already.

Lee et al. 2024, *Coreset Selection for Object Detection*. Shape letters: N samples, M boxes of all
samples, P pairs of an image and a class in it, n of them of one class, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import BOX_FEATURES, Choice, Evidence, register
from .shared import class_of_each_box, finite_features, places, sample_of_each_box, unit

#: λ: how much it counts that an image is like all of its class.
LAMBDA = 0.05


@register("csod", needs=(BOX_FEATURES,))
def csod(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep what a greedy choice takes first, the classes in turn.

    p_ic is the mean feature of the boxes of class c in image i. The next image of class c is the
    one that raises a graph cut most, which is submodular:

        λ · Σ over all j of class c of cos(p_ic, p_jc) − Σ over the chosen j of cos(p_ic, p_jc)

    An image that is taken counts as chosen in all of its classes. A class of which all images are
    taken is passed over. Images without boxes come last, in an order drawn by the seed. Features
    are the trained model's. Costs O(N·n·D).
    """
    features = finite_features(evidence, "csod", BOX_FEATURES)
    sample, classes = sample_of_each_box(evidence.samples), class_of_each_box(evidence.samples)
    order = greedy_order(features, sample, classes)
    bare = np.flatnonzero(evidence.samples.sizes == 0)
    drawn = np.random.default_rng(evidence.seed).permutation(bare)
    return Choice(places(np.concatenate([order, drawn])))


@dataclass
class _Class:
    """The images of a class: their indices (n,), vectors (n, D), Σ cos to all and to the chosen."""

    images: np.ndarray
    vectors: np.ndarray
    to_all: np.ndarray
    to_chosen: np.ndarray


def greedy_order(features: np.ndarray, sample: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The images that have boxes, as they are taken, int64.

    Args:
        features: (M, D) of each box.
        sample: (M,) the image that each is in, not falling.
        classes: (M,) of each.
    """
    parts = [_class(features[classes == c], sample[classes == c]) for c in np.unique(classes)]
    left = set(np.unique(sample).tolist())
    taken = np.zeros(int(sample.max(initial=-1)) + 1, dtype=bool)
    order: list[int] = []
    while left:
        for part in parts:
            gain = np.where(taken[part.images], -np.inf, LAMBDA * part.to_all - part.to_chosen)
            best = int(np.argmax(gain))
            if gain[best] == -np.inf:
                continue
            image = int(part.images[best])
            order.append(image)
            left.remove(image)
            taken[image] = True
            for other in parts:
                place = int(np.searchsorted(other.images, image))
                if place < len(other.images) and other.images[place] == image:
                    other.to_chosen += other.vectors @ other.vectors[place]
    return np.array(order, dtype=np.int64)


def _class(features: np.ndarray, sample: np.ndarray) -> _Class:
    images, own = np.unique(sample, return_inverse=True)
    total = np.zeros((len(images), features.shape[1]))  # float64, as M features would not fit
    np.add.at(total, own, features)
    vectors = unit(total)  # of a sum as of a mean
    return _Class(images, vectors, vectors @ vectors.sum(axis=0), np.zeros(len(images)))
