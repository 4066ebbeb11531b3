"""YOLOv3-Tiny (Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018) for Detectron2.

Shape letters: B images, C classes, S the side of the square network input in pixels, A anchors of
one level, M predictions of one image (every level, anchor and cell), G ground truths of the whole
batch. Boxes are (x0, y0, x1, y1) in pixels of the network input.

Frames. The mapper hands over an image of any shape. The model scales it so that its longer side is
S and puts it into the upper left corner of a square whose rest is the pixel mean, which is where
Detectron2 pads too; ground truths are scaled with it, and detections go back by Detectron2's own
`detector_postprocess`. Scaling lives here and not in the mapper since all images of a step must
share one S. In training S is drawn per step from MODEL.YOLO.MULTISCALE by torch's global CPU
generator, so it follows from the random state that a checkpoint can hold; everywhere else it is
MODEL.YOLO.INPUT_SIZE. INPUT.MIN_SIZE_TRAIN (0,) and MIN_SIZE_TEST 0 spare a second resizing.

Anchors are in pixels of the network input and are never rescaled, as in darknet: at a larger S the
same object is larger and may belong to a larger anchor. Who trains at an INPUT_SIZE far from 416
should give anchors for it: the default ones times INPUT_SIZE / 416, or, better, those that
ADAPRUNER.AUTO_ANCHORS computes from the boxes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ...errors import DataError
from ..evidence import Predictions, show
from .darknet import conv_norm_leaky, scale_channels
from .yolo_loss import STRIDES, Layout, decode, make_layout, yolo_losses


def add_yolo_config(cfg: CfgNode) -> None:
    """Adds cfg.MODEL.YOLO and cfg.MODEL.DARKNET with their defaults, in place."""
    cfg.MODEL.DARKNET = CfgNode()
    # Multiplies the channels of the backbone and of the head behind it.
    cfg.MODEL.DARKNET.WIDTH = 1.0
    cfg.MODEL.DARKNET.NORM = "BN"

    yolo = cfg.MODEL.YOLO = CfgNode()
    yolo.NUM_CLASSES = 20
    yolo.NORM = "BN"
    # Side of the square input in pixels, a multiple of 32.
    yolo.INPUT_SIZE = 416
    # (smallest, largest, step) of the sides drawn in training; empty: always INPUT_SIZE.
    yolo.MULTISCALE = [320, 608, 32]
    # (width, height) in pixels of the network input.
    yolo.ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
    # Which anchors predict at stride 32, and which at stride 16.
    yolo.ANCHOR_MASKS = [[3, 4, 5], [0, 1, 2]]
    # A prediction that overlaps a ground truth by more than this is never called background.
    yolo.IGNORE_THRESH = 0.7
    # Objectness that every prediction starts with.
    yolo.PRIOR_PROB = 0.01
    # Factors of the box, the objectness and the class loss.
    yolo.LOSS_WEIGHTS = CfgNode({"BOX": 1.0, "OBJ": 1.0, "CLS": 1.0})
    yolo.SCORE_THRESH_TEST = 0.005
    yolo.NMS_THRESH_TEST = 0.45
    yolo.TOPK_CANDIDATES_TEST = 1000


class YOLOv3TinyHead(nn.Module):
    """Predictions at stride 32, and at stride 16 from the finer feature joined with the coarser.

    Args:
        channels: of the features of stride 32 and 16.
        outputs: A·(5 + C) of the two levels.
        width: multiplies the channels of the hidden layers (256, 512; 128, 256).
        norm: the name of a norm, see `detectron2.layers.get_norm`.
    """

    def __init__(
        self, channels: tuple[int, ...], outputs: tuple[int, ...], width: float, norm: str
    ) -> None:
        super().__init__()
        c128, c256, c512 = (scale_channels(c, width) for c in (128, 256, 512))
        self.neck = conv_norm_leaky(channels[0], c256, 1, norm)
        self.coarse = conv_norm_leaky(c256, c512, 3, norm)
        self.coarse_out = nn.Conv2d(c512, outputs[0], 1)
        self.lateral = conv_norm_leaky(c256, c128, 1, norm)
        self.fine = conv_norm_leaky(c128 + channels[1], c256, 3, norm)
        self.fine_out = nn.Conv2d(c256, outputs[1], 1)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features of stride 32 and 16, (B, channels, S/stride, S/stride), to predictions
        (B, A·(5 + C), S/stride, S/stride) in the same order."""
        neck = self.neck(features[0])
        up = F.interpolate(self.lateral(neck), scale_factor=2, mode="nearest")
        fine = self.fine(torch.cat([up, features[1]], 1))
        return [self.coarse_out(self.coarse(neck)), self.fine_out(fine)]


