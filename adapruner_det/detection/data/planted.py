"""What is planted in data sets to see whether a method finds it, as the sets themselves say.

A folder in the VOC layout that was made with faults or twins has a ``truth.json``, such as
``datasets/make_demo.py`` writes: ``{"images": {"000001": {"kind": "wrong_label"}, ...}}``. Shape
letters: N samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

from ...samples import sample_key

#: The file, beside Annotations and JPEGImages, and what it calls an image with nothing planted.
TRUTH, CLEAN = "truth.json", "clean"


def planted_in(datasets: Iterable[str], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Of registered data sets what is planted in their samples → (N,) bool; empty if nothing is.

    Args:
        datasets: their names.
        keys: N, of the samples.
    """
    kinds: dict[str, str] = {}
    for name in datasets:
        folder = MetadataCatalog.get(name).get("dirname")
        if folder:
            own = _kinds(Path(folder) / TRUTH)
            kinds |= {sample_key(name, image_id): kind for image_id, kind in own.items()}
    found = np.array([kinds.get(key, CLEAN) for key in keys])
    return {kind.replace("_", " "): found == kind for kind in sorted({*found.tolist()} - {CLEAN})}


def _kinds(path: Path) -> dict[str, str]:
    """Image id → kind. A file of that name which is something else says nothing."""
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        return {str(image_id): str(own["kind"]) for image_id, own in images.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
