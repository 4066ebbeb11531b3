"""What a classification run is configured by: every default, and how a yaml is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode

from ..devices import found_device
from ..errors import DataError
from ..overrides import checked_overrides
from ..settings import (
    INVALID,
    PRUNER_CHOICES,
    PRUNER_RANGES,
    SEEDS,
    Range,
    check_settings,
    check_yaml,
    leaves,
)
from .data import SOURCES
from .models import NAMES as MODELS
from .models import short

#: The ablations of the paper's Tables 4 and 5: name → the override that makes it.
ABLATIONS = {
    "warmup": ("ADAPRUNER.WARMUP_EPOCHS", 0),
    "classification": ("ADAPRUNER.CLASSIFICATION_LOSS", False),
    "selection": ("ADAPRUNER.SELECTION_LOSS", False),
    "compression": ("ADAPRUNER.COMPRESSION_LOSS", False),
}

#: Dotted key → where its number must lie; every number of :func:`get_config` is here.
RANGES = {
    "DATA.SIZE": Range(1, 4096),
    "DATA.NUM_TRAIN": Range(0),
    "DATA.WRONG_LABELS": Range(0, 0.99),
    "DATA.TWINS": Range(0, 0.9),
    "DATA.SHRINK": Range(1, 64),
    "DATA.HOLDOUT": Range(0, 0.99),
    "DATA.SEED": SEEDS,
    "DATA.MEMORY_MB": Range(0),
    "DATA.WORKERS": Range(0, 256),
    "AUGMENT.CROP": Range(0, 1024),
    "AUGMENT.CUTOUT": Range(0, 4096),
    "MODEL.WIDTH": Range(1, 4096),
    "SOLVER.EPOCHS": Range(1),
    "SOLVER.BATCH_SIZE": Range(2),
    "SOLVER.LR": Range(0),
    "SOLVER.MOMENTUM": Range(0, 1, below=True),
    "SOLVER.WEIGHT_DECAY": Range(0),
    "SOLVER.CHECKPOINT_PERIOD": Range(0),
    **PRUNER_RANGES,
    "SEED": SEEDS,
}

#: Dotted key → the words it may be.
CHOICES = {
    "DATA.NAME": tuple(SOURCES),
    "DATA.GREY": ("refuse", "convert"),
    "MODEL.NAME": MODELS,
    "MODEL.STEM": ("cifar", "imagenet"),
    **PRUNER_CHOICES,
}


def get_config() -> CfgNode:
    """The defaults, which are the paper's where it gives one."""
    cfg = CfgNode()

    data = cfg.DATA = CfgNode()
    # digits, mnist, fashion_mnist, cifar10, cifar100, tiny_imagenet, folder or packed.
    data.NAME = "digits"
    # Where the data lie; digits needs nothing.
    data.ROOT = "datasets"
    # Fetch what is missing, with a check of its checksum (not for digits, folder, packed).
    data.DOWNLOAD = False
    # Side to which the images of a folder are resized.
    data.SIZE = 64
    # A grey image among colour ones is an error ("refuse") or made RGB ("convert").
    data.GREY = "refuse"
    # So many training images, drawn by DATA.SEED; 0 takes all.
    data.NUM_TRAIN = 0
    # The share of training labels that are replaced by a wrong one, drawn by DATA.SEED.
    data.WRONG_LABELS = 0.0
    # The share of training images that are replaced by near-copies of others, likewise.
    data.TWINS = 0.0
    # Images that lie in memory are made smaller by this factor, by the means of blocks.
    data.SHRINK = 1
    # The share of the training set that is split off and evaluated on in place of the test set:
    # hyper-parameters are chosen there.
    data.HOLDOUT = 0.0
    # Of the draws above. Not the run's seed: all seeds of a comparison see the same data.
    data.SEED = 0
    # Images decoded from files stay in memory up to this size; above it they are read in batches.
    data.MEMORY_MB = 4096
    # Processes that decode what does not fit.
    data.WORKERS = 4

    augment = cfg.AUGMENT = CfgNode()
    # Zeros around the image of which a crop of the original size is taken; 0 turns cropping off.
    augment.CROP = 4
    augment.FLIP = True
    # Side of the square that Cutout blanks; 0 turns it off.
    augment.CUTOUT = 0

    model = cfg.MODEL = CfgNode()
    # small, resnet18, resnet50 or wide_resnet50_2.
    model.NAME = "resnet18"
    # Channels of the small CNN's first layer.
    model.WIDTH = 16
    # A ResNet's stem: "cifar", 3×3 with stride 1, or "imagenet", 7×7 with stride 2 and pooling.
    model.STEM = "cifar"
    # torchvision's ImageNet weights (ResNets); the head starts anew, and a cifar stem does.
    model.PRETRAINED = False
    # A model.pt of an earlier run to start from; a head of another size starts anew.
    model.WEIGHTS = ""

    solver = cfg.SOLVER = CfgNode()
    solver.EPOCHS = 200
    solver.BATCH_SIZE = 256
    # SGD; the learning rate falls to 0 along a cosine, step by step.
    solver.LR = 0.1
    solver.MOMENTUM = 0.9
    solver.WEIGHT_DECAY = 5e-4
    solver.AMP = False  # bf16 autocast
    solver.CHANNELS_LAST = True
    solver.COMPILE = False  # torch.compile
    # Steps between checkpoints; 0: at every epoch's end.
    solver.CHECKPOINT_PERIOD = 0

    pruner = cfg.ADAPRUNER = CfgNode()
    # The part of the training images that stays, in (0, 1].
    pruner.KEEP_RATIO = 0.9
    # Epochs in which every image counts fully and the mask stands still (paper: not given).
    pruner.WARMUP_EPOCHS = 20
    pruner.ALPHA_START = 0.1
    pruner.ALPHA_END = 5.0
    # "dual" holds the ratio with a Lagrange multiplier, "paper" is λ = s·|r − c_r|.
    pruner.CONTROLLER = "dual"
    pruner.PAPER_SCALE = 100.0
    # Keep the kept share of every class within this band of KEEP_RATIO, 0.05 being 5 points; 0
    # leaves the classes to the losses.
    pruner.CLASS_BAND = 0.0
    # "none": a cross-entropy has a scale of its own, and 1 is a meaningful loss.
    pruner.NORMALIZE = "none"
    # What decides who goes: "paper" is the published objective; "inclusion" gives each image a
    # chance and draws by it, knows near-copies and wrong labels (docs/core.md).
    pruner.OBJECTIVE = "paper"
    # The end to drop in place of the objective's own order: "easy", "hard", "both", "faults" or
    # "twins"; "auto" finds out on held-out training images which is best, if any, by some 25
    # trainings more. tools/cut.py --drop does it afterwards.
    pruner.DROP = ""
    pruner.CLASSIFICATION_LOSS = True
    pruner.SELECTION_LOSS = True
    pruner.COMPRESSION_LOSS = True
    # What image files that cannot be used do: "stop", or "skip", which leaves them out and says so.
    pruner.ON_BAD_SAMPLE = "stop"

    # cpu, cuda or cuda:<number>.
    cfg.DEVICE = "cuda"
    cfg.SEED = 0
    cfg.OUTPUT_DIR = "output/classification"
    return cfg


