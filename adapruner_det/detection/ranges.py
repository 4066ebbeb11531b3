"""Where the numbers of a detection configuration must lie, and the words that it may have."""

from __future__ import annotations

import math

import torch
from detectron2.config import CfgNode

from ..errors import DataError
from ..settings import PRUNER_CHOICES, PRUNER_RANGES, Range, check_settings, leaves

_COUNT = Range(1)  # at least one
_NUMBER = Range(0)  # none is possible
_SHARE = Range(0, 1)
_POSITIVE = Range(0, math.inf, above=True)

#: Dotted key → the interval of its number, or of each number in its list.
RANGES = {
    **PRUNER_RANGES,
    "ADAPRUNER.WARMUP_EPOCHS": Range(-1),  # half of the epochs
    "ADAPRUNER.EPOCHS": _NUMBER,
    "SEED": Range(-1, 2**32 - 1),
    "SOLVER.IMS_PER_BATCH": _COUNT,
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.BASE_LR_END": _NUMBER,
    "SOLVER.MOMENTUM": Range(0, 1, below=True),
    "SOLVER.WEIGHT_DECAY": _NUMBER,
    "SOLVER.WEIGHT_DECAY_NORM": _NUMBER,
    "SOLVER.WEIGHT_DECAY_BIAS": Range(0, unset=True),
    "SOLVER.BIAS_LR_FACTOR": _NUMBER,
    "SOLVER.GAMMA": _POSITIVE,
    "SOLVER.STEPS": _NUMBER,
    "SOLVER.NUM_DECAYS": _NUMBER,
    "SOLVER.WARMUP_FACTOR": _SHARE,
    "SOLVER.WARMUP_ITERS": _NUMBER,
    "SOLVER.CHECKPOINT_PERIOD": _COUNT,
    "SOLVER.REFERENCE_WORLD_SIZE": _NUMBER,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _POSITIVE,
    "TEST.EVAL_PERIOD": _NUMBER,
    "TEST.DETECTIONS_PER_IMAGE": _COUNT,
    "DATALOADER.NUM_WORKERS": _NUMBER,
    "DATALOADER.REPEAT_THRESHOLD": _NUMBER,
    "DATALOADER.RANDOM_SUBSET_RATIO": Range(0, 1, above=True),
    "INPUT.MIN_SIZE_TRAIN": _NUMBER,
    "INPUT.MAX_SIZE_TRAIN": _COUNT,
    "INPUT.MIN_SIZE_TEST": _NUMBER,
    "INPUT.MAX_SIZE_TEST": _COUNT,
    "INPUT.CROP.SIZE": _POSITIVE,
    "MODEL.PIXEL_STD": _POSITIVE,
    "MODEL.ROI_HEADS.NUM_CLASSES": _COUNT,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.IOU_THRESHOLDS": _SHARE,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _COUNT,
    "MODEL.RETINANET.NUM_CLASSES": _COUNT,
    "MODEL.RETINANET.PRIOR_PROB": Range(0, 1, above=True, below=True),
    "MODEL.ANCHOR_GENERATOR.SIZES": _POSITIVE,
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": _POSITIVE,
    "MODEL.RESNETS.DEPTH": _COUNT,
    "MODEL.BACKBONE.FREEZE_AT": _NUMBER,
    "MODEL.DARKNET.WIDTH": _POSITIVE,
    "MODEL.YOLO.NUM_CLASSES": _COUNT,
    "MODEL.YOLO.ANCHORS": _POSITIVE,
    "MODEL.YOLO.ANCHOR_MASKS": _NUMBER,
    "MODEL.YOLO.INPUT_SIZE": _COUNT,
    "MODEL.YOLO.MULTISCALE": _COUNT,
    "MODEL.YOLO.IGNORE_THRESH": _SHARE,
    "MODEL.YOLO.PRIOR_PROB": Range(0, 1, above=True, below=True),
    "MODEL.YOLO.LOSS_WEIGHTS.BOX": _NUMBER,
    "MODEL.YOLO.LOSS_WEIGHTS.OBJ": _NUMBER,
    "MODEL.YOLO.LOSS_WEIGHTS.CLS": _NUMBER,
    "MODEL.YOLO.TOPK_CANDIDATES_TEST": _COUNT,
    "MODEL.YOLO.SCORE_THRESH_TEST": _SHARE,
    "MODEL.YOLO.NMS_THRESH_TEST": _SHARE,
}

#: Dotted key → the words it may be.
CHOICES = {
    **PRUNER_CHOICES,
    "INPUT.FORMAT": ("BGR", "RGB", "L", "YUV-BT.601"),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
}


_NAMED = ("DATASETS.TRAIN", "DATASETS.TEST")

#: Detectron2's detectors that need proposals.
_WITH_PROPOSALS = ("GeneralizedRCNN", "ProposalNetwork", "PanopticFPN")

#: Lists that are read before anything else looks at them. A yaml's key without a value is None.
LISTS = (
    *(*_NAMED, "MODEL.PIXEL_MEAN"),
    *("ADAPRUNER.VOC_FOLDERS", "ADAPRUNER.VOC_CLASSES", "ADAPRUNER.COCO_SETS"),
)


def check_ranges(cfg: CfgNode) -> None:
    """Raise a DataError for the first value of ``cfg`` that cannot be meant."""
    check_settings(cfg, RANGES, CHOICES)
    _require_lists(cfg)
    if cfg.ADAPRUNER.ALPHA_END < cfg.ADAPRUNER.ALPHA_START:
        raise DataError(
            f"ADAPRUNER.ALPHA_END is {cfg.ADAPRUNER.ALPHA_END}, below ALPHA_START "
            f"{cfg.ADAPRUNER.ALPHA_START}; α rises"
        )
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            raise DataError(
                f"MODEL.{key} is {cfg.MODEL[key]}; INPUT.FORMAT {cfg.INPUT.FORMAT} has {channels} "
                "channel(s)"
            )
    if cfg.MODEL.LOAD_PROPOSALS:
        raise DataError(
            "MODEL.LOAD_PROPOSALS is True; proposals from files are not read here: set it to "
            "False and let a MODEL.PROPOSAL_GENERATOR make them"
        )
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals" and cfg.MODEL.META_ARCHITECTURE in _WITH_PROPOSALS:
        raise DataError(
            f"MODEL.PROPOSAL_GENERATOR.NAME is {name!r}, which makes no proposals, and those from "
            "files are not read here: set it to 'RPN', or another that makes some"
        )
    if not cfg.INPUT.MIN_SIZE_TRAIN:
        raise DataError("INPUT.MIN_SIZE_TRAIN is empty; name at least one size, or (0,)")
    try:
        torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; it must be cpu, cuda or cuda:<number>"
        ) from error
    if not cfg.OUTPUT_DIR or "\0" in cfg.OUTPUT_DIR:
        raise DataError(f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}; name a folder")


def _require_lists(cfg: CfgNode) -> None:
    """Raise a DataError for a list that is None, or one of data sets with what is no name."""
    for key, value in leaves(cfg):
        if key in LISTS and value is None:
            raise DataError(f"{key} is None; it must be a list; leave it out for the default")
        strange = [own for own in value if not isinstance(own, str)] if key in _NAMED else []
        if strange:
            raise DataError(
                f"{key} lists {strange[0]!r}, which is no name of a data set; write "
                f"{key} \"('name',)\""
            )
