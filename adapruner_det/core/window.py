"""The most recent values of a stream, ranked: what stands in for its distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class RecentWindow:
    """A ring of the last ``size`` values with cheap ranks and median.

    Adding B values costs O(B); the ring is sorted again only after a sixteenth of it is new, so
    a step's cost does not depend on how long the stream is.
    """

    def __init__(self, size: int) -> None:
        self._ring = np.zeros(size, dtype=np.float64)
        self._filled = 0
        self._next = 0
        self._unsorted = 0
        self._sorted = np.empty(0)

    def __len__(self) -> int:
        return self._filled

    def add(self, values: np.ndarray) -> bool:
        """Add ``values``, shape (B,), all finite; of more than ``size`` the last ones count.

        Returns:
            Whether the ranks and the median are new.
        """
        size = len(self._ring)
        values = values[-size:]
        self._ring[(self._next + np.arange(len(values))) % size] = values
        self._next = (self._next + len(values)) % size
        self._filled = min(self._filled + len(values), size)
        self._unsorted += len(values)
        if self._unsorted * 16 < self._filled:
            return False
        self._sort()
        return True

    def recent(self) -> np.ndarray:
        """What the window holds, in the order of the ring."""
        return self._ring[: self._filled]

    def rank(self, values: np.ndarray) -> np.ndarray:
        """The share of the window below each value, ties counted half; shape (B,), in [0, 1]."""
        below = np.searchsorted(self._sorted, values, side="left")
        up_to = np.searchsorted(self._sorted, values, side="right")
        return (below + up_to) / (2.0 * max(len(self._sorted), 1))

    def median(self) -> float:
        """The window's upper median; 1 while it is empty."""
        return float(self._sorted[len(self._sorted) // 2]) if len(self._sorted) else 1.0

    def mean(self) -> float:
        """The window's mean; 1 while it is empty."""
        return float(self._sorted.mean()) if len(self._sorted) else 1.0

    def _sort(self) -> None:
        self._sorted = np.sort(self._ring[: self._filled])
        self._unsorted = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if never interrupted; tensors and plain numbers."""
        return {
            "ring": torch.from_numpy(self._ring.copy()),
            "sorted": torch.from_numpy(self._sorted.copy()),
            "filled": self._filled,
            "next": self._next,
            "unsorted": self._unsorted,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._ring = state["ring"].numpy().copy()
        self._sorted = state["sorted"].numpy().copy()
        self._filled = int(state["filled"])
        self._next = int(state["next"])
        self._unsorted = int(state["unsorted"])
