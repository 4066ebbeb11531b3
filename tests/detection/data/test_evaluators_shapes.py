"""Evaluations of masks and keypoints that pycocotools has no form of, or none at all."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.detection.data.evaluators import (
    COCODictsEvaluator,
    COCOFileEvaluator,
    build_evaluator,
)

from ..coco_writer import content, write_coco
from .truth import truth_found, without


def test_masks_as_arrays_are_evaluated_as_polygons_of_the_same_are(tmp_path, monkeypatch):
    """Detectron2 trains on them, and cannot write them into its file."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:14, 5:25] = True
    own = {"bbox": [5, 4, 20, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    own |= {"segmentation": mask, "iscrowd": 0}
    sample = {"file_name": "a.png", "image_id": 1, "height": 20, "width": 30, "annotations": [own]}
    DatasetCatalog.register("masked", lambda: [sample])
    MetadataCatalog.get("masked").set(thing_classes=["cat"], evaluator_type="coco")
    evaluator = build_evaluator(get_cfg(), "masked", str(tmp_path))
    assert own["segmentation"] is mask
    evaluator.reset()
    found = Instances((20, 30), pred_boxes=Boxes(torch.tensor([[5.0, 4.0, 25.0, 14.0]])))
    found.scores, found.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    found.pred_masks = torch.as_tensor(mask)[None]
    evaluator.process([sample], [{"instances": found}])
    results = evaluator.evaluate()
    for kind in ("bbox", "segm"):
        assert results[kind]["AP"] == pytest.approx(100), kind


def shaped(data, masks=False):
    """Masks or keypoints for all objects of a COCO file."""
    for own in data["annotations"]:
        x, y, w, h = own["bbox"]
        if masks:
            own["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        else:
            own |= {"keypoints": [x, y, 2, x + 9, y, 2, x, y + 9, 0], "num_keypoints": 2}


def a_crowd(*missing):
    def change(data):
        own = data["annotations"].pop()
        own |= {"iscrowd": 1}
        data["annotations"].insert(0, {k: v for k, v in own.items() if k not in missing})

    return change


def a_line(data):
    data["annotations"][0]["segmentation"].insert(0, [1, 2, 3, 4])


SHAPES = {
    "keypoints": ("keypoints", lambda data: None, COCOFileEvaluator),
    "keypoints that are not counted": ("keypoints", without("num_keypoints"), COCODictsEvaluator),
    "a crowd without keypoints": (
        "keypoints",
        a_crowd("keypoints", "num_keypoints"),
        COCODictsEvaluator,
    ),
    "masks": ("segm", lambda data: None, COCOFileEvaluator),
    "a crowd without a mask": ("segm", a_crowd("segmentation"), COCODictsEvaluator),
    "a polygon of two corners": ("segm", a_line, COCODictsEvaluator),
}


@pytest.mark.parametrize("name", SHAPES)
def test_masks_and_keypoints_that_pycocotools_has_none_of_are_evaluated(
    tmp_path, monkeypatch, name
):
    kind, change, evaluator_type = SHAPES[name]
    monkeypatch.chdir(tmp_path)
    data = content(3)
    shaped(data, masks=kind == "segm")
    change(data)
    register_coco_set("shaped", *write_coco(tmp_path, data))
    cfg = get_cfg()
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1] * 3
    evaluator = build_evaluator(cfg, "shaped", str(tmp_path))
    assert type(evaluator) is evaluator_type
    evaluator.reset()
    for sample in DatasetCatalog.get("shaped"):
        own = [a for a in sample["annotations"] if not a["iscrowd"]]
        corners = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in own]
        found = Instances((48, 64), pred_boxes=Boxes(torch.tensor(corners).float()))
        found.scores = torch.ones(len(own))
        found.pred_classes = torch.tensor([a["category_id"] for a in own])
        if kind == "segm":
            found.pred_masks = torch.zeros(len(own), 48, 64, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(found.pred_masks, corners, strict=True):
                mask[y0:y1, x0:x1] = True
        else:
            points = torch.tensor([a["keypoints"] for a in own]).float()
            found.pred_keypoints = points.reshape(-1, 3, 3)
        evaluator.process([sample], [{"instances": found}])
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results[kind]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("value", [None, ()])
@pytest.mark.parametrize("name", ["segmentation", "keypoints"])
def test_a_reader_s_own_masks_and_keypoints_are_taken_as_they_are_trained_on(
    tmp_path, monkeypatch, name, value
):
    """Detectron2 writes lists alone into its file."""
    monkeypatch.chdir(tmp_path)
    own = {"bbox": [5, 4, 20, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, name: value}
    other = {**own, name: ((5, 4, 25, 4, 25, 14),) if name == "segmentation" else (5, 4, 2)}
    samples = [
        {"file_name": f"{i}.png", "image_id": i, "height": 20, "width": 30, "annotations": [a]}
        for i, a in enumerate((own, other), 1)
    ]
    DatasetCatalog.register("shaped", lambda: samples)
    MetadataCatalog.get("shaped").set(thing_classes=["cat"], evaluator_type="coco")
    assert truth_found("shaped")[1] == pytest.approx(100)
