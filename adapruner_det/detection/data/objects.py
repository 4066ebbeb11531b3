"""The annotated boxes of a training set as plain arrays, for what reports on them.

Shape letters: N samples, M objects of all samples together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...report.changes import Objects
from .samples import corners


def objects_of(dicts: Iterable[Mapping[str, Any]]) -> Objects:
    """The M objects of Detectron2's N dicts, in their order; crowds are none.

    Without the size of each image there are no boxes, for they are looked at relative to it.
    """
    sample, classes, boxes, sizes = [], [], [], []
    for index, own in enumerate(dicts):
        sizes.append((float(own.get("width") or 0), float(own.get("height") or 0)))
        for annotation in own.get("annotations", ()):
            if not annotation.get("iscrowd"):
                sample.append(index)
                classes.append(int(annotation["category_id"]))
                boxes.append(corners(annotation["bbox"], annotation["bbox_mode"]))
    known = all(width and height for width, height in sizes)
    return Objects(
        np.array(sample, dtype=np.int64),
        np.array(classes, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4) if known else None,
        np.array(sizes, dtype=np.float64).reshape(-1, 2) if known else None,
    )
