"""Records: what an export needs to know of the kept samples, whatever data set they come from.

Shape letters: K kept samples, M objects of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..samples import dataset_of


@dataclass(frozen=True)
class Record:
    """One kept sample.

    Attributes:
        key: ``dataset_name/image_id``.
        path: of its image file.
        name: the file's place below the data set's folder of images, parted by ``/``.
        width, height: of the image, in pixels.
        boxes: (M, 4) float64, (x0, y0, x1, y1) in pixels; (0, 0) is the image's upper left corner,
            not the centre of its first pixel. They may reach beyond the image.
        classes: (M,) int64, places among the class names.
        crowd: (M,) bool, whether a box is around a crowd, which is no object to learn from.
        difficult: (M,) bool, VOC's flag.
        ids: (M,) what the source calls each annotation; empty where it gives them no name.
        label: the class of the whole image, of a data set for classification.
        unusable: how many boxes the source has besides, with which nothing can be trained: without
            area, not finite, or outside of the image.
        extras: (M,) further fields of COCO's for each object, such as ``segmentation``; or empty.
        coco_image: what a COCO file says of the image, as it stands there; empty elsewhere.
        coco_annotations: and of all its objects, unusable ones too.
        voc_file: the XML of a VOC folder; empty elsewhere.
    """

    key: str
    path: str
    name: str
    width: int
    height: int
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    difficult: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    ids: Sequence[int | str] = ()
    label: int | None = None
    unusable: int = 0
    extras: Sequence[Mapping[str, Any]] = ()
    coco_image: Mapping[str, Any] = field(default_factory=dict)
    coco_annotations: Sequence[Mapping[str, Any]] = ()
    voc_file: str = ""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"{self.key} has boxes of shape {self.boxes.shape}, not (M, 4)")
        for name in ("classes", "crowd", "difficult"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{self.key} has {name} of another shape than ({count},)")
        for name in ("ids", "extras"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(f"{self.key} has {name} for another number than {count} objects")


@dataclass(frozen=True)
class Records:
    """The K kept samples of a selection.

    Attributes:
        records: in the order of their keys.
        class_names: what the class ids mean.
        coco_header: what the COCO file of the only data set says besides its images and
            annotations, its ``categories`` among it; empty where there is no such file, or several.
        files: those that the records were read from, besides what they name themselves.
    """

    records: Sequence[Record]
    class_names: Sequence[str]
    coco_header: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        keys = [record.key for record in self.records]
        if any(later <= earlier for earlier, later in zip(keys, keys[1:], strict=False)):
            raise ValueError("the keys of records must be sorted and distinct")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def dataset_names(self) -> list[str]:
        """The data sets that they come from, sorted."""
        return sorted({dataset_of(record.key) for record in self.records})

    @property
    def is_classification(self) -> bool:
        """Whether the samples have one class each, and no boxes."""
        return any(record.label is not None for record in self.records)
