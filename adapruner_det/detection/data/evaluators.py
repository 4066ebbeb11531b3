"""Average precision for VOC-format folders, and which evaluator fits which data set.

Shape letters: D detections of one class, G ground truths of one image and class.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec, voc_ap
from detectron2.structures import BoxMode
from detectron2.utils import comm
from pycocotools.mask import encode
from torchvision.ops import box_iou

from ...errors import DataError
from ...files import write_text
from .checks import class_names, read_dataset
from .coco_file import coco_content, says_the_same
from .coco_set import COCOSet, is_for_pycocotools
from .samples import corners
from .voc_folder import folder_behind

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
        truth = _voc_samples(self._name)
        ap = np.full((len(self._class_names), len(IOU_THRESHOLDS)), np.nan)
        for cls in range(len(self._class_names)):
            detections = [d for part in gathered for d in part.get(cls, ())]
            boxes, difficult = _ground_truth(truth, cls)
            if any((~flags).any() for flags in difficult.values()):
                ap[cls] = average_precision(
                    detections, boxes, difficult, IOU_THRESHOLDS, self._is_2007
                )
        ap *= 100
        counted = ap[~np.isnan(ap).all(axis=1)]
        mean = counted.mean(axis=0) if len(counted) else ap[0]
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
        own = [a for a in sample.get("annotations", ()) if a["category_id"] == cls]
        if own:
            sides = [corners(a["bbox"], a["bbox_mode"]) for a in own]
            boxes[str(sample["image_id"])] = np.array(sides, dtype=np.float64)
            difficult[str(sample["image_id"])] = np.array([bool(a.get("difficult")) for a in own])
    return boxes, difficult


def _voc_samples(name: str) -> list[dict[str, Any]]:
    """A data set with VOC's ``difficult``, which Detectron2's own reader leaves out."""
    folder = folder_behind(name, DatasetCatalog[name])
    return folder() if folder else read_dataset(name)


def _voc_folder(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    return VOCFolderEvaluator(name)


def _pascal_voc(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    samples, meta = _voc_samples(name), MetadataCatalog.get(name)
    ours = VOCFolderEvaluator(name)
    try:
        theirs = PascalVOCDetectionEvaluator(name)
        with open(theirs._image_set_path) as lines:
            files = {
                line.strip(): theirs._anno_file_template.format(line.strip()) for line in lines
            }
        told = {image_id: _told(parse_rec(file)) for image_id, file in files.items()}
    except Exception:  # its parser wants a pose, whole numbers, and a list without blank lines
        return ours
    read = {str(d["image_id"]): _read(d, meta.thing_classes) for d in samples}
    names = {row[0] for rows in read.values() for row in rows if not row[-1]}
    apart = all(image_id.split() == [image_id] for image_id in read)
    # A class without an object that counts makes its mean NaN.
    return theirs if told == read and apart and names == set(meta.thing_classes) else ours


_Rows = list[tuple[Any, ...]]


def _told(objects: list[dict[str, Any]]) -> _Rows:
    """Name, corners as VOC counts them, and whether it is difficult, of each object of a file."""
    return [(o["name"], *map(float, o["bbox"]), bool(o["difficult"])) for o in objects]


def _read(sample: Mapping[str, Any], names: Sequence[str]) -> _Rows:
    """The same of a sample."""
    rows = []
    for own in sample.get("annotations", ()):
        x0, y0, x1, y1 = map(float, corners(own["bbox"], own["bbox_mode"]))
        difficult = bool(own.get("difficult"))
        rows.append((names[own["category_id"]], x0 + 1, y0 + 1, x1, y1, difficult))
    return rows


class COCOFileEvaluator(COCOEvaluator):
    """COCO's AP, and 0 of a detector that finds nothing where there is something to be found.

    Detectron2 has NaN there, as if it were not known. Of a detector with more classes than the data
    set has, what it finds of the others does not count.
    """

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: Any = None) -> None:
        known = self._metadata.get("thing_dataset_id_to_contiguous_id")
        for own in predictions:
            if known is not None and "instances" in own:
                own["instances"] = [x for x in own["instances"] if x["category_id"] < len(known)]
        super()._eval_predictions(predictions, img_ids)

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        found = super()._derive_coco_results(coco_eval, iou_type, class_names)
        counts = any(not own.get("iscrowd") for own in self._coco_api.anns.values())
        if coco_eval is None and counts:
            found |= dict.fromkeys(("AP", "AP50", "AP75"), 0.0)
        return found


class COCODictsEvaluator(COCOFileEvaluator):
    """COCO's AP by a file that is made of the data set's dicts, as they are now.

    Detectron2 makes such a file too, but takes one that an earlier run has left, and writes its
    name into the metadata.

    Args:
        dataset_name: of the data set.
        folder: for the file.
        options: as for Detectron2's own.
    """

    def __init__(self, dataset_name: str, folder: str, **options: Any) -> None:
        dicts = copy.deepcopy(read_dataset(dataset_name))  # the conversion moves keypoints
        _make_convertible([own for sample in dicts for own in sample.get("annotations", ())])
        metadata = _metadata_of_dicts(dataset_name, dicts)
        alias = f"{dataset_name}, by its dicts"
        DatasetCatalog.register(alias, lambda: dicts)
        try:
            MetadataCatalog.get(alias).set(**metadata)
            content = {"annotations": [], **convert_to_coco_dict(alias)}
            file = os.path.join(folder, f"{dataset_name}_coco_format.json")
            write_text(file, json.dumps(content, default=_plain))
            MetadataCatalog.get(alias).json_file = file
            super().__init__(alias, output_dir=folder, **options)
        finally:
            DatasetCatalog.remove(alias)
            MetadataCatalog.pop(alias, None)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        named = [{**sample, "image_id": _plain(sample["image_id"])} for sample in inputs]
        super().process(named, outputs)


def _make_convertible(annotations: Sequence[dict[str, Any]]) -> None:
    """Give masks and keypoints, in place, the form that Detectron2 converts: it trains on others.

    Where one annotation has a mask or keypoints pycocotools asks for those of all, crowds too: a
    mask is then the box, and keypoints are not visible.
    """
    for annotation in annotations:
        for name in ("segmentation", "keypoints"):
            value = annotation.pop(name, None)
            if isinstance(value, np.ndarray) and name == "segmentation":
                value = encode(np.asfortranarray(value, dtype=np.uint8))
            if value is not None and len(value):
                annotation[name] = list(value) if isinstance(value, tuple) else value
    masked = any("segmentation" in own for own in annotations)
    points = max((len(own["keypoints"]) for own in annotations if "keypoints" in own), default=0)
    for annotation in annotations:
        if masked and "segmentation" not in annotation:
            x0, y0, x1, y1 = map(float, corners(annotation["bbox"], annotation["bbox_mode"]))
            annotation["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if points and "keypoints" not in annotation:
            annotation["keypoints"] = [0.0] * points


def _plain(value: Any) -> Any:
    """A number or a list that JSON can hold, of NumPy's."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _metadata_of_dicts(name: str, dicts: list[dict[str, Any]]) -> dict[str, Any]:
    """The metadata for an evaluation by dicts, with a name for each of their classes."""
    used = 1 + max((a["category_id"] for d in dicts for a in d.get("annotations", ())), default=-1)
    metadata: dict[str, Any] = MetadataCatalog.get(name).as_dict()
    metadata |= {"thing_classes": class_names(name, used)}
    given = metadata.get("thing_dataset_id_to_contiguous_id", {})
    if sorted(given.values()) != list(range(len(metadata["thing_classes"]))):
        metadata.pop("thing_dataset_id_to_contiguous_id", None)  # as where a reader merges classes
    return {k: v for k, v in metadata.items() if k not in ("name", "json_file")}


