"""What a loss is compared with before Eq. 5: the running median, of samples of like size.

Shape letters: N samples, B samples of a batch, G groups of like size.

L − log L has its minimum at L = 1, so the scale of L decides who is pushed out. A loss that sums
over the objects of an image measures how many there are before it measures how hard they are: by
it alone the images with most objects go first, and an image whose boxes are missing looks easy.
With ``sizes`` a loss is therefore compared with the median loss of samples that have about as many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .window import RecentWindow


class TypicalLoss:
    """The running median of the mean losses, over a window of min(N, 4096) observations.

    Args:
        num_samples: N.
        sizes: (N,) a number per sample that its loss grows with, such as its objects; None
            compares all samples alike.
    """

    WINDOW = 4096
    GROUP = 32  # fewest observations whose median stands for a size

    def __init__(self, num_samples: int, sizes: np.ndarray | None = None) -> None:
        self._losses = RecentWindow(min(num_samples, self.WINDOW))
        self._sizes: np.ndarray | None = None
        if sizes is not None:
            if len(sizes) != num_samples:
                raise ValueError(f"there are {len(sizes)} sizes for {num_samples} samples")
            self._sizes = np.asarray(sizes, dtype=np.float32)
            self._seen_sizes = RecentWindow(min(num_samples, self.WINDOW))
        self._knots = np.zeros((2, 0))  # sizes and median losses of the G groups

    def add(self, ids: np.ndarray, mean_loss: np.ndarray) -> None:
        """Take in the mean losses (B,) of ``ids`` (B,), all finite."""
        resorted = self._losses.add(mean_loss)
        if self._sizes is not None:
            self._seen_sizes.add(self._sizes[ids])
            if resorted:
                self._knots = _medians(self._seen_sizes.recent(), self._losses.recent(), self.GROUP)

    def of(self, ids: np.ndarray | slice) -> np.ndarray:
        """What the losses of ``ids`` are divided by, above 0: (B,), or () for all alike.

        The window's mean stands in where more than half of its losses are 0.
        """
        overall = self._losses.median() or self._losses.mean() or 1.0
        if self._sizes is None or not self._knots.size:
            return np.asarray(overall)
        typical = np.interp(self._sizes[ids], self._knots[0], self._knots[1])
        return np.where(typical > 0, typical, overall)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers; the sizes are not among them."""
        state = {"losses": self._losses.state_dict(), "knots": torch.from_numpy(self._knots.copy())}
        if self._sizes is not None:
            state["sizes"] = self._seen_sizes.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._losses.load_state_dict(state["losses"])
        self._knots = state["knots"].numpy().copy()
        if self._sizes is not None:
            self._seen_sizes.load_state_dict(state["sizes"])


def _medians(sizes: np.ndarray, losses: np.ndarray, fewest: int) -> np.ndarray:
    """(2, G): the mean size and the median loss of groups of neighbouring sizes, sizes rising.

    Samples of one size are in one group; a group has at least ``fewest`` members, or all there are.
    """
    order = np.argsort(sizes, kind="stable")
    sizes, losses = sizes[order], losses[order]
    starts = [0]
    for edge in np.flatnonzero(np.diff(sizes)) + 1:
        if edge - starts[-1] >= fewest and len(sizes) - edge >= fewest:
            starts.append(int(edge))
    groups = zip(np.split(sizes, starts[1:]), np.split(losses, starts[1:]), strict=True)
    return np.array([(own.mean(), np.median(loss)) for own, loss in groups]).T
