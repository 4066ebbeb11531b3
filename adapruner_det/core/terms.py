"""What pushes a sample out, one small class a term.

Shape letters: N samples, B samples of a batch, C classes.

A term says which columns it needs: those that it learns from the visits, and those that are given
with the samples. Numbers in [0, 1] are stored in 16 bits. :mod:`.inclusion` is made of them.

Sources: Cho et al., "Lightweight Dataset Pruning without Full Training via Example Difficulty and
Prediction Uncertainty" (DUAL: w and B); Yellott 1977 and Kool et al. 2019 (Gumbel numbers and draws
without replacement).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .hashing import mix
from .neighbours import COUNTED, Neighbours
from .objectives import State

if TYPE_CHECKING:
    from .mask import SampleMask

UNIT = 65535.0  # a share in [0, 1] in 16 bits


def as_share(stored: np.ndarray) -> np.ndarray:
    """What a 16-bit column holds, in [0, 1]."""
    return np.asarray(stored, dtype=np.float64) / UNIT


def stored_share(share: np.ndarray) -> np.ndarray:
    """As a 16-bit column holds it: the nearest of 65,536 steps, as float64."""
    return np.rint(np.clip(share, 0.0, 1.0) * UNIT)


def running_mean(mean: np.ndarray, value: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of ``count`` + 1 values, of which the first ``count`` have the mean ``mean``."""
    return mean + (value - mean) / (count + 1.0)


class Draw:
    """A Gumbel number for each sample, from its digest and the run's seed; 2 bytes.

    It depends on nothing else: not on N, nor on the order of the samples, nor on the processes.

    Args:
        digests: (N,) uint64, a hash of each sample's key.
        seed: of the run.
    """

    given: Mapping[str, Any] = {"draw": np.uint16}

    def __init__(self, digests: np.ndarray, seed: int) -> None:
        mixed = np.asarray(digests).astype(np.uint64) ^ mix(np.array([seed], dtype=np.uint64))
        self.stored = (mix(mixed) >> np.uint64(48)).astype(np.uint16)

    @staticmethod
    def uniform(stored: np.ndarray) -> np.ndarray:
        """In (0, 1): the middle of each of the 65,536 steps."""
        return (np.asarray(stored, dtype=np.float64) + 0.5) / (UNIT + 1.0)

    @staticmethod
    def gumbel(stored: np.ndarray) -> np.ndarray:
        """g = −log(−log u), from −2.5 to 11.8."""
        return -np.log(-np.log(Draw.uniform(stored)))


class FaultGate:
    """φ: samples against whose annotation the evidence of many visits speaks; 2 bytes.

    The fault signal is averaged over the first visits, when a model has not yet learnt its training
    set by heart. Where annotations are wrong, their averages form a heap of their own at the upper
    end; where none are, the averages just thin out, and what lies above ½ is a hard image. So the
    gate opens only if more samples lie above :data:`CLEAR` than between ½ and it, and then takes
    all above ½.

    Where the evidence is the strongest of many parts of a sample, as of the boxes of an image, it
    lies above ½ by chance in most samples. A ``limit`` of its own, which sound samples seldom
    reach, then takes the place of ½, and the gate is always open.

    Args:
        visits: how many of them count.
        limit: what a fault lies above; None finds out whether there are faults at all.
    """

    learnt: Mapping[str, Any] = {"fault": np.uint16}
    signals = frozenset({"fault"})

    EVEN = 0.5  # another answer is as likely as the given one
    CLEAR = 0.7  # another answer is clearly more likely

    def __init__(self, visits: int, limit: float | None = None) -> None:
        self.visits, self._limit = visits, limit
        self.open = limit is not None

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """The running mean over the first visits."""
        if "fault" not in signals:
            return {"fault": state["fault"]}
        mean = running_mean(as_share(state["fault"]), signals["fault"], seen)
        return {"fault": np.where(seen < self.visits, stored_share(mean), state["fault"])}

    def flagged(self, stored: np.ndarray) -> np.ndarray:
        """φ = 1, bool, shape as ``stored``."""
        limit = self.EVEN if self._limit is None else self._limit
        return self.open & (as_share(stored) > limit)

    def end_epoch(self, mask: SampleMask) -> None:
        """Open or close the gate."""
        if self._limit is not None:
            return
        fault = as_share(mask.column("fault"))
        counts = [np.sum(fault > self.CLEAR), np.sum((fault > self.EVEN) & (fault <= self.CLEAR))]
        clear, doubtful = mask.exchange.sum(np.array(counts, dtype=np.float64))
        self.open = bool(clear > doubtful)


