"""Detectron2's losses, taken apart by image: one file a head, all registered through one door."""

from . import fast_rcnn, fcos, keypoint, mask, retinanet, rpn, sem_seg  # noqa: F401
from .source import APART, OFFERED, SERIAL, LossSource
from .sums import image_of_each, sum_by_image
from .table import check_per_image, put_together, register_head, take_apart, unhandled

__all__ = [
    "APART",
    "OFFERED",
    "SERIAL",
    "LossSource",
    "check_per_image",
    "image_of_each",
    "put_together",
    "register_head",
    "sum_by_image",
    "take_apart",
    "unhandled",
]
