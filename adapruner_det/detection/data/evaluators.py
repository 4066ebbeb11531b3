"""Average precision for VOC-format folders, and which evaluator fits which data set.

Shape letters: D detections of one class, G ground truths of one image and class.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import voc_ap
from detectron2.utils import comm
from torchvision.ops import box_iou

from ...errors import DataError

logger = logging.getLogger(__name__)

IOU_THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))


class VOCFolderEvaluator(DatasetEvaluator):
    """VOC's AP from the data set's dicts.

    The numbers are those of Detectron2's ``PascalVOCDetectionEvaluator``, which reads the files
    again and takes integer boxes only. A box marked ``difficult`` is neither a hit nor a miss. A
    class without ground truth does not enter the mean. It synchronises, so all ranks must call it.
    """

    def __init__(self, dataset_name: str) -> None:
        self._name = dataset_name
        meta = MetadataCatalog.get(dataset_name)
        self._class_names, self._is_2007 = meta.thing_classes, meta.get("year") == 2007
        self.reset()

    def reset(self) -> None:
        # class id → (image id, score, box) of each detection
        self._predictions: dict[int, list[tuple[str, float, np.ndarray]]] = defaultdict(list)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            boxes = instances.pred_boxes.tensor.double().numpy()
            scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
            for box, score, cls in zip(boxes, scores, classes, strict=True):
                self._predictions[cls].append((str(sample["image_id"]), score, box))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """``{"bbox": {"AP", "AP50", "AP75", "AP50-<class>"...}}`` in percent, on rank 0."""
        gathered = comm.gather(dict(self._predictions), dst=0)
        if not comm.is_main_process():
            return None
        truth = DatasetCatalog.get(self._name)
        ap = np.full((len(self._class_names), len(IOU_THRESHOLDS)), np.nan)
        for cls in range(len(self._class_names)):
            detections = [d for part in gathered for d in part.get(cls, ())]
            boxes, difficult = _ground_truth(truth, cls)
            if any((~flags).any() for flags in difficult.values()):
                ap[cls] = average_precision(
                    detections, boxes, difficult, IOU_THRESHOLDS, self._is_2007
                )
        ap *= 100
        mean = np.nanmean(ap, axis=0)
        result = {"AP": mean.mean(), "AP50": mean[0], "AP75": mean[5]}
        for name, values in zip(self._class_names, ap, strict=True):
            result[f"AP50-{name}"] = values[0]
        return OrderedDict(bbox={name: float(value) for name, value in result.items()})


def average_precision(
    detections: list[tuple[str, float, np.ndarray]],
    boxes: dict[str, np.ndarray],
    difficult: dict[str, np.ndarray],
    thresholds: Sequence[float],
    is_2007: bool,
) -> list[float]:
    """AP of one class, 0 to 1, at each IoU threshold, matched as the VOC devkit does.

    In order of falling score each detection goes to the ground truth that it overlaps most; the
    first one above the threshold is a hit, the others misses.

    Args:
        detections: D of (image id, score, (x0, y0, x1, y1)).
        boxes: image id → (G, 4), of every image that has ground truth of the class.
        difficult: image id → (G,) bool.
        thresholds: an IoU above one is a match.
        is_2007: the 11-point metric in place of the area under the curve.
    """
    order = np.argsort([-score for _, score, _ in detections], kind="stable")
    best, overlap = _best_overlaps([detections[i] for i in order], boxes)
    ignored = np.concatenate([np.zeros(0, dtype=bool), *difficult.values()])
    positives = np.count_nonzero(~ignored)
    result = []
    for threshold in thresholds:
        matched = overlap > threshold
        wanted = np.flatnonzero(matched)[~ignored[best[matched]]]
        first = wanted[np.unique(best[wanted], return_index=True)[1]]
        hit, miss = np.zeros(len(order)), (~matched).astype(float)
        miss[wanted] = 1
        hit[first], miss[first] = 1, 0
        hits, misses = np.cumsum(hit), np.cumsum(miss)
        precision = hits / np.maximum(hits + misses, np.finfo(np.float64).eps)
        result.append(float(voc_ap(hits / positives, precision, is_2007)))
    return result


def _best_overlaps(
    detections: list[tuple[str, float, np.ndarray]], boxes: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The ground truth each detection overlaps most, numbered through ``boxes``, and the IoU."""
    starts = dict(zip(boxes, np.cumsum([0, *map(len, boxes.values())]), strict=False))
    rows = defaultdict(list)
    for row, (image, _, _) in enumerate(detections):
        rows[image].append(row)
    best = np.zeros(len(detections), dtype=np.int64)
    overlap = np.zeros(len(detections))
    for image in rows.keys() & boxes.keys():
        found = torch.from_numpy(np.stack([detections[row][2] for row in rows[image]]))
        iou = box_iou(found, torch.from_numpy(boxes[image])).numpy()
        best[rows[image]] = starts[image] + iou.argmax(axis=1)
        overlap[rows[image]] = iou.max(axis=1)
    return best, overlap


def _ground_truth(
    dicts: list[dict[str, Any]], cls: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Image id → boxes (G, 4), and → difficult (G,), of the images that have the class."""
    boxes, difficult = {}, {}
    for sample in dicts:
        own = [a for a in sample["annotations"] if a["category_id"] == cls]
        if own:
            boxes[str(sample["image_id"])] = np.array([a["bbox"] for a in own], dtype=np.float64)
            difficult[str(sample["image_id"])] = np.array([bool(a.get("difficult")) for a in own])
    return boxes, difficult


def _voc_folder(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    return VOCFolderEvaluator(name)


def _pascal_voc(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    return PascalVOCDetectionEvaluator(name)


def _coco(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    from detectron2 import _C  # a stub where Detectron2 was built without its compiled ops

    if MetadataCatalog.get(name).get("json_file") is None:
        # Detectron2 would take the file that an earlier run has left, whatever the data are now.
        file = os.path.join(folder, f"{name}_coco_format.json")
        convert_to_coco_json(name, file, allow_cached=False)
    return COCOEvaluator(name, output_dir=folder, use_fast_impl=hasattr(_C, "COCOevalAccumulate"))


#: MetadataCatalog's evaluator_type → what makes its evaluator.
EVALUATORS: dict[str, Callable[[str, CfgNode, str], DatasetEvaluator]] = {
    "voc_folder": _voc_folder,
    "pascal_voc": _pascal_voc,
    "coco": _coco,
}


def require_evaluator(dataset_name: str) -> str:
    """The evaluator type of a data set.

    Raises:
        DataError: a type that is unknown here.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise DataError(
            f"the data set {dataset_name!r} has the evaluator type {kind!r}; known are "
            f"{', '.join(EVALUATORS)}: set it with MetadataCatalog.get(...).set(evaluator_type=...)"
        )
    return str(kind)


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """The evaluator that a data set's metadata asks for.

    Raises:
        DataError: an evaluator type that is unknown here.
    """
    make = EVALUATORS[require_evaluator(dataset_name)]
    return make(dataset_name, cfg, output_folder or cfg.OUTPUT_DIR)
