"""What a detector with a keypoint head needs of the annotations, seen before a run begins.

Shape letters: K keypoints of an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...errors import DataError

_MISSING = (
    "without keypoints, which MODEL.KEYPOINT_ON needs: annotate it, with the flag 0 for points "
    "that are not visible, or set MODEL.KEYPOINT_ON False"
)

#: How many keypoints pycocotools has sigmas for where none are set.
_SIGMAS = 17


def visible_keypoints(sample: Mapping[str, Any]) -> int:
    """How many keypoints of a sample are visible, counted as MIN_KEYPOINTS_PER_IMAGE counts."""
    given = (a.get("keypoints") for a in sample.get("annotations") or ())
    return sum(int((np.asarray(own[2::3]) > 0).sum()) for own in given if own is not None)


def with_keypoints(cfg: CfgNode, sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as ``cfg``'s head takes it: of an object without keypoints none is visible."""
    if not cfg.MODEL.KEYPOINT_ON:
        return dict(sample)
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    hidden = {"keypoints": [0.0] * 3 * count}
    own = sample.get("annotations") or ()
    filled = [{**a, **hidden} if _problem(a, count) == _MISSING else a for a in own]
    return {**sample, "annotations": filled}


def require_keypoints(cfg: CfgNode, name: str, dicts: Iterable[Mapping[str, Any]]) -> None:
    """Raise a DataError unless every object of a data set has the keypoints of ``cfg``'s head.

    Crowds need none, nor do images that Detectron2 leaves out of a training for having too few
    visible ones. A training set has to say, too, which points change places when an image is
    flipped, unless a LazyConfig does, and a test set of COCO's evaluation has to have a sigma for
    each point. Without MODEL.KEYPOINT_ON nothing is asked for.

    Args:
        cfg: the configuration; NUM_KEYPOINTS 0 of its head stands for a number that is not known.
        name: of the data set.
        dicts: its samples, as Detectron2 has them.
    """
    if not cfg.MODEL.KEYPOINT_ON:
        return
    head, trained = cfg.MODEL.ROI_KEYPOINT_HEAD, name in cfg.DATASETS.TRAIN
    leaves_out = trained and name not in cfg.DATASETS.TEST
    asked = head.MIN_KEYPOINTS_PER_IMAGE if leaves_out else 0
    for sample in dicts:
        objects = [a for a in sample.get("annotations") or () if not a.get("iscrowd")]
        problems = [_problem(a, head.NUM_KEYPOINTS) for a in objects]
        found = next((p for p in problems if p not in ("", _MISSING)), "")
        if not found and _MISSING in problems and visible_keypoints(sample) >= asked:
            found = _MISSING
        if found:
            raise DataError(f"{name}: {sample['file_name']} has an object {found}")
    if trained and not cfg.ADAPRUNER.LAZY_CONFIG:
        _require_flips(name, head.NUM_KEYPOINTS)
    if name in cfg.DATASETS.TEST and head.NUM_KEYPOINTS:
        _require_sigmas(cfg, name)


def _problem(annotation: Mapping[str, Any], count: int) -> str:
    """What is wrong with an object's keypoints, and what to do; empty where nothing is."""
    try:
        numbers = np.asarray(annotation.get("keypoints", ()), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if numbers.size == 0:
        return _MISSING
    if numbers.ndim == 0 or not np.isfinite(numbers).all():
        return "whose keypoints are no list of finite numbers: give x, y and a flag for each point"
    if numbers.size % 3 or (count and numbers.size != 3 * count):
        return (
            f"with {numbers.size} numbers for its keypoints, where x, y and a flag of each of "
            f"{count or 'its'} points are needed: mend it, or set "
            "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS to the points that the data have"
        )
    return ""


def _require_flips(name: str, count: int) -> None:
    """Raise a DataError unless the metadata say which of K points change places in a flip."""
    meta = MetadataCatalog.get(name)
    missing = [k for k in ("keypoint_names", "keypoint_flip_map") if meta.get(k) is None]
    if missing:
        raise DataError(
            f"the metadata of {name!r} have no {' and no '.join(missing)}, by which keypoints are "
            f"flipped with their image: set MetadataCatalog.get({name!r}).set(keypoint_names="
            "[...], keypoint_flip_map=[('left', 'right'), ...]) where you register it"
        )
    if len(meta.keypoint_names) != count:
        raise DataError(
            f"the metadata of {name!r} name {len(meta.keypoint_names)} keypoints, but "
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}: let both be those of the data"
        )


def _require_sigmas(cfg: CfgNode, name: str) -> None:
    """Raise a DataError unless COCO's evaluation has a sigma for each of K points."""
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    sigmas = len(cfg.TEST.KEYPOINT_OKS_SIGMAS) or _SIGMAS
    if sigmas == count or MetadataCatalog.get(name).get("evaluator_type") != "coco":
        return
    cure = "set TEST.KEYPOINT_OKS_SIGMAS to one number for each point, or "
    if cfg.ADAPRUNER.LAZY_CONFIG:  # which cannot say them
        cure = ""
    raise DataError(
        f"{name} has {count} keypoints, and its evaluation {sigmas} sigmas, by which pycocotools "
        f"judges them (17 by default, of COCO's persons): {cure}leave it out of the test sets"
    )
