"""What a configuration leaves to the data: its schedule in epochs, and anchors from the boxes.

Shape letters: N training images, B images of a batch, n boxes, k anchors, L feature levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.structures import BoxMode

from ...errors import DataError
from ...settings import set_value
from ..modeling.anchors import cluster, mean_best_iou
from ..modeling.yolo_loss import STRIDES
from .lazy import is_lazy
from .schedule import fit_schedule

#: Clustering more boxes takes longer and gives the same anchors.
_MOST_BOXES = 5000
#: How many strides of its level the side of an anchor spans: on a coarser grid most objects fall
#: between anchors, on a finer one there are many more than needed and few see the object whole.
_SPAN = (2, 16)
_RPN_DETECTORS = ("GeneralizedRCNN", "ProposalNetwork", "PanopticFPN")


class Proposal(NamedTuple):
    """Anchors for a configuration.

    Attributes:
        settings: dotted key → the value to give it.
        iou: mean over the boxes of the IoU with their best anchor, both centred on one point.
        iou_before: the same with the configuration's anchors.
        boxes: how many boxes there are.
    """

    settings: dict[str, Any]
    iou: float
    iou_before: float
    boxes: int


def fit_to_data(cfg: CfgNode, dicts: Sequence[dict[str, Any]], processes: int = 1) -> list[str]:
    """Set in ``cfg``, in place, what it leaves to the training data.

    With ADAPRUNER.EPOCHS above 0 that is the schedule: SOLVER.IMS_PER_BATCH gives way to a small N,
    and SOLVER.BASE_LR with it in proportion; SOLVER.MAX_ITER follows, SOLVER.STEPS keep their
    places between its beginning and its end, SOLVER.WARMUP_ITERS and CHECKPOINT_PERIOD are at most
    a tenth of it. With ADAPRUNER.WARMUP_EPOCHS -1 half of the epochs are warm-up. With
    ADAPRUNER.AUTO_ANCHORS it is the anchors, see :func:`propose_anchors`.

    Afterwards EPOCHS is 0 and AUTO_ANCHORS is False, so that a second call changes nothing and a
    configuration that is written down says the numbers.

    Args:
        cfg: the configuration, not frozen.
        dicts: Detectron2's dict of each training image.
        processes: how many share a batch; B is a multiple of it.

    Returns:
        Lines that say what was set.

    Raises:
        DataError: no images, a LazyConfig, and what :func:`propose_anchors` raises.
    """
    node = cfg.ADAPRUNER
    for key in ("EPOCHS", "AUTO_ANCHORS"):
        if node[key] and is_lazy(cfg):
            raise DataError(
                f"ADAPRUNER.{key} cannot change what the LazyConfig {node.LAZY_CONFIG} builds; "
                "leave it out and say the numbers there"
            )
    lines = []
    if node.EPOCHS or node.WARMUP_EPOCHS < 0:
        lines += fit_schedule(cfg, len(dicts), processes)
    if node.AUTO_ANCHORS:
        found = propose_anchors(cfg, dicts)
        for key, value in found.settings.items():
            set_value(cfg, key, value)
        node.AUTO_ANCHORS = False
        lines.append(
            f"Anchors from {found.boxes} boxes, mean IoU with the best one {found.iou:.2f} "
            f"({found.iou_before:.2f} with those of the configuration): "
            + ", ".join(f"{key} {value}" for key, value in found.settings.items())
        )
    return lines


def propose_anchors(
    cfg: CfgNode, dicts: Sequence[dict[str, Any]], count: int | None = None
) -> Proposal:
    """Anchors that fit the boxes of ``dicts`` as large as the network of ``cfg`` sees them.

    YOLOv3Tiny: as many (w, h) as MODEL.YOLO.ANCHORS has, by k-means at MODEL.YOLO.INPUT_SIZE.
    Those of two coarse cells a side and more predict at stride 32, the others at stride 16, and
    each level has at least one.

    Detectors with an RPN, and RetinaNet: MODEL.ANCHOR_GENERATOR.SIZES, as many a level as there
    are, by k-means on the square root of the boxes' areas within the bounds of what a level can
    predict, and as many ASPECT_RATIOS, by k-means on the shapes at equal area; the boxes are taken
    at every size in INPUT.MIN_SIZE_TRAIN.

    Boxes are clipped to their image; crowd boxes and those without area do not count, as in
    Detectron2's mapper. Cropping is not taken into account.

    Args:
        cfg: the configuration.
        dicts: Detectron2's dict of each training image.
        count: how many anchors (YOLOv3Tiny) or ratios (others); None for as many as ``cfg`` has.

    Raises:
        DataError: no boxes, or a detector whose anchors are not known here.
    """
    boxes = _box_shapes(dicts)
    if not len(boxes):
        raise DataError(
            f"there is no box in the {len(dicts)} training images to compute anchors from; check "
            "the annotations, or set ADAPRUNER.AUTO_ANCHORS False"
        )
    fit, present, resize = _scheme(cfg)
    few = boxes
    if len(boxes) > _MOST_BOXES:
        few = boxes[np.random.default_rng(0).choice(len(boxes), _MOST_BOXES, replace=False)]
    shapes = resize(cfg, few)
    before = present(cfg)
    settings = fit(cfg, shapes, count)
    after = cfg.clone()
    after.defrost()
    for key, value in settings.items():
        set_value(after, key, value)
    return Proposal(
        settings,
        mean_best_iou(shapes, present(after)),
        mean_best_iou(shapes, before),
        len(boxes),
    )


def _box_shapes(dicts: Sequence[dict[str, Any]]) -> np.ndarray:
    """(n, 4) width and height of each box within its image, and of the image, in pixels."""
    by_mode: dict[BoxMode, tuple[list[Any], list[tuple[float, float]]]] = {}
    for sample in dicts:
        annotations = [a for a in sample.get("annotations", ()) if not a.get("iscrowd", 0)]
        if not annotations:
            continue
        if not (sample.get("width") and sample.get("height")):
            raise DataError(
                f"{sample.get('file_name', 'an image')} has no width and height in its data set, "
                "which anchors need; give both, or set ADAPRUNER.AUTO_ANCHORS False"
            )
        size = (sample["width"], sample["height"])
        for annotation in annotations:
            if "bbox" in annotation:
                boxes, sizes = by_mode.setdefault(BoxMode(annotation["bbox_mode"]), ([], []))
                boxes.append(annotation["bbox"])
                sizes.append(size)
    found = [np.empty((0, 4))]
    for mode, (boxes, sizes) in by_mode.items():
        try:
            corners = BoxMode.convert(np.array(boxes, dtype=float), mode, BoxMode.XYXY_ABS)
        except (ValueError, TypeError, AssertionError, NotImplementedError) as error:
            raise DataError(
                f"boxes of the mode {mode.name} cannot be measured for anchors: {error}; mend the "
                "data set, or set ADAPRUNER.AUTO_ANCHORS False"
            ) from error
        image = np.array(sizes, dtype=float)
        clipped = corners.clip(0, np.tile(image, 2))
        found.append(np.concatenate([clipped[:, 2:] - clipped[:, :2], image], 1))
    shapes = np.concatenate(found)
    return shapes[(shapes > 0).all(1)]  # NaN is not above 0 either


_Fit = Callable[[CfgNode, np.ndarray, "int | None"], dict[str, Any]]
_Present = Callable[[CfgNode], np.ndarray]
_Resize = Callable[[CfgNode, np.ndarray], np.ndarray]


def _scheme(cfg: CfgNode) -> tuple[_Fit, _Present, _Resize]:
    """How the detector of ``cfg`` takes anchors: (fit, the present ones, boxes at its input)."""
    name = cfg.MODEL.META_ARCHITECTURE
    if file := cfg.ADAPRUNER.LAZY_CONFIG:  # cfg.MODEL says nothing of what it builds
        raise DataError(f"the anchors of the LazyConfig {file} are not known here; give a yaml")
    if name == "YOLOv3Tiny":
        return _fit_yolo, _yolo_anchors, _letterboxed
    rpn = name in _RPN_DETECTORS and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN"
    generator = cfg.MODEL.ANCHOR_GENERATOR.NAME
    if (rpn or name == "RetinaNet") and generator == "DefaultAnchorGenerator":
        return _fit_grid, _grid_anchors, _resized
    raise DataError(
        f"ADAPRUNER.AUTO_ANCHORS knows the anchors of YOLOv3Tiny, of RetinaNet and of an RPN with "
        f"the DefaultAnchorGenerator, not those of {name} with {generator}; set it False"
    )


def _letterboxed(cfg: CfgNode, boxes: np.ndarray) -> np.ndarray:
    """(n, 2) shapes as YOLOv3Tiny puts images into a square of INPUT_SIZE."""
    image = boxes[:, 2:]
    side = (image * (cfg.MODEL.YOLO.INPUT_SIZE / image.max(1, keepdims=True))).round().clip(1)
    return boxes[:, :2] * side / image


def _yolo_anchors(cfg: CfgNode) -> np.ndarray:
    return np.array(cfg.MODEL.YOLO.ANCHORS, dtype=float).reshape(-1, 2)


def _fit_yolo(cfg: CfgNode, shapes: np.ndarray, count: int | None) -> dict[str, Any]:
    k = max(len(STRIDES), count or len(cfg.MODEL.YOLO.ANCHORS))
    anchors = cluster(shapes, k).round(1).clip(1)
    fine = int((np.sqrt(anchors.prod(1)) < _SPAN[0] * STRIDES[0]).sum())
    fine = min(max(fine, 1), k - 1)
    return {
        "MODEL.YOLO.ANCHORS": anchors.tolist(),
        "MODEL.YOLO.ANCHOR_MASKS": [list(range(fine, k)), list(range(fine))],
    }


def _resized(cfg: CfgNode, boxes: np.ndarray) -> np.ndarray:
    """(n · sizes, 2) shapes as Detectron2's ResizeShortestEdge makes them in training."""
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    sizes = [sizes] if isinstance(sizes, int) else sizes
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        sizes = np.linspace(min(sizes), max(sizes), 5)
    image = boxes[:, 2:]
    found = []
    for size in sizes:
        scale = size / image.min(1) if size else np.ones(len(image))
        if size:
            scale = np.minimum(scale, cfg.INPUT.MAX_SIZE_TRAIN / image.max(1))
        found.append(boxes[:, :2] * scale[:, None])
    return np.concatenate(found)


