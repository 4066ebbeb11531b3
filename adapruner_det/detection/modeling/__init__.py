"""Detectors that Detectron2 lacks; importing this package puts them into its registries."""

from .darknet import DarknetTiny, build_darknet_tiny_backbone
from .yolov3_tiny import YOLOv3Tiny, YOLOv3TinyHead, add_yolo_config, require_known_anchors

__all__ = [
    "DarknetTiny",
    "YOLOv3Tiny",
    "YOLOv3TinyHead",
    "add_yolo_config",
    "build_darknet_tiny_backbone",
    "require_known_anchors",
]
