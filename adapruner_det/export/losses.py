"""What a format cannot hold: counted while it is written, said once."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np

from .records import Record

logger = logging.getLogger(__name__)


class Losses:
    """What an export in one format leaves out or changes, how often, and where first.

    Args:
        name: of the format.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, what: str, record: Record, count: int) -> None:
        """Count ``count`` boxes of a sample, of which ``what`` is said."""
        if count:
            self.counts[what] += count
            self._first.setdefault(what, record.key)

    def unusable(self, record: Record) -> None:
        """Count the boxes of a sample that the record has no more."""
        self.add("with which nothing can be trained are left out", record, record.unusable)

    def masks(self, record: Record) -> None:
        """Count the objects of a sample that are more than a box."""
        more = [e.get("segmentation") or e.get("keypoints") for e in record.extras]
        self.add("lose their mask or their keypoints", record, sum(map(bool, more)))

    def difficult(self, record: Record) -> None:
        """Count VOC's flags of a sample."""
        self.add("lose the flag `difficult`", record, int((record.difficult & ~record.crowd).sum()))

    def without_crowds(self, record: Record) -> list[int]:
        """The places of a sample's boxes around one object; what else it has is counted."""
        self.unusable(record)
        self.masks(record)
        self.add("around crowds are left out", record, int(record.crowd.sum()))
        return np.flatnonzero(~record.crowd).tolist()

    def warn(self) -> None:
        """Say what was counted, a line each."""
        for what, count in self.counts.items():
            logger.warning(
                "%s: %d box(es) %s, the first in %s", self._name, count, what, self._first[what]
            )
