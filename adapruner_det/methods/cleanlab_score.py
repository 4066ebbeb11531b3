"""cleanlab's label quality of a detection data set: drop what looks wrongly annotated.

Tkachenko et al. 2023, *ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection
Data*, as the authors' own package computes it. Shape letters: N samples, G boxes and M detections
of an image, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import DataError, one_line
from ..samples import Samples
from .base import BOXES, PREDICTIONS, Choice, Evidence, register
from .shared import ties_drawn

Detections = Mapping[str, np.ndarray]


def _check(options: Mapping[str, Any], samples: Samples, epochs: int, keep_ratio: float) -> None:
    """The package is there."""
    if find_spec("cleanlab") is None:
        raise DataError(
            "the method 'cleanlab' needs the package: pip install 'adapruner-det[cleanlab]'"
        )


@register("cleanlab", needs=(BOXES, PREDICTIONS), check=_check)
def cleanlab(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: the label quality in [0, 1], which is low where the trained model sees an object
    without a box, a box elsewhere or another class.

    cleanlab wants predictions of images that a model was not trained on; these are of the model
    that was trained on all, which believes more of what it was told. Part of cleanlab's score is a
    distance of centres in pixels, so it depends on the size of the images. Which of equal
    ones stay is drawn. Needs the extra ``cleanlab``. Costs O(N·G·M).

    Raises:
        DataError: no cleanlab, or data that it cannot score.
    """
    samples = evidence.samples
    _check(evidence.options, samples, evidence.epochs, keep_ratio)
    from cleanlab.object_detection.rank import get_label_quality_scores

    try:
        quality = get_label_quality_scores(
            labels_of(samples), arrays_of(samples, evidence.predictions()), verbose=False
        )
    except Exception as error:  # of a package that is not ours
        raise DataError(f"cleanlab cannot score these annotations: {one_line(error)}") from error
    quality = np.asarray(quality, dtype=np.float64)
    return Choice(ties_drawn(-quality, evidence.seed), columns={"label_quality": quality})


def labels_of(samples: Samples) -> list[dict[str, np.ndarray]]:
    """N of ``bboxes`` (G, 4) and ``labels`` (G,), as cleanlab has them."""
    return [
        {"bboxes": own.astype(np.float64), "labels": np.array(classes, dtype=np.int64)}
        for own, classes in zip(samples.boxes or (), samples.classes, strict=True)
    ]


def arrays_of(samples: Samples, found: Sequence[Detections]) -> list[np.ndarray]:
    """N of (C,) objects, each (M, 5) of one class's boxes and scores, as cleanlab has them."""
    used = {0, *(c for own in samples.classes for c in own)}
    used |= {int(c) for own in found for c in own["classes"]}
    count = 1 + max(used)
    arrays = []
    for own in found:
        rows = np.column_stack([own["boxes"], own["scores"]]).astype(np.float64)
        parts = np.empty(count, dtype=object)
        for c in range(count):
            parts[c] = rows[own["classes"] == c]
        arrays.append(parts)
    return arrays
