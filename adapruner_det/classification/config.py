"""What a classification run is configured by: every default, and how a yaml is read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from yaml import YAMLError

from ..errors import DataError
from ..selection import check_keep_ratio

logger = logging.getLogger(__name__)

#: The ablations of the paper's Tables 4 and 5: name → the override that makes it.
ABLATIONS = {
    "warmup": ("ADAPRUNER.WARMUP_EPOCHS", 0),
    "classification": ("ADAPRUNER.CLASSIFICATION_LOSS", False),
    "selection": ("ADAPRUNER.SELECTION_LOSS", False),
    "compression": ("ADAPRUNER.COMPRESSION_LOSS", False),
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
    # "none": a cross-entropy has a scale of its own, and 1 is a meaningful loss.
    pruner.NORMALIZE = "none"
    pruner.CLASSIFICATION_LOSS = True
    pruner.SELECTION_LOSS = True
    pruner.COMPRESSION_LOSS = True

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
    if config_file and not Path(config_file).is_file():
        raise DataError(f"there is no configuration file {Path(config_file).absolute()}")
    try:
        if config_file:
            cfg.merge_from_file(config_file)
        cfg.merge_from_list(list(overrides))
    except (KeyError, ValueError, AssertionError, YAMLError, OSError) as error:
        raise DataError(
            f"the configuration {config_file or '(none)'} with {list(overrides)} is not valid: "
            f"{error}; overrides are pairs of KEY VALUE with keys that "
            "adapruner_det/classification/config.py has"
        ) from error
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Raise a DataError where a value is out of its range."""
    check_keep_ratio(cfg.ADAPRUNER.KEEP_RATIO)
    ranges = [
        ("SOLVER.EPOCHS", cfg.SOLVER.EPOCHS, 1, None),
        ("SOLVER.BATCH_SIZE", cfg.SOLVER.BATCH_SIZE, 2, None),
        ("DATA.NUM_TRAIN", cfg.DATA.NUM_TRAIN, 0, None),
        ("DATA.WRONG_LABELS", cfg.DATA.WRONG_LABELS, 0, 0.99),
        ("DATA.HOLDOUT", cfg.DATA.HOLDOUT, 0, 0.99),
        ("AUGMENT.CROP", cfg.AUGMENT.CROP, 0, None),
        ("AUGMENT.CUTOUT", cfg.AUGMENT.CUTOUT, 0, None),
        ("ADAPRUNER.WARMUP_EPOCHS", cfg.ADAPRUNER.WARMUP_EPOCHS, 0, None),
    ]
    for name, value, low, high in ranges:
        if value < low or (high is not None and value > high):
            bounds = f"{low} or more" if high is None else f"{low} to {high}"
            raise DataError(f"{name} is {value}; it must be {bounds}")
    for name, value, choices in (
        ("ADAPRUNER.CONTROLLER", cfg.ADAPRUNER.CONTROLLER, ("dual", "paper")),
        ("ADAPRUNER.NORMALIZE", cfg.ADAPRUNER.NORMALIZE, ("median", "none")),
        ("MODEL.STEM", cfg.MODEL.STEM, ("cifar", "imagenet")),
        ("DATA.GREY", cfg.DATA.GREY, ("refuse", "convert")),
    ):
        if value not in choices:
            raise DataError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def ablate(cfg: CfgNode, name: str) -> None:
    """Leave out one part of the method, of :data:`ABLATIONS`."""
    cfg.merge_from_list(list(ABLATIONS[name]))


def resolve_device(cfg: CfgNode) -> torch.device:
    """``cfg.DEVICE``, or the CPU with one log line where it asks for a GPU that is not there."""
    if cfg.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("No GPU found: DEVICE is 'cpu' in place of %r.", cfg.DEVICE)
        return torch.device("cpu")
    return torch.device(cfg.DEVICE)


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 of the configuration, without where its output goes. Hexadecimal."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = ""
    return hashlib.sha256(cfg.dump(sort_keys=True).encode()).hexdigest()
