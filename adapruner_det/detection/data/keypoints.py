"""Visible keypoints of a sample, by which Detectron2 leaves images out of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def visible_keypoints(sample: Mapping[str, Any]) -> int:
    """How many keypoints of a sample are visible, counted as MIN_KEYPOINTS_PER_IMAGE counts."""
    given = (a.get("keypoints") for a in sample.get("annotations") or ())
    return sum(int((np.asarray(own[2::3]) > 0).sum()) for own in given if own is not None)
