"""What a sample is known by: its key, and a digest of what it is annotated with."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from ...image_check import check_images
from ...images import ImageFacts
from ...samples import digest, sample_key


def key_of(dataset_name: str, sample: dict[str, Any]) -> str:
    """The key of a Detectron2 dict, whose ``image_id`` may be a number."""
    return sample_key(dataset_name, str(sample["image_id"]))


def sample_digest(sample: dict[str, Any]) -> int:
    """64 bits over the bytes of the image's file, its size, and all its boxes with their classes.

    Crowd boxes and boxes that cannot be trained on count as well. Masks, keypoints, VOC's flag
    ``difficult`` and the names of classes do not. Without a ``file_digest`` the
    name of the file stands for its bytes, as in selections of version 0.1.
    """
    annotations = [*sample.get("annotations", ()), *sample.get("unusable_annotations", ())]
    crowds = _rows([a for a in annotations if a.get("iscrowd")])
    name = sample.get("file_digest") or os.path.basename(sample["file_name"])
    size = [_whole(sample.get(side)) for side in ("height", "width")]
    content = [name, *size, _rows(annotations)]
    return digest(json.dumps(content + [crowds] if crowds else content))


def _rows(annotations: list[dict[str, Any]]) -> list[list[float]]:
    """Class and box of each annotation, in an order of their own."""
    rows = [[int(a["category_id"]), *(round(float(v), 3) for v in a["bbox"])] for a in annotations]
    if math.isnan(sum(map(sum, rows))):  # NaN is neither less nor more than a number
        return sorted(rows, key=lambda row: [(v != v, 0 if v != v else v) for v in row])
    return sorted(rows)


def _whole(size: Any) -> Any:
    """A size as a plain whole number, whatever kind of number a data set has; None stays."""
    return int(size) if isinstance(size, (int, float, np.number)) else size


def with_sizes(dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples, with height and width from the image where a dict does not say.

    They are 0 where the image cannot be read.
    """
    unknown = [d for d in dicts if not (d.get("height") and d.get("width"))]
    facts = check_images([str(d["file_name"]) for d in unknown], "reading image sizes")
    return [
        d if d.get("height") and d.get("width") else {**d, **_size(facts[str(d["file_name"])])}
        for d in dicts
    ]


def _size(facts: ImageFacts) -> dict[str, int]:
    return {"height": facts.height, "width": facts.width}


def with_file_digests(dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples with the ``file_digest`` of their image, empty where it cannot be read."""
    facts = check_images([str(d["file_name"]) for d in dicts], "reading images")
    return [{**d, "file_digest": facts[str(d["file_name"])].digest} for d in dicts]