class Redundancy:
    """M, how often a sample is there, and which of twins may go first; 1 byte.

    Of twins one stays ahead of the others: while the mask learns it is the one with the largest
    Gumbel number among those that are not flagged, at the cut the one of least pressure. The others
    go before any sample that has no twin.

    Args:
        neighbours: of all N samples.
        draw: the Gumbel numbers.
    """

    given: Mapping[str, Any] = {"copies": np.uint8}
    STEPS = 127.0  # of M from 1 to 11; the highest bit says that a twin stays in its place

    def __init__(self, neighbours: Neighbours, draw: Draw) -> None:
        self.twins, self._draw = neighbours.twins(), draw
        steps = np.rint((neighbours.copies - 1.0) / COUNTED * self.STEPS).astype(np.uint8)
        self.stored = steps | self._spare(np.zeros(len(steps), dtype=bool))

    def _spare(self, flagged: np.ndarray) -> np.ndarray:
        """(N,) uint8: the highest bit, set where a twin stays in a sample's place."""
        stays = self.twins.representatives(flagged - Draw.uniform(self._draw.stored))
        return (~stays).astype(np.uint8) << 7

    def end_epoch(self, mask: SampleMask, flagged: np.ndarray) -> None:
        """Let no twin that is flagged stay in the place of one that is not.

        Args:
            mask: whose column ``copies`` is set anew.
            flagged: (N,) bool, of all samples.
        """
        copies = mask.column("copies")
        copies[:] = (copies & 127) | self._spare(flagged)[mask.rank :: mask.world]

    @classmethod
    def copies(cls, stored: np.ndarray) -> np.ndarray:
        """M, from 1 to 11."""
        return 1.0 + (np.asarray(stored, dtype=np.int64) & 127) / cls.STEPS * COUNTED

    @staticmethod
    def spare(stored: np.ndarray) -> np.ndarray:
        """Whether a twin of it stays in its place, bool."""
        return np.asarray(stored, dtype=np.int64) > 127


class Uncertainty:
    """w and p of DUAL from moments kept per visit; 8 bytes.

    The visits are cut into windows. At the end of each the confidence's standard deviation in it,
    times one minus its mean, enters the mean of them, which is w; p is the mean confidence.

    Args:
        visits: how many count, a multiple of ``window``.
        window: visits of a window.
    """

    learnt: Mapping[str, Any] = {
        "window_mean": np.uint16,
        "window_spread": np.uint16,
        "uncertainty": np.uint16,
        "confidence": np.uint16,
    }
    signals = frozenset({"confidence"})

    def __init__(self, visits: int, window: int) -> None:
        self.visits, self.window = visits, window

    @classmethod
    def of_run(cls, epochs: int) -> Uncertainty:
        """Windows of 10 over the first half of a run, at most 30 visits; of 5 below 30 epochs, over
        15 visits where there are as many. Whole windows alone, so 10 visits at 30 to 39 epochs."""
        window = 10 if epochs >= 30 else 5
        visits = min(max(epochs // 2, 15), 30, epochs) // window * window
        return cls(max(visits, window), window)

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """One visit more, and where it ends a window one more value in w."""
        q = signals["confidence"]
        place = seen % self.window  # in the window, from 0
        old = np.where(place > 0, as_share(state["window_mean"]), 0.0)
        # The variance in the window is at most 1/4, and is stored as four times itself.
        spread = np.where(place > 0, as_share(state["window_spread"]) / 4.0, 0.0)
        mean = running_mean(old, q, place)
        spread = running_mean(spread, (q - old) * (q - mean), place)  # Welford's
        value = np.sqrt(np.maximum(spread, 0.0)) * (1.0 - mean)
        before = as_share(state["uncertainty"])
        w = np.where(
            place == self.window - 1, running_mean(before, value, seen // self.window), before
        )
        found = {
            "window_mean": mean,
            "window_spread": 4.0 * spread,
            "uncertainty": w,
            "confidence": running_mean(as_share(state["confidence"]), q, seen),
        }
        counts = seen < self.visits
        return {
            name: np.where(counts, stored_share(share), state[name])
            for name, share in found.items()
        }


def beta_powers(middle: float, keep_ratio: float, power: float = 4.0) -> tuple[float, float]:
    """(a − 1, b − 1) of DUAL's Beta density for a cut to ``keep_ratio``, tempered at light cuts.

    b = 15·(1 − μ)·(1 − r^c) and a = 16 − b, with r the dropped share: the deeper the cut, the
    nearer to 1 the confidence that is preferred. The density is narrow; where most samples stay it
    would send away hard and easy ones alike. So both powers are multiplied by (r / 0.7)², at most
    1: from 30% kept on it is DUAL's, and at 90% next to nothing is left of it.

    Args:
        middle: μ, the mean confidence of the samples of largest w, in [0, 1].
        keep_ratio: c_r.
        power: c.
    """
    dropped = 1.0 - keep_ratio
    b = 15.0 * (1.0 - middle) * (1.0 - dropped**power)
    temper = min(1.0, (dropped / 0.7) ** 2)
    return temper * (15.0 - b), temper * (b - 1.0)


def beta_weight(confidence: np.ndarray, powers: tuple[float, float]) -> np.ndarray:
    """The Beta density, divided by its largest value for p in [0.001, 0.999]. Shape as given."""
    grid = np.linspace(1e-3, 1.0 - 1e-3, 999)

    def log_density(p: np.ndarray) -> np.ndarray:
        return powers[0] * np.log(p) + powers[1] * np.log1p(-p)

    p = np.clip(confidence, grid[0], grid[-1])
    return np.minimum(np.exp(log_density(p) - log_density(grid).max()), 1.0)
