"""What can be wrong with a sample, and with a box in its image.

A faulty sample cannot be used as it is: the run stops, or goes on without it where
``ADAPRUNER.ON_BAD_SAMPLE`` says so. A faulty box is left out, as Detectron2's mapper leaves it out,
and counted.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.structures import BoxMode

from ...errors import DataError
from ...samples import BOX_SLACK

logger = logging.getLogger(__name__)

NOT_FINITE = "not a finite number"
NO_AREA = "without area"
OUTSIDE = "wholly outside their image"
BEYOND = "reaching beyond their image, where they are cut off"
NORMALISED = "with no coordinate above 1, as if they were shares of the image in place of pixels"

_WITH_SIDES = (BoxMode.XYWH_ABS, BoxMode.XYWH_REL)

#: The kinds with which a box cannot be trained on.
UNUSABLE = (NOT_FINITE, NO_AREA, OUTSIDE)


@dataclass(frozen=True)
class Fault:
    """Why one sample cannot be used.

    Attributes:
        image_id: of the sample in its data set.
        problem: one line that names the file and says what is wrong with it.
    """

    image_id: str
    problem: str


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise a DataError with the first of ``faults`` and their number, if there are any."""
    if not faults:
        return
    more = f" ({len(faults)} samples are faulty)" if len(faults) > 1 else ""
    raise DataError(
        f"{faults[0].problem}{more}; mend it, or leave such samples out with "
        "ADAPRUNER.ON_BAD_SAMPLE skip; adapruner check-data lists all"
    )


class SampleReader(ABC):
    """A data set as DatasetCatalog calls it, which tells its faulty samples apart."""

    @abstractmethod
    def read(self) -> tuple[list[dict[str, Any]], list[Fault]]:
        """Detectron2's dicts, and the samples that cannot be used."""

    def __call__(self) -> list[dict[str, Any]]:
        """The dicts; a DataError where a sample cannot be used."""
        dicts, faults = self.read()
        raise_faults(faults)
        return dicts


def box_problem(annotation: dict[str, Any], height: int, width: int) -> str:
    """What is wrong with a box in an image of ``height``×``width`` pixels; empty if nothing.

    Rotated boxes, of five numbers, are not looked at.
    """
    box = annotation["bbox"]
    try:
        if not math.isfinite(sum(box)):  # of numbers that are not finite no sum is
            return NOT_FINITE
    except OverflowError:  # a whole number beyond all floats
        return NOT_FINITE
    if len(box) != 4:
        return ""
    x0, y0, x1, y1 = box
    if annotation.get("bbox_mode") in _WITH_SIDES:
        x1, y1 = x0 + x1, y0 + y1
    if x1 <= x0 or y1 <= y0:
        return NO_AREA
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return OUTSIDE
    if max(x1, y1) <= 1 < min(height, width):
        return NORMALISED
    if min(x0, y0) < -BOX_SLACK or x1 > width + BOX_SLACK or y1 > height + BOX_SLACK:
        return BEYOND
    return ""


def fits_as_corners(annotation: dict[str, Any], height: int, width: int) -> bool:
    """Whether a box given as (x, y, width, height) would fit its image as (x0, y0, x1, y1)."""
    if annotation.get("bbox_mode") != BoxMode.XYWH_ABS:
        return False
    x0, y0, x1, y1 = annotation["bbox"]
    return x0 < x1 <= width + BOX_SLACK and y0 < y1 <= height + BOX_SLACK


@dataclass
class BoxCounts:
    """How many boxes of a data set have which problem, and where the first of each is."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    as_corners: int = 0

    def sort_out(self, sample: dict[str, Any], place: object) -> dict[str, Any]:
        """The sample without its unusable boxes, which stand under ``unusable_annotations``.

        Args:
            sample: Detectron2's dict, with its height and width; it stays as it is.
            place: what a warning says of where it is.
        """
        height, width = sample["height"], sample["width"]
        if not height:  # an image that cannot be read is a fault of its own
            return sample
        annotations = sample.get("annotations", ())
        problems = [box_problem(a, height, width) for a in annotations]
        if not any(problems):
            return sample
        for annotation, problem in zip(annotations, problems, strict=True):
            if problem:
                self.counts[problem] += 1
                self.first.setdefault(problem, str(place))
            if problem == BEYOND:
                self.as_corners += fits_as_corners(annotation, height, width)
        pairs = list(zip(annotations, problems, strict=True))
        kept = [a for a, problem in pairs if problem not in UNUSABLE]
        unusable = [a for a, problem in pairs if problem in UNUSABLE]
        if unusable:
            sample = {**sample, "annotations": kept, "unusable_annotations": unusable}
        return sample

    def warn(self, dataset_name: str) -> None:
        """Say how many boxes of ``dataset_name`` are left out or cut off, and why."""
        for kind, count in self.counts.items():
            logger.warning(
                "%s: %d box(es) %s%s, the first in %s%s",
                dataset_name,
                count,
                kind,
                " are left out" if kind in UNUSABLE else "",
                self.first[kind],
                f"; {self.as_corners} of them would fit as (x0, y0, x1, y1), where COCO has "
                "(x, y, width, height)"
                if kind == BEYOND and self.as_corners
                else "",
            )


def has_object(sample: dict[str, Any]) -> bool:
    """Whether a sample has a box to train on: usable, and no crowd."""
    height, width = sample.get("height", math.inf), sample.get("width", math.inf)
    return any(
        not a.get("iscrowd") and box_problem(a, height, width) not in UNUSABLE
        for a in sample.get("annotations", ())
    )
