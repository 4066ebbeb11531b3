"""What tests of checked sets share: a selection of some, and what their own boxes evaluate to."""

import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from adapruner_det.detection.data.evaluators import build_evaluator
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.methods.random import random_selection
from tests.detection.toy import toy_cfg


def evaluate_truth(name, folder):
    """AP of the data set's own boxes as detections, in percent; crowds are no detections."""
    return truth_found(name, folder)[1]


def truth_found(name, folder=""):
    """The evaluator of the data set beside that."""
    evaluator = build_evaluator(get_cfg(), name, str(folder) or f"{name}-out")
    evaluator.reset()
    for sample in DatasetCatalog.get(name):
        own = [a for a in sample["annotations"] if not a.get("iscrowd")]
        found = Instances((sample["height"], sample["width"]))
        boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in own]
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.ones(len(own))
        found.pred_classes = torch.tensor([a["category_id"] for a in own], dtype=torch.int64)
        evaluator.process([sample], [{"instances": found}])
    return evaluator, evaluator.evaluate()["bbox"]["AP"]


def without(field):
    """What takes a field out of each annotation of a COCO file."""
    return lambda data: [row.pop(field) for row in data["annotations"]]


def select(*names, keep_ratio=0.5, on_bad="stop"):
    """A selection of data sets, as a run would leave one."""
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", names, "ADAPRUNER.ON_BAD_SAMPLE", on_bad)
    index = SampleIndex.from_config(cfg)
    found = random_selection(index.samples, keep_ratio, seed=0)
    return found.__class__(**{**vars(found), "excluded": index.excluded})
