"""What tests of checked sets share: a selection of some, and what their own boxes evaluate to."""

import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from adapruner_det.detection.data.evaluators import build_evaluator
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.methods.random import random_selection
from tests.detection.toy import toy_cfg


def evaluate_truth(name, folder):
    """AP of the data set's own boxes as detections, in percent; crowds are no detections."""
    evaluator = build_evaluator(toy_cfg("yolo_darknet", folder), name, str(folder))
    evaluator.reset()
    for sample in DatasetCatalog.get(name):
        own = [a for a in sample["annotations"] if not a.get("iscrowd")]
        found = Instances((sample["height"], sample["width"]))
        corners = [_corners(a) for a in own]
        found.pred_boxes = Boxes(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.ones(len(own))
        found.pred_classes = torch.tensor([a["category_id"] for a in own], dtype=torch.int64)
        evaluator.process([sample], [{"instances": found}])
    return evaluator.evaluate()["bbox"]["AP"]


def _corners(annotation_):
    x, y, width, height = annotation_["bbox"]
    return [x, y, x + width, y + height] if annotation_["bbox_mode"] == 1 else [x, y, width, height]


def select(*names, keep_ratio=0.5, on_bad="stop"):
    """A selection of data sets, as a run would leave one."""
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", names, "ADAPRUNER.ON_BAD_SAMPLE", on_bad)
    index = SampleIndex.from_config(cfg)
    found = random_selection(index.samples, keep_ratio, seed=0)
    return found.__class__(**{**vars(found), "excluded": index.excluded})
