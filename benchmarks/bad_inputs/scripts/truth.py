"""The AP of the truth itself on the kept part of a COCO set, in a process that read nothing before.

truth.py SELECTION NAME=ANNOTATIONS:IMAGES...      prints "AP of the truth: 100.0"
"""

import sys

import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from adapruner_det import add_adapruner_config, register_selection

add_adapruner_config(get_cfg())
for entry in sys.argv[2:]:
    name, _, place = entry.partition("=")
    annotations, _, images = place.partition(":")
    register_coco_instances(name, {}, annotations, images)
for name in register_selection(sys.argv[1]):
    classes = MetadataCatalog.get(name).get("thing_classes")
    evaluator = COCOEvaluator(name, tasks=("bbox",), output_dir="truth", use_fast_impl=False)
    evaluator.reset()
    for sample in DatasetCatalog.get(name):
        own = [a for a in sample["annotations"] if not a.get("iscrowd")]
        found = Instances((sample["height"], sample["width"]))
        corners = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in own]
        found.pred_boxes = Boxes(torch.tensor(corners).reshape(-1, 4))
        found.scores = torch.ones(len(own))
        found.pred_classes = torch.tensor([a["category_id"] for a in own])
        evaluator.process([sample], [{"instances": found}])
    print(f"{name} classes: {classes}")
    print(f"AP of the truth: {evaluator.evaluate()['bbox']['AP']:.1f}")