def _coco(name: str, cfg: CfgNode, folder: str) -> DatasetEvaluator:
    from detectron2 import _C  # a stub where Detectron2 was built without its compiled ops

    options = {
        "use_fast_impl": hasattr(_C, "COCOevalAccumulate"),
        "kpt_oks_sigmas": cfg.TEST.KEYPOINT_OKS_SIGMAS,
    }
    file = MetadataCatalog.get(name).get("json_file")
    if file is None or not _evaluates_rightly(name, file):
        return COCODictsEvaluator(name, folder, **options)
    return COCOFileEvaluator(name, output_dir=folder, **options)


def _evaluates_rightly(name: str, file: str) -> bool:
    """Whether an evaluation by a COCO file is one by what is read of the data set."""
    reader = DatasetCatalog[name]
    if isinstance(reader, COCOSet):  # which names its file in the metadata only if so
        return True
    content = coco_content(file)
    images, annotations = content.get("images", []), content.get("annotations", [])
    if str(getattr(reader, "__module__", "")).startswith("detectron2."):
        return is_for_pycocotools(images, annotations)
    dicts = read_dataset(name)
    return (
        len(images) == len(dicts)
        and is_for_pycocotools(images, annotations)
        and says_the_same(content, dicts, class_names(name))
    )


def warn_where_nothing_counts(name: str, dicts: Sequence[Mapping[str, Any]]) -> None:
    """Say so where a test set has no object that an evaluation counts."""
    ignored = ["iscrowd"]
    if MetadataCatalog.get(name).get("evaluator_type") != "coco":
        ignored.append("difficult")
    objects = (a for sample in dicts for a in sample.get("annotations", ()))
    if not any(all(not a.get(flag) for flag in ignored) for a in objects):
        logger.warning(
            "%s: nothing can be evaluated on it, and its AP is nan: none of its %d image(s) has "
            "an object that is no crowd and not difficult",
            name,
            len(dicts),
        )


#: MetadataCatalog's evaluator_type → what makes its evaluator.
EVALUATORS: dict[str, Callable[[str, CfgNode, str], DatasetEvaluator]] = {
    "voc_folder": _voc_folder,
    "pascal_voc": _pascal_voc,
    "coco": _coco,
}


def require_upright(name: str, dicts: Sequence[Mapping[str, Any]]) -> None:
    """Raise a DataError where a data set to be tested on has rotated boxes, which no evaluator here
    knows."""
    for sample in dicts:
        if any(a["bbox_mode"] == BoxMode.XYWHA_ABS for a in sample.get("annotations", ())):
            raise DataError(
                f"{name} has rotated boxes, as in {sample['file_name']}: they can be trained on "
                "and are not evaluated here; leave it out of DATASETS.TEST"
            )


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
