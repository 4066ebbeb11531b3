"""InfoBatch: a training that leaves out well-learnt samples anew in every epoch.

Qin et al. 2024, *InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning*. It makes
no selection, so it is no method but a reference beside them. Shape letters: N samples, B samples of
a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import Exchange
from .base import register_dynamic
from .recorder import as_array

#: r: of the well-learnt samples the part that is left out of an epoch, and δ: of the epochs the
#: part that any are left out of.
LEFT_OUT, PRUNED_EPOCHS = 0.5, 0.875


@register_dynamic("infobatch")
class InfoBatch:
    """Weights 0, 1/(1 − r) and 1 in place of a loader that leaves samples out.

    Before each epoch, of the samples whose last loss is below the mean of all N, ⌊(1 − r)·n⌋ of n
    are drawn to stay, with the weight 1/(1 − r), and the others have the weight 0; all else has 1.
    In the first epoch no loss is known, and in the last eighth all samples count alike. The loss of
    one that is left out stays what it was: InfoBatch would not see it.

    So a training has InfoBatch's expected gradient at every step, and not its time: what is left
    out is read and computed like the rest. Nor are its batches filled up from what is left, so it
    takes as many steps as a training on all samples.

    Args:
        num_samples: N.
        epochs: of the whole training.
        seed: of the draws.
        exchange: the processes of the run, which all draw the same.
    """

    signals: frozenset[str] = frozenset()

    def __init__(
        self, num_samples: int, epochs: int, seed: int, exchange: Exchange | None = None
    ) -> None:
        self._epochs, self._seed, self._exchange = epochs, seed, exchange or Exchange()
        self._losses = np.full(num_samples, np.inf)
        self._weights = np.ones(num_samples, dtype=np.float32)
        self._epoch, self._left_out = 0, 0

    @property
    def images(self) -> int:
        """How many samples had a weight, on the mean of the epochs that have ended."""
        return round(len(self._weights) - self._left_out / max(self._epoch, 1))

    def weights(self, ids: Tensor | np.ndarray) -> Tensor:
        """(B,) float32 of this epoch."""
        return torch.from_numpy(self._weights[np.asarray(as_array(ids), dtype=np.int64)])

    def observe(
        self, ids: Tensor | np.ndarray, losses: Tensor | np.ndarray, **signals: Any
    ) -> np.ndarray:
        """Take the losses (B,) of what is not left out; the ids whose loss is not finite."""
        own = np.asarray(as_array(ids), dtype=np.int64)
        loss = np.asarray(as_array(losses), dtype=np.float64)
        everyone, _ = self._exchange.gather(own)
        values, _ = self._exchange.gather(loss)
        heard = np.isfinite(values) & (self._weights[everyone] > 0)
        self._losses[everyone[heard]] = values[heard]
        return own[~np.isfinite(loss)]

    def end_epoch(self) -> str:
        """Draw what the next epoch leaves out."""
        out = int(np.count_nonzero(self._weights == 0))
        self._left_out += out
        self._epoch += 1
        self._weights[:] = 1.0
        # Epochs count from 1, as the paper's code has it: t ≤ δ·E.
        if self._epoch + 1 <= PRUNED_EPOCHS * self._epochs:
            self._draw()
        return f"{out} samples were left out"

    def _draw(self) -> None:
        known = np.isfinite(self._losses)
        learnt = np.flatnonzero(known)[:0]
        if known.any():
            learnt = np.flatnonzero(self._losses < self._losses[known].mean())
        rng = np.random.default_rng([self._seed, self._epoch])
        stays = rng.choice(learnt, int((1.0 - LEFT_OUT) * len(learnt)), replace=False)
        self._weights[learnt] = 0.0
        self._weights[stays] = 1.0 / (1.0 - LEFT_OUT)

    def scalars(self) -> Mapping[str, float]:
        """The share that is left out now."""
        return {"left_out": float(np.mean(self._weights == 0))}

    def state_dict(self) -> dict[str, Any]:
        """Losses, weights, and how far the training is."""
        return {
            "losses": torch.from_numpy(self._losses.copy()),
            "weights": torch.from_numpy(self._weights.copy()),
            "epoch": self._epoch,
            "left_out": self._left_out,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: a state of other samples.
        """
        if len(state["losses"]) != len(self._losses):
            raise ValueError("the state is of other samples")
        self._losses = state["losses"].numpy().copy()
        self._weights = state["weights"].numpy().copy()
        self._epoch, self._left_out = int(state["epoch"]), int(state["left_out"])