def _lists(value: Sequence[Any]) -> list[list[float]]:
    """Detectron2 takes one list for all levels, or a list of lists."""
    return [list(v) for v in value] if isinstance(value[0], (list, tuple)) else [list(value)]


def _grid_anchors(cfg: CfgNode) -> np.ndarray:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    sizes, ratios = _lists(generator.SIZES), _lists(generator.ASPECT_RATIOS)
    levels = max(len(sizes), len(ratios))
    sizes, ratios = (v * levels if len(v) == 1 else v for v in (sizes, ratios))
    return np.array(
        [
            (size / math.sqrt(ratio), size * math.sqrt(ratio))
            for own_sizes, own_ratios in zip(sizes, ratios, strict=True)
            for size in own_sizes
            for ratio in own_ratios
        ]
    )


def _fit_grid(cfg: CfgNode, shapes: np.ndarray, count: int | None) -> dict[str, Any]:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    strides = _strides(cfg)
    per_level = len(_lists(generator.SIZES)[0])
    area = shapes.prod(1, keepdims=True)
    k = len(strides) * per_level
    sides = cluster(np.sqrt(area).repeat(2, 1), k, _bounds(strides, per_level))[:, 0]
    sizes = sides.round(1).clip(1).reshape(len(strides), per_level)
    return {
        "MODEL.ANCHOR_GENERATOR.SIZES": sizes.tolist(),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [
            _ratios(shapes / np.sqrt(area), count or len(_lists(generator.ASPECT_RATIOS)[0]))
        ],
    }


