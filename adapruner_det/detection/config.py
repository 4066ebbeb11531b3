"""The cfg.ADAPRUNER node, and what a configuration needs before it is used."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode as CN

from ..devices import found_device
from .modeling import add_yolo_config

logger = logging.getLogger(__name__)


def add_adapruner_config(cfg: CN) -> None:
    """Add what this project configures: ``cfg.ADAPRUNER``, ``cfg.MODEL.YOLO``, ``...DARKNET``.

    Call it before ``cfg.merge_from_file``.
    """
    add_yolo_config(cfg)
    node = cfg.ADAPRUNER = CN()
    # The part of the training images that stays, in (0, 1].
    node.KEEP_RATIO = 0.9
    # Epochs in which every image counts fully and the mask stands still. The epochs that
    # SOLVER.MAX_ITER leaves after them are the pruning epochs. -1: half of the epochs.
    node.WARMUP_EPOCHS = 2
    # Length of a run in epochs. Above 0, SOLVER.MAX_ITER, STEPS, WARMUP_ITERS and
    # CHECKPOINT_PERIOD follow from it and from the number of images, and IMS_PER_BATCH gives way
    # to a small number; 0: they count as they stand. See fit.py.
    node.EPOCHS = 0
    # Compute the anchors of the detector from the boxes of the training images.
    node.AUTO_ANCHORS = False
    # α of the first and the last pruning epoch; it rises uniformly.
    node.ALPHA_START = 0.1
    node.ALPHA_END = 5.0
    # "dual" holds the ratio with a Lagrange multiplier, "paper" is λ = s·|r − c_r|.
    node.CONTROLLER = "dual"
    # s of the paper's controller.
    node.PAPER_SCALE = 100.0
    # "median" divides losses by their running median before log L; "none" does not.
    node.NORMALIZE = "median"
    # Take that median over images with about as many objects: a detector's loss grows with them.
    node.NORMALIZE_BY_OBJECTS = True
    # What decides who goes: "paper" is the published objective; "inclusion" gives each image a
    # chance and draws by it, and knows near-copies and faults of single boxes (docs/method.md).
    node.OBJECTIVE = "paper"
    # The end to drop in place of the objective's own order: "easy", "hard", "both", "faults" or
    # "twins"; "auto" finds out on held-out training images which is best, if any, by some 25
    # trainings more. tools/cut.py --drop does it afterwards.
    node.DROP = ""
    # Keep the kept share of every class within this band of KEEP_RATIO, 0.05 being 5 points; 0
    # leaves the classes to the losses.
    node.CLASS_BAND = 0.0
    # The terms of the objective (the paper's Table 5); all are on in normal use.
    node.CLASSIFICATION_LOSS = True
    node.SELECTION_LOSS = True
    node.COMPRESSION_LOSS = True
    # Folders in the VOC layout to register: "name=path:split", a relative path being relative
    # to $DETECTRON2_DATASETS. VOC_CLASSES names their classes; empty: those in the data.
    node.VOC_FOLDERS = []
    node.VOC_CLASSES = []
    # Annotation files in COCO's format to register: "name=annotations.json:images", paths as above.
    node.COCO_SETS = []
    # A sample that cannot be used (an image that does not decode, say): "stop" refuses the run,
    # "skip" leaves the sample out, says so and records it in the selection.
    node.ON_BAD_SAMPLE = "stop"
    # The LazyConfig file that the configuration stands for, SHA-256 of its text, and its
    # overrides. Loading one sets them.
    node.LAZY_CONFIG = ""
    node.LAZY_DIGEST = ""
    node.LAZY_OVERRIDES = []


def resolve_device(cfg: CN) -> None:
    """Fall back to the CPU, with one log line, where ``cfg`` asks for a GPU and there is none.

    Mixed precision, which Detectron2 has on GPUs alone, goes with it.

    Raises:
        DataError: the number of a GPU that is not there, where others are.
    """
    found = found_device(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    if found != cfg.MODEL.DEVICE:  # or a frozen configuration would refuse it
        cfg.MODEL.DEVICE = found
    if cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED:
        logger.info("SOLVER.AMP.ENABLED is False: Detectron2 has no mixed precision on a CPU.")
        cfg.SOLVER.AMP.ENABLED = False


def leaves_to_data(cfg: CN) -> bool:
    """Whether ``cfg`` leaves something to the training data that :func:`fit.fit_to_data` sets."""
    node = cfg.ADAPRUNER
    return bool(node.EPOCHS or node.AUTO_ANCHORS or node.WARMUP_EPOCHS < 0)
