"""When the mask moves, and what of a pruning run is saved and resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.engine import HookBase

from ...core import AdaPruner, Status
from ...random_states import random_states, restore_random_states
from ..data.loader import PruningLoader
from .forward_state import dense_detectors, loss_normalizers, set_loss_normalizers
from .weighting import LossWeighting

logger = logging.getLogger(__name__)


class PruningHook(HookBase):
    """Moves the mask after each step, by the losses of that step.

    An epoch ends with the step in which N more images have been read. Stateful: it has to stand
    before the checkpointer, or a checkpoint would hold the mask of the step before, and before
    hooks that run the model in training mode.

    Args:
        pruner: the mask.
        model: the wrapper that has the losses.
        loader: what the run reads; its seed is saved, for a run without one.
        save_periods: numbers of steps after whose multiples a checkpoint may be saved. The mask of
            several processes is gathered then, as only the main one saves.
        on_last_step: called once the mask has moved for the last time, before any other hook.
    """

    def __init__(
        self,
        pruner: AdaPruner,
        model: LossWeighting,
        loader: PruningLoader,
        save_periods: Sequence[int] = (),
        on_last_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.pruner, self.seed = pruner, loader.seed
        self._model, self._index = model, loader.index
        self._dense = dense_detectors(model)
        self._batch_size = loader.batch_size
        self._random_states: dict[str, Any] | None = None
        self._idle_steps = 0
        self._save_periods = [period for period in save_periods if period > 0]
        self._gathered: dict[str, Any] | None = None
        self._on_last_step = on_last_step

    def before_train(self) -> None:
        self.gather()

    def before_step(self) -> None:
        if self._random_states is not None:
            restore_random_states(self._random_states)
            self._random_states = None

    def after_step(self) -> None:
        observed, self._model.observed = self._model.observed, None
        if observed is None:
            raise RuntimeError("the step computed no losses: the model in training must be ours")
        bad = self.pruner.observe(observed.ids, observed.losses)
        self._report(bad, idle=len(bad) == len(observed.ids))
        while self._images_read() >= (self.pruner.epoch + 1) * len(self._index):
            self._log_epoch(self.pruner.end_epoch())
        self._put_scalars()
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter or any(done % n == 0 for n in self._save_periods):
            self.gather()
        if done >= self.trainer.max_iter:
            self._on_last_step()

    def state_dict(self) -> dict[str, Any]:
        """The mask, the seed, all random states and what of the losses is in no state dict."""
        return {
            "pruner": self._gathered or self.pruner.state_dict(),
            "seed": self.seed,
            "loss_normalizers": loss_normalizers(self._dense),
            "random_states": random_states(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pruner.load_state_dict(state["pruner"])
        self.seed = int(state["seed"])
        self._random_states = state["random_states"]
        set_loss_normalizers(self._dense, state["loss_normalizers"])

    def gather(self) -> None:
        """Where several processes share the mask, put its state where one alone can save it.

        A collective call.
        """
        if self.pruner.mask.world > 1:
            self._gathered = self.pruner.state_dict()

    def _report(self, bad: np.ndarray, idle: bool) -> None:
        """Name the images ``bad`` whose loss is not finite; give up after an epoch of idle steps.

        Raises:
            FloatingPointError: as Detectron2 does for a run that has diverged.
        """
        self._idle_steps = self._idle_steps + 1 if idle else 0
        if not len(bad):
            return
        logger.warning(
            "Iteration %d: the loss of %d image(s) is NaN or infinite, first %s; "
            "they move neither the mask nor the model.",
            self.trainer.iter,
            len(bad),
            ", ".join(self._index.keys[i] for i in bad[:3]),
        )
        if self._idle_steps * self._batch_size >= len(self._index):
            raise FloatingPointError(
                f"for {self._idle_steps} steps in a row all losses were NaN or infinite: the "
                "run has diverged; lower SOLVER.BASE_LR or set SOLVER.CLIP_GRADIENTS.ENABLED"
            )

    def _images_read(self) -> int:
        return (self.trainer.iter + 1) * self._batch_size

    def _put_scalars(self) -> None:
        status = self.pruner.status()
        self.trainer.storage.put_scalars(
            **{
                "adapruner/soft_ratio": status.ratio,
                "adapruner/alpha": status.alpha,
                "adapruner/multiplier": status.multiplier,
                "adapruner/binary_share": status.binary_share,
            },
            smoothing_hint=False,
        )

    def _log_epoch(self, status: Status) -> None:
        phase = "warm-up" if self.pruner.schedule.is_warmup(status.epoch) else "pruning"
        logger.info(
            "Epoch %d of %d (%s): soft ratio %.4f of %.4f, α %.2f, multiplier %.4f, %.1f%% binary",
            status.epoch + 1,
            self.pruner.schedule.epochs,
            phase,
            status.ratio,
            self.pruner.keep_ratio,
            status.alpha,
            status.multiplier,
            100 * status.binary_share,
        )
