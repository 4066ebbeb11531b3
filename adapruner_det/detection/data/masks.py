"""What a detector with a mask head needs of the annotations, seen before a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ...errors import DataError


def require_masks(cfg: CfgNode, name: str, dicts: Iterable[Mapping[str, Any]]) -> None:
    """Raise a DataError unless every object of a data set has a mask that ``cfg`` can be used with.

    Crowds need none. Without MODEL.MASK_ON nothing is asked for.

    Args:
        cfg: the configuration.
        name: of the data set, for the message.
        dicts: its samples, as Detectron2 has them.
    """
    if not cfg.MODEL.MASK_ON:
        return
    for sample in dicts:
        for annotation in sample.get("annotations") or ():
            if annotation.get("iscrowd"):
                continue
            if problem := _problem(annotation.get("segmentation"), sample, cfg.INPUT.MASK_FORMAT):
                raise DataError(f"{name}: {sample['file_name']} has an object {problem}")


def _problem(mask: Any, sample: Mapping[str, Any], form: str) -> str:
    """What is wrong with a mask, and what to do; empty where nothing is."""
    if mask is None or len(mask) == 0:
        return "without a mask, which MODEL.MASK_ON needs; annotate it or set MODEL.MASK_ON False"
    if isinstance(mask, list):  # polygons
        return ""
    if form != "bitmask":
        return f"whose mask is no polygon: set INPUT.MASK_FORMAT bitmask in place of {form}"
    size = mask.get("size") if isinstance(mask, Mapping) else np.shape(mask)
    own = (sample["height"], sample["width"])
    if not size or len(size) != 2:
        return "whose mask has no size: give it as a run-length code with its size, or as an array"
    if tuple(size) != own:
        return f"whose mask is of {size[0]} x {size[1]} pixels, the image of {own[0]} x {own[1]}"
    return ""
