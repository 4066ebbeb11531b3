"""What a loss is compared with before Eq. 5: the running median, of samples of like size.

Shape letters: N samples, B samples of a batch, L levels of size, G groups of like size.

L − log L has its minimum at L = 1, so the scale of L decides who is pushed out. A loss that sums
over the objects of an image measures how many there are before it measures how hard they are: by
it alone the images with most objects go first, and an image whose boxes are missing looks easy.
With ``by_size`` a loss is therefore compared with the median loss of samples of about its size.
Between the groups that give a median it is interpolated. Beyond the last one it goes on rising: a
group is at least 32 samples, so where few images are crowded the last group's size lies far below
the largest, and with one value from there on the most crowded images would look hard for their
objects alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .window import RecentWindow

LEVELS = 256


class TypicalLoss:
    """The running median of the mean losses, over a window of min(N, 4096) observations.

    Args:
        num_samples: N.
        levels: (L,) the sizes that samples have, rising, as :func:`size_levels` gives them; None
            are samples of one size.
        by_size: whether a loss is compared with those of samples of like size, or with all.
    """

    WINDOW = 4096
    GROUP = 32  # fewest observations whose median stands for a size

    def __init__(
        self, num_samples: int, levels: np.ndarray | None = None, *, by_size: bool = True
    ) -> None:
        self._levels = np.zeros(1) if levels is None else levels
        self.by_size = by_size and len(self._levels) > 1
        window = min(num_samples, self.WINDOW)
        self._losses = RecentWindow(window)
        self._sizes = RecentWindow(window if self.by_size else 0)
        self._typical = np.ones(len(self._levels))

    def add(self, mean_loss: np.ndarray, level: np.ndarray) -> None:
        """Take in mean losses (B,), all finite, of samples whose sizes are ``levels[level]``."""
        resorted = self._losses.add(mean_loss)
        if self.by_size:
            self._sizes.add(self._levels[level])
        if resorted:
            self._typical = self._now()

    def of(self, level: np.ndarray) -> np.ndarray:
        """What the losses of samples of these levels, (B,), are divided by: (B,), above 0."""
        return self._typical[level]

    def _now(self) -> np.ndarray:
        """The typical loss of each level; the window's mean where more than half of it is 0."""
        overall = self._losses.median() or self._losses.mean() or 1.0
        if not self.by_size:
            return np.full(len(self._levels), overall)
        knots = _medians(self._sizes.recent(), self._losses.recent(), self.GROUP)
        beyond = np.maximum(self._levels - knots[0, -1], 0.0)
        typical = np.interp(self._levels, *knots) + _last_slope(*knots) * beyond
        return np.where(typical > 0, typical, overall)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers; the levels are not among them."""
        return {
            "losses": self._losses.state_dict(),
            "sizes": self._sizes.state_dict(),
            "typical": torch.from_numpy(self._typical.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._losses.load_state_dict(state["losses"])
        self._sizes.load_state_dict(state["sizes"])
        # One for all where sizes were not told when it was saved, since nothing compared by them.
        self._typical = np.broadcast_to(state["typical"].numpy(), self._typical.shape).copy()


def size_levels(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 256 sizes that stand for all, so that a sample's size takes one byte.

    Where there are more distinct sizes, those are taken that lie evenly in the logarithm of 1 +
    size, so that a level is off by a few percent at most, however few samples are that large. By
    quantiles of the samples a long tail of crowded images would share a few levels.

    Args:
        sizes: (N,) counts, all finite, 0 or more.

    Returns:
        The levels (L,), rising, and each sample's nearest one, (N,) uint8.
    """
    levels = np.unique(np.asarray(sizes, dtype=np.float64))
    if len(levels) > LEVELS:
        even = np.expm1(np.linspace(np.log1p(levels[0]), np.log1p(levels[-1]), LEVELS))
        levels = np.unique(levels[_nearest(levels, even)])
    return levels, _nearest(levels, sizes).astype(np.uint8)


def _nearest(levels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The place of the level (L,), rising, that is nearest to each size; shape as ``sizes``."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, sizes)


def _medians(sizes: np.ndarray, losses: np.ndarray, fewest: int) -> np.ndarray:
    """(2, G): the median size and loss of groups of neighbouring sizes, sizes rising.

    The size is the median as well: with a mean, a few crowded images among many that are not would
    move the size of their group but not its loss.

    Samples of one size are in one group; a group has at least ``fewest`` members, or all there are.
    """
    order = np.argsort(sizes, kind="stable")
    sizes, losses = sizes[order], losses[order]
    starts = [0]
    for edge in np.flatnonzero(np.diff(sizes)) + 1:
        if edge - starts[-1] >= fewest and len(sizes) - edge >= fewest:
            starts.append(int(edge))
    groups = zip(np.split(sizes, starts[1:]), np.split(losses, starts[1:]), strict=True)
    return np.array([(np.median(own), np.median(loss)) for own, loss in groups]).T


def _last_slope(sizes: np.ndarray, losses: np.ndarray) -> float:
    """By how much the typical loss rises with the size beyond the last of the knots (G,) each.

    A loss summed over objects is a constant and a share for each object, so it is a straight line
    in the size. The slope is taken over a factor of two in the size, for two neighbouring medians
    may differ by their noise alone. It is never negative, and never steeper than in proportion to
    the size; with one knot nothing is known of it and it is 0.
    """
    last = len(sizes) - 1
    if last == 0:
        return 0.0
    first = max(int(np.searchsorted(sizes, sizes[last] / 2.0, side="right")) - 1, 0)
    first = min(first, last - 1)
    slope = (losses[last] - losses[first]) / (sizes[last] - sizes[first])
    steepest = losses[last] / sizes[last] if sizes[last] > 0 else np.inf
    return float(min(max(slope, 0.0), steepest))
