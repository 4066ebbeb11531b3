"""A guide that changes nothing and writes down what it hears, for all methods that read a training.

Shape letters: N samples, B samples of a batch, E epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import Exchange

LOSS = "loss"


class Recorder:
    """Keeps the loss, and each signal asked for, of every sample in every epoch.

    A sample that is seen twice in an epoch has its last value; one that is not seen, or whose loss
    is not finite, has NaN.

    Args:
        num_samples: N.
        signals: what to keep besides the loss.
        exchange: the processes of the run, all of which record everything.
    """

    def __init__(
        self, num_samples: int, signals: Iterable[str] = (), exchange: Exchange | None = None
    ) -> None:
        self.num_samples = num_samples
        self.signals = frozenset(signals) - {LOSS}
        self._exchange = exchange or Exchange()
        self._done: dict[str, list[np.ndarray]] = {
            name: [] for name in (LOSS, *sorted(self.signals))
        }
        self._now: dict[str, np.ndarray] = {}

    @property
    def epochs(self) -> int:
        """E, of those that have ended."""
        return len(self._done[LOSS])

    def weights(self, ids: Tensor | np.ndarray) -> Tensor:
        """Ones: a recorded training is a plain one. (B,) float32."""
        return torch.ones(len(ids))

    def observe(
        self, ids: Tensor | np.ndarray, losses: Tensor | np.ndarray, **signals: Any
    ) -> np.ndarray:
        """Write down the losses (B,) and (B, ...) of each signal; the ids whose loss is not finite.

        Raises:
            ValueError: a signal that is missing, or of another length than the ids.
        """
        own = np.asarray(as_array(ids), dtype=np.int64)
        given = {
            LOSS: as_array(losses),
            **{name: as_array(value) for name, value in signals.items()},
        }
        for name in self._done:
            if name not in given or len(given[name]) != len(own):
                found = "nothing" if name not in given else f"shape {given[name].shape}"
                raise ValueError(f"the signal {name!r} of {len(own)} samples came with {found}")
        bad = ~np.isfinite(given[LOSS].astype(np.float64))
        everyone = self._gathered(own)
        for name in self._done:
            values = self._gathered(np.where(_column(bad, given[name]), np.nan, given[name]))
            if name not in self._now:
                shape = (self.num_samples, *values.shape[1:])
                self._now[name] = np.full(shape, np.nan, dtype=np.float32)
            self._now[name][everyone] = values
        return own[bad]

    def end_epoch(self) -> str:
        """Close the epoch, and say how far the record goes."""
        for name, epochs in self._done.items():
            if name in self._now:
                epochs.append(self._now.pop(name))
            else:
                shape = epochs[-1].shape if epochs else (self.num_samples,)
                epochs.append(np.full(shape, np.nan, dtype=np.float32))
        return f"recorded {', '.join(sorted(self._done))} of {self.epochs} epoch(s)"

    def scalars(self) -> Mapping[str, float]:
        """Nothing that a curve would show."""
        return {}

    def signal(self, name: str) -> np.ndarray:
        """(E, N, ...) float32.

        Raises:
            KeyError: a signal that is not kept.
        """
        epochs = self.by_epoch(name)
        return np.stack(epochs) if epochs else np.empty((0, self.num_samples), dtype=np.float32)

    def by_epoch(self, name: str) -> Sequence[np.ndarray]:
        """E of (N, ...) float32, which are no copies: a signal may take most of the memory.

        Raises:
            KeyError: a signal that is not kept.
        """
        return self._done[name]

    def state_dict(self) -> dict[str, Any]:
        """What was recorded, the unfinished epoch too; nothing of it is copied but the latter."""
        return {
            "num_samples": self.num_samples,
            "done": {
                name: [torch.from_numpy(epoch) for epoch in epochs]
                for name, epochs in self._done.items()
            },
            "now": {name: torch.from_numpy(value.copy()) for name, value in self._now.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: a record of other signals or other samples.
        """
        done = {name: [epoch.numpy() for epoch in epochs] for name, epochs in state["done"].items()}
        if done.keys() != self._done.keys() or state["num_samples"] != self.num_samples:
            raise ValueError("the record is of other signals or other samples")
        self._done = done
        self._now = {name: value.numpy().copy() for name, value in state["now"].items()}

    def _gathered(self, values: np.ndarray) -> np.ndarray:
        """(B, ...) of this process → those of all processes, by rank."""
        if self._exchange.world == 1:
            return values
        wide = values if values.dtype == np.int64 else values.astype(np.float64)
        everyone, _ = self._exchange.gather(np.moveaxis(wide, 0, -1))
        return np.moveaxis(everyone, -1, 0)


def as_array(values: Any) -> np.ndarray:
    """``values`` of a batch, on the CPU and without a gradient."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _column(bad: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``bad`` (B,) with as many axes as ``values`` (B, ...)."""
    return bad.reshape(len(bad), *(1,) * (values.ndim - 1))
