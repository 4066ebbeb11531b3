"""From ``cfg.DATA`` to a training and a test set."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torchvision
from fvcore.common.config import CfgNode
from sklearn.datasets import load_digits

from ..errors import DataError
from .folder import load_folder
from .image_set import ImageSet, draw, from_arrays, shrunk, split_off
from .packed import load_packed
from .planted import with_twins, with_wrong_labels
from .tiny_imagenet import NAME as TINY_IMAGENET
from .tiny_imagenet import load_tiny_imagenet

TORCHVISION = {
    "mnist": torchvision.datasets.MNIST,
    "fashion_mnist": torchvision.datasets.FashionMNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}

#: Whose images lie in files of their own.
IN_FILES = ("tiny_imagenet", "folder")

#: What torchvision raises for files that are missing, torn or something else.
UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError),
    *(AssertionError, AttributeError, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class Data:
    """What a run reads.

    Attributes:
        train: the training set.
        test: what is evaluated on: the test set, or what DATA.HOLDOUT split off from training.
        wrong: (W,) indices of the training samples whose label was made wrong, in rising order.
        twins: (W,) indices of those that were made near-copies of others, likewise.
    """

    train: ImageSet
    test: ImageSet
    wrong: torch.Tensor
    twins: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def load_data(cfg: CfgNode) -> Data:
    """Read the data set that ``cfg.DATA`` names and draw from it what it asks for.

    Raises:
        DataError: data that are missing, damaged or unfit, with what is wrong and its cure.
    """
    node = cfg.DATA
    if node.NAME not in SOURCES:
        raise DataError(f"DATA.NAME is {node.NAME!r}; it must be one of {', '.join(SOURCES)}")
    train, test = _read(cfg)
    _require_alike(train, test)
    if node.NUM_TRAIN > len(train):
        raise DataError(
            f"DATA.NUM_TRAIN is {node.NUM_TRAIN}, but {train.name} has {len(train)} images"
        )
    if node.NUM_TRAIN:
        train = train.subset(draw(len(train), node.NUM_TRAIN, node.SEED))
        train = train.checked(f"raise DATA.NUM_TRAIN, which is {node.NUM_TRAIN}")
    if node.HOLDOUT:
        train, test = split_off(train, node.HOLDOUT, node.SEED)
        train = train.checked(f"lower DATA.HOLDOUT, which is {node.HOLDOUT:g}")
    train, test = shrunk(train, node.SHRINK), shrunk(test, node.SHRINK)
    train, twins = with_twins(train, node.TWINS, node.SEED)
    train, wrong = with_wrong_labels(train, node.WRONG_LABELS, node.SEED)
    return Data(train.checked(), test, wrong, twins)


def load_files(cfg: CfgNode) -> Data:
    """:func:`load_data` for what shows or copies files: images in files stay there as they are.

    None is decoded for good or made smaller, which changes neither their keys nor their digests.

    Raises:
        DataError: what :func:`load_data` raises, or copies of DATA.TWINS in place of files.
    """
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.DATA.NAME in IN_FILES:
        if cfg.DATA.TWINS:
            raise DataError(
                "DATA.TWINS makes images that are in no file; of them --format csv alone can be "
                "written"
            )
        cfg.DATA.MEMORY_MB, cfg.DATA.SHRINK = 0, 1
    return load_data(cfg)


def _read(cfg: CfgNode) -> tuple[ImageSet, ImageSet]:
    """The whole training and test set; what the system refuses to read is a DataError."""
    try:
        return SOURCES[cfg.DATA.NAME](cfg)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # met while unpacking
            raise
        raise DataError(
            f"{error.filename or cfg.DATA.ROOT} cannot be read: {error.strerror or error}; "
            "see to DATA.ROOT"
        ) from error


def _require_alike(train: ImageSet, test: ImageSet) -> None:
    """Raise a DataError unless one model can be trained on one and evaluated on the other."""
    if len(train.class_names) < 2:
        raise DataError(
            f"{train.name} has one class, {train.class_names[0]}; a classifier needs two or more"
        )
    shapes = [tuple(images.images.shape[1:]) for images in (train, test)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"the images of {train.name} have the shape {shapes[0]} (channels, height, width), "
            f"those of {test.name} {shapes[1]}; they must agree"
        )


def _digits(cfg: CfgNode) -> tuple[ImageSet, ImageSet]:
    """scikit-learn's 1,797 digits, 8×8; every fifth is for testing."""
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    is_test = np.arange(len(images)) % 5 == 4
    names = [str(name) for name in bunch.target_names]
    train = from_arrays("digits_train", images[~is_test], bunch.target[~is_test], names)
    test = from_arrays("digits_test", images[is_test], bunch.target[is_test], names)
    return train.checked(), test.checked()


def _torchvision(cfg: CfgNode) -> tuple[ImageSet, ImageSet]:
    """One of torchvision's, with its checksums."""
    node = cfg.DATA
    sets = []
    for split in ("train", "test"):
        try:
            found = TORCHVISION[node.NAME](node.ROOT, split == "train", download=node.DOWNLOAD)
        except UNREADABLE as error:
            cure = (
                "fetching it failed: see to the network, or put its files there by hand"
                if node.DOWNLOAD
                else "DATA.DOWNLOAD True fetches it, and DATA.NAME digits needs no download"
            )
            raise DataError(f"{node.NAME} is not whole in {node.ROOT}: {error}; {cure}") from error
        images, labels = np.asarray(found.data), np.asarray(found.targets)
        sets.append(from_arrays(f"{node.NAME}_{split}", images, labels, found.classes).checked())
    return sets[0], sets[1]


SOURCES: dict[str, Callable[[CfgNode], tuple[ImageSet, ImageSet]]] = {
    "digits": _digits,
    **dict.fromkeys(TORCHVISION, _torchvision),
    "tiny_imagenet": lambda cfg: load_tiny_imagenet(
        cfg.DATA.ROOT,
        download=cfg.DATA.DOWNLOAD,
        memory_mb=cfg.DATA.MEMORY_MB,
        workers=cfg.DATA.WORKERS,
        on_bad=cfg.ADAPRUNER.ON_BAD_SAMPLE,
    ),
    "folder": lambda cfg: load_folder(
        cfg.DATA.ROOT,
        cfg.DATA.SIZE,
        grey=cfg.DATA.GREY,
        memory_mb=cfg.DATA.MEMORY_MB,
        workers=cfg.DATA.WORKERS,
        on_bad=cfg.ADAPRUNER.ON_BAD_SAMPLE,
    ),
    "packed": lambda cfg: load_packed(cfg.DATA.ROOT),
}

#: What the training sets of all sources are called.
TRAIN_SETS = frozenset(f"{name}_train" for name in (*SOURCES, TINY_IMAGENET))