@META_ARCH_REGISTRY.register()
class YOLOv3Tiny(DenseDetector):
    """See the module's docstring for frames and anchors, and :func:`yolo_losses` for the loss.

    Any backbone with one feature of stride 16 and one of stride 32 will do.
    """

    shows_predictions = True

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        anchors: list[list[float]],
        anchor_masks: list[list[int]],
        input_size: int,
        train_sizes: list[int],
        pixel_mean: list[float],
        pixel_std: list[float],
        norm: str = "BN",
        width: float = 1.0,
        prior_prob: float = 0.01,
        loss_weights: dict[str, float] | None = None,
        ignore_thresh: float = 0.7,
        score_thresh: float = 0.005,
        nms_thresh: float = 0.45,
        topk_candidates: int = 1000,
        max_detections: int = 100,
    ) -> None:
        """
        Args:
            anchors: (w, h) pairs in pixels of the network input.
            anchor_masks: the indices of the anchors at stride 32, and of those at stride 16.
            input_size: S outside of training.
            train_sizes: the S to draw from in training; empty for `input_size` alone.
            width: multiplies the hidden channels of the head.
            prior_prob: the objectness that training starts from.
            loss_weights: factors of "box", "obj" and "cls"; 1 where not given.
        """
        _check_anchors(anchors, anchor_masks)
        _check_sizes([input_size, *train_sizes])
        if not 0 < prior_prob < 1:
            raise ValueError(f"MODEL.YOLO.PRIOR_PROB is {prior_prob}; give one inside (0, 1)")
        names, shapes = _features_by_stride(backbone)
        outputs = tuple(len(mask) * (5 + num_classes) for mask in anchor_masks)
        head = YOLOv3TinyHead(tuple(s.channels for s in shapes), outputs, width, norm)
        super().__init__(backbone, head, names, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), False)
        self.num_classes = num_classes
        self.anchor_masks = [list(mask) for mask in anchor_masks]
        self.input_size = input_size
        self.train_sizes = list(train_sizes)
        self.loss_weights = {"box": 1.0, "obj": 1.0, "cls": 1.0, **(loss_weights or {})}
        self.ignore_thresh = ignore_thresh
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.topk_candidates = topk_candidates
        self.max_detections = max_detections
        self._init_outputs(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        yolo = cfg.MODEL.YOLO
        require_known_anchors(cfg)
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "num_classes": yolo.NUM_CLASSES,
            "anchors": yolo.ANCHORS,
            "anchor_masks": yolo.ANCHOR_MASKS,
            "input_size": yolo.INPUT_SIZE,
            "train_sizes": multiscale_sizes(yolo.MULTISCALE),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "norm": yolo.NORM,
            # A slim darknet gets an equally slim head.
            "width": getattr(backbone, "width", 1.0),
            "prior_prob": yolo.PRIOR_PROB,
            "loss_weights": {k.lower(): v for k, v in yolo.LOSS_WEIGHTS.items()},
            "ignore_thresh": yolo.IGNORE_THRESH,
            "score_thresh": yolo.SCORE_THRESH_TEST,
            "nms_thresh": yolo.NMS_THRESH_TEST,
            "topk_candidates": yolo.TOPK_CANDIDATES_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def _init_outputs(self, prior_prob: float) -> None:
        for conv in (self.head.coarse_out, self.head.fine_out):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
            with torch.no_grad():
                conv.bias.view(-1, 5 + self.num_classes)[:, 4] = math.log(
                    prior_prob / (1 - prior_prob)
                )

    def forward(
        self, batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Detectron2's convention: in training the means over the batch of
        :meth:`losses_per_image`, otherwise one {"instances": Instances} per image, in the frame of
        its "height" and "width", or of its "image" where it has none."""
        if self.training:
            return {k: v.mean() for k, v in self.losses_per_image(batched_inputs).items()}
        given = [
            {"height": x["image"].shape[1], "width": x["image"].shape[2], **x}
            for x in batched_inputs
        ]
        return super().forward(given)

    def losses_per_image(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """ "loss_yolo_box", "loss_yolo_obj" and "loss_yolo_cls", (B,) each and at least float32, in
        the order of `batched_inputs`.

        Images without ground truth are welcome. An image's losses depend on its batch-mates only
        through batch norm in training mode. Boxes without area are left out, as Detectron2's own
        mapper does.

        Raises:
            ValueError: an input lacks "instances", or has a class that the model does not know.
        """
        boxes, classes, image = self._ground_truth(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        predictions = self.head([features[name] for name in self.head_in_features])
        size = images.tensor.shape[-1]
        pred, layout = self._flatten(predictions, size)
        factors = _scale_factors(batched_inputs, images).to(boxes)
        show(lambda: self._predictions(pred, layout, factors))
        boxes = boxes * factors[image]
        losses = yolo_losses(
            pred, layout, self.anchors, boxes, classes, image, size, self.ignore_thresh
        )
        return {f"loss_yolo_{k}": self.loss_weights[k] * v for k, v in losses.items()}

    def _predictions(self, pred: Tensor, layout: Layout, factors: Tensor) -> Predictions:
        """What ``pred`` (B, M, 5 + C) says, in pixels of the given images."""
        scores = pred[..., 4:5].sigmoid() * pred[..., 5:].sigmoid()
        return Predictions(decode(pred[..., :4], layout) / factors[:, None], scores)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalised images (B, channels, S, S) in the upper left corner of their square;
        `image_sizes` says how much of it (height, width) each one covers."""
        size = self._draw_size()
        first = batched_inputs[0]["image"]
        square = self.anchors.new_zeros(len(batched_inputs), len(first), size, size)
        # Halves the time of a training step on a CPU; convolutions hand the format on.
        square = square.contiguous(memory_format=torch.channels_last)
        covered = []
        for canvas, x in zip(square, batched_inputs, strict=True):
            image = (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std
            h, w = image.shape[1:]
            shape = tuple(max(1, round(side * size / max(h, w))) for side in (h, w))
            if shape != (h, w):
                image = F.interpolate(image[None], shape, mode="bilinear", antialias=True)[0]
            canvas[:, : shape[0], : shape[1]] = image
            covered.append(shape)
        return ImageList(square, covered)

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[Tensor]
    ) -> list[Instances]:
        """Detections of every image in pixels of the network input, best first."""
        pred, layout = self._flatten(predictions, images.tensor.shape[-1])
        boxes = decode(pred[..., :4], layout)
        scores = pred[..., 4:5].sigmoid() * pred[..., 5:].sigmoid()
        return [
            self._detections(b, s, image_size)
            for b, s, image_size in zip(boxes, scores, images.image_sizes, strict=True)
        ]

    def _detections(self, boxes: Tensor, scores: Tensor, image_size: tuple[int, int]) -> Instances:
        """From boxes (M, 4) and scores (M, C) of one image to what survives NMS."""
        position, category = (scores > self.score_thresh).nonzero(as_tuple=True)
        best, order = scores[position, category].sort(descending=True, stable=True)
        best, order = best[: self.topk_candidates], order[: self.topk_candidates]
        boxes, category = boxes[position[order]], category[order]
        keep = batched_nms(boxes, best, category, self.nms_thresh)[: self.max_detections]
        return Instances(
            image_size,
            pred_boxes=Boxes(boxes[keep]),
            scores=best[keep],
            pred_classes=category[keep],
        )

    def _draw_size(self) -> int:
        if not (self.training and self.train_sizes):
            return self.input_size
        return self.train_sizes[int(torch.randint(len(self.train_sizes), ()))]

    def _flatten(self, predictions: list[Tensor], size: int) -> tuple[Tensor, Layout]:
        """The head's maps as (B, M, 5 + C), in at least float32, and their layout."""
        fields = 5 + self.num_classes
        maps = [p.unflatten(1, (-1, fields)).flatten(3).transpose(2, 3) for p in predictions]
        pred = torch.cat([m.flatten(1, 2) for m in maps], 1)
        # Under autocast the head gives half precision, which is too coarse for boxes and sums.
        pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
        return pred, make_layout(self.anchors, self.anchor_masks, size)

    def _ground_truth(self, batched_inputs: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (G, 4) in pixels of the given images, classes (G,) and images' places (G,)."""
        if any("instances" not in x for x in batched_inputs):
            raise ValueError(
                "YOLOv3Tiny needs ground truth for its losses, and an input has no 'instances'; "
                "use a DatasetMapper with is_train=True, or model.eval() to detect"
            )
        instances = [x["instances"] for x in batched_inputs]
        boxes = torch.cat([i.gt_boxes.tensor for i in instances])
        classes = torch.cat([i.gt_classes for i in instances])
        image = torch.arange(len(instances)).repeat_interleave(
            torch.tensor([len(i) for i in instances])
        )
        if len(classes) and not 0 <= classes.min() <= classes.max() < self.num_classes:
            raise ValueError(
                f"ground-truth classes run from {int(classes.min())} to {int(classes.max())}, but "
                f"the model has {self.num_classes}; set MODEL.YOLO.NUM_CLASSES to the data's"
            )
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return (
            boxes[solid].to(self.anchors),
            classes[solid].to(self.device),
            image.to(boxes.device)[solid].to(self.device),
        )


def require_known_anchors(cfg: CfgNode) -> None:
    """Raise a DataError where ``cfg`` leaves the anchors to the training data.

    Weights that were trained with anchors from there detect nonsense with others.
    """
    if "ADAPRUNER" in cfg and cfg.ADAPRUNER.AUTO_ANCHORS:
        raise DataError(
            "the anchors are to be computed from the training data (ADAPRUNER.AUTO_ANCHORS), which "
            "only training does; to use trained weights give --config-file the config.yaml in the "
            "OUTPUT_DIR of their run, which says them"
        )


def _scale_factors(batched_inputs: list[dict[str, Any]], images: ImageList) -> Tensor:
    """(B, 4) from given x0, y0, x1, y1 to those of the network input."""
    factors = []
    for x, (height, width) in zip(batched_inputs, images.image_sizes, strict=True):
        sx, sy = width / x["image"].shape[2], height / x["image"].shape[1]
        factors.append([sx, sy, sx, sy])
    return torch.tensor(factors, dtype=torch.float64)


def multiscale_sizes(multiscale: list[int]) -> list[int]:
    """(smallest, largest, step) to all sides from smallest to largest; empty to none."""
    if not multiscale:
        return []
    if len(multiscale) != 3 or multiscale[2] <= 0 or multiscale[0] > multiscale[1]:
        raise ValueError(
            f"MODEL.YOLO.MULTISCALE is {list(multiscale)}; give (smallest, largest, step), such as "
            "[320, 608, 32], or [] for INPUT_SIZE alone"
        )
    smallest, largest, step = multiscale
    return list(range(smallest, largest + 1, step))


def _check_sizes(sizes: list[int]) -> None:
    wrong = [s for s in sizes if s <= 0 or s % STRIDES[0]]
    if wrong:
        raise ValueError(
            f"MODEL.YOLO input sizes {wrong} are not multiples of {STRIDES[0]}; "
            "change INPUT_SIZE or MULTISCALE"
        )


def _check_anchors(anchors: list[list[float]], masks: list[list[int]]) -> None:
    if any(len(anchor) != 2 or min(anchor) <= 0 for anchor in anchors):
        raise ValueError(f"MODEL.YOLO.ANCHORS is {anchors}; give (width, height) pairs above 0")
    named = sorted(index for mask in masks for index in mask)
    if len(masks) != len(STRIDES) or named != list(range(len(anchors))):
        raise ValueError(
            f"MODEL.YOLO.ANCHOR_MASKS is {masks}; give one list for stride 32 and one for stride "
            f"16 that together name each of 0 to {len(anchors) - 1} once"
        )


def _features_by_stride(backbone: Backbone) -> tuple[list[str], list[ShapeSpec]]:
    shapes = backbone.output_shape()
    names = sorted(shapes, key=lambda name: -shapes[name].stride)
    if tuple(shapes[name].stride for name in names) != STRIDES:
        found = {name: shape.stride for name, shape in shapes.items()}
        raise ValueError(
            f"YOLOv3Tiny needs a backbone with features of strides 32 and 16, not {found}; "
            "for a ResNet set MODEL.RESNETS.OUT_FEATURES to [res4, res5]"
        )
    return names, [shapes[name] for name in names]