def load_config(config_file: str = "", overrides: Sequence[str] = ()) -> CfgNode:
    """The defaults, the yaml (with its ``_BASE_``), then ``KEY VALUE`` overrides.

    Raises:
        DataError: a file or a key that is not there, or a value of the wrong type or range.
    """
    cfg = get_config()
    pairs = checked_overrides(cfg, overrides)
    if config_file:
        check_yaml(config_file)
    try:
        if config_file:
            cfg.merge_from_file(config_file, allow_unsafe=False)
        cfg.merge_from_list(pairs)
    except INVALID as error:
        raise DataError(
            f"the configuration {config_file or '(none)'} with {list(overrides)} is not valid: "
            f"{short(error)}; overrides are pairs of KEY VALUE with keys that "
            "adapruner_det/classification/config.py has"
        ) from error
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Raise a DataError where a value is out of its range."""
    defaults = dict(leaves(get_config()))
    for key, value in leaves(cfg):
        if type(value) is not type(defaults.get(key, value)):
            kind = type(defaults[key]).__name__
            raise DataError(f"{key} is {value}; it must be of the type {kind}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise DataError(f"{key} is an integer of more than 64 bits; it must be below 2^63")
        if isinstance(value, str) and "\0" in value:
            raise DataError(f"{key} is {value!r}; it must have no null character")
    check_settings(cfg, RANGES, CHOICES)
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", cfg.DEVICE, re.ASCII):
        raise DataError(f"DEVICE is {cfg.DEVICE!r}; it must be cpu, cuda or cuda:<number>")
    if not cfg.OUTPUT_DIR.strip():
        raise DataError("OUTPUT_DIR is empty; it must name a folder")
    if cfg.ADAPRUNER.CLASS_BAND and cfg.ADAPRUNER.CONTROLLER != "dual":
        raise DataError(
            f"ADAPRUNER.CLASS_BAND {cfg.ADAPRUNER.CLASS_BAND:g} needs ADAPRUNER.CONTROLLER dual, "
            f"which is {cfg.ADAPRUNER.CONTROLLER!r}"
        )
    if cfg.MODEL.PRETRAINED and cfg.MODEL.NAME == "small":
        raise DataError("MODEL.PRETRAINED is for ResNets; MODEL.NAME 'small' has no such weights")


def ablate(cfg: CfgNode, name: str) -> None:
    """Leave out one part of the method, of :data:`ABLATIONS`."""
    cfg.merge_from_list(list(ABLATIONS[name]))


def resolve_device(cfg: CfgNode) -> torch.device:
    """``cfg.DEVICE``, or the CPU with one log line where it asks for a GPU that is not there.

    Raises:
        DataError: the number of a GPU that is not there, where others are.
    """
    return torch.device(found_device(cfg.DEVICE, "DEVICE"))