def _ratios(shapes: np.ndarray, k: int) -> list[float]:
    """``k`` heights over widths of ``shapes`` (n, 2) of equal area, rising. Where fewer differ,
    the rest are twice and half of these."""
    ratios = [round(float(h / w), 2) for w, h in cluster(shapes, k)]
    ratios = sorted({max(ratio, 0.01) for ratio in ratios})
    low, high = ratios[0], ratios[-1]
    for i in range(k - len(ratios)):
        low, high = (low, high * 2) if i % 2 else (low / 2, high)
        ratios.append(round(high if i % 2 else low, 3))
    return sorted(ratios)


def _bounds(strides: Sequence[int], per_level: int) -> np.ndarray:
    """(L · per_level, 2) the smallest and the largest size of each anchor, see ``_SPAN``. The
    finest level takes all that is smaller, the coarsest all that is larger."""
    step = 2 ** (np.arange(per_level) / per_level)
    least = [_SPAN[0] * stride * step for stride in strides]
    most = [_SPAN[1] * stride * step / step[-1] for stride in strides]
    least[0], most[-1] = np.zeros(per_level), np.full(per_level, np.inf)
    return np.stack([np.concatenate(least), np.concatenate(most)], 1)


def _strides(cfg: CfgNode) -> list[int]:
    """The stride of each level that predicts from anchors, as the backbone of ``cfg`` says."""
    retina = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    names = cfg.MODEL.RETINANET.IN_FEATURES if retina else cfg.MODEL.RPN.IN_FEATURES
    with torch.random.fork_rng(devices=[]):  # building draws weights
        shapes = build_backbone(cfg).output_shape()
    missing = [name for name in names if name not in shapes]
    if missing:
        raise DataError(
            f"the backbone {cfg.MODEL.BACKBONE.NAME} has no feature {missing[0]!r} to put anchors "
            f"on; it has {', '.join(shapes)}"
        )
    return [shapes[name].stride for name in names]
