"""Print the anchors that fit the boxes of the training images.

    adapruner anchors --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']" DATASETS.TRAIN "('my_train',)"

What is printed is to be pasted into a yaml: the anchors that a run with ADAPRUNER.AUTO_ANCHORS True
takes. The comment lines say how well they meet the boxes, and how well another number of them
would; at an IoU of 1 each box is an anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ..detection.data.samples import SampleIndex, require_datasets
from ..detection.setup import load_config
from ..detection.training.fit import propose_anchors
from ..detection.training.lazy import named_as_in
from ..errors import reported
from .arguments import config_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and print the yaml."""
    args = config_parser("anchors.py", __doc__).parse_args(argv)
    with reported(), named_as_in(args.config_file):
        print_anchors(args.config_file, args.opts)


def print_anchors(config_file: str, overrides: Sequence[str]) -> None:
    """Print the anchors that fit the training set of a configuration."""
    cfg = load_config(config_file, overrides)
    require_datasets(cfg.DATASETS.TRAIN)
    dicts = SampleIndex.from_config(cfg).dicts
    found = propose_anchors(cfg, dicts)
    print(f"# {found.boxes} boxes in {len(dicts)} images; mean IoU of a box with its best anchor:")
    print(f"# {found.iou:.3f} with these, {found.iou_before:.3f} with those of the configuration;")
    yolo = cfg.MODEL.META_ARCHITECTURE == "YOLOv3Tiny"
    for count in range(2, 10) if yolo else range(1, 6):
        iou = propose_anchors(cfg, dicts, count).iou
        print(f"# {iou:.3f} with {count} {'anchors' if yolo else 'aspect ratio(s)'}")
    tree = nested({**found.settings, "ADAPRUNER.AUTO_ANCHORS": False})
    print(yaml.safe_dump(tree, default_flow_style=None, sort_keys=False), end="")


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Keys with dots → the tree that a yaml has."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
