#!/usr/bin/env python3
"""Print the anchors that fit the boxes of the training images, to be pasted into a yaml.

    tools/anchors.py --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']" DATASETS.TRAIN "('my_train',)"

They are those that a run with ADAPRUNER.AUTO_ANCHORS True takes. The comment lines say how well
they meet the boxes, and how well another number of them would; at an IoU of 1 each box
is an anchor.
"""

import argparse

import yaml

from adapruner_det.detection.data.samples import SampleIndex, require_datasets
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.training.fit import propose_anchors
from adapruner_det.errors import reported


def main(config_file: str, overrides: list[str]) -> None:
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
    tree: dict = {}
    for key, value in {**found.settings, "ADAPRUNER.AUTO_ANCHORS": False}.items():
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    print(yaml.safe_dump(tree, default_flow_style=None, sort_keys=False), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a yaml with a detector")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    args = parser.parse_args()
    with reported():
        main(args.config_file, args.opts)
