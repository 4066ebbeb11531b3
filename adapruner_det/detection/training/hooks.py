"""When a guide hears of a step, and what of its run is saved and resumed.

Shape letters: N samples, B samples of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from torch import Tensor

from ...errors import DataError
from ...methods.base import Guide
from ...random_states import random_states, restore_random_states
from ..data.loader import PruningLoader
from ..evidence import BOX_SIGNALS
from .forward_state import dense_detectors, loss_normalizers, set_loss_normalizers
from .weighting import LossWeighting, Observation

logger = logging.getLogger(__name__)


class GuideHook(HookBase):
    """Tells the guide of each step's losses, after it, and of each epoch's end.

    An epoch ends with the step in which N more images have been read. Stateful: it has to stand
    before the checkpointer, or a checkpoint would hold the guide of the step before, and before
    hooks that run the model in training mode.

    Args:
        guide: hears of the losses, and of the signals it asks for.
        model: the wrapper that has them.
        loader: what the run reads; its seed is saved, for a run without one.
        save_periods: numbers of steps after whose multiples a checkpoint may be saved, besides
            those of the run's checkpointers. The state of several processes is gathered then, as
            only the main one saves.
        on_last_step: called once the guide has heard of the last step, before any other hook.
    """

    def __init__(
        self,
        guide: Guide,
        model: LossWeighting,
        loader: PruningLoader,
        save_periods: Sequence[int] = (),
        on_last_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.guide, self.seed = guide, loader.seed
        self._model, self._index = model, loader.index
        self._most = int(loader.index.samples.sizes.max(initial=0))
        self._dense = dense_detectors(model)
        self._batch_size = loader.batch_size
        self._random_states: dict[str, Any] | None = None
        self._idle_steps = 0
        self._save_periods = [period for period in save_periods if period > 0]
        self._steps = 0  # that the guide has heard of
        self._gathered: dict[str, Any] | None = None
        self._gathered_after = 0
        self._rank_states: list[dict[str, Any]] = []
        self._on_last_step = on_last_step
        self._checked = False

    def before_train(self) -> None:
        self._steps = self.trainer.start_iter
        own = _periods_of(self.trainer._hooks)
        # Detectron2 gives its checkpointers to the main process alone, and all have to gather.
        self._save_periods += [period for found in comm.all_gather(own) for period in found]
        self.gather()

    def before_step(self) -> None:
        if self._random_states is not None:
            restore_random_states(self._random_states)
            self._random_states = None

    def after_step(self) -> None:
        observed, self._model.observed = self._model.observed, None
        if observed is None:
            raise RuntimeError("the step computed no losses: the model in training must be ours")
        bad = self.guide.observe(observed.ids, observed.losses, **self._signals(observed))
        self._report(bad, idle=len(bad) == len(observed.ids))
        done = self._steps = self.trainer.iter + 1
        for epoch in range(self._epochs(done - 1), self._epochs(done)):
            total = self._epochs(self.trainer.max_iter)
            logger.info("Epoch %d of %d: %s", epoch + 1, total, self.guide.end_epoch())
        self._put_scalars()
        if done >= self.trainer.max_iter or any(done % n == 0 for n in self._save_periods):
            self.gather()
        if done >= self.trainer.max_iter:
            self._on_last_step()

    def state_dict(self) -> dict[str, Any]:
        """The guide, the seed, all random states and what of the losses is in no state dict.

        Raises:
            DataError: with several processes, of a step after which their state was not gathered.
        """
        if self._gathered is not None and self._gathered_after != self._steps:
            raise DataError(
                f"a hook saves a checkpoint after step {self._steps}, for which the several "
                "processes have not gathered the mask; let it save at multiples of "
                "SOLVER.CHECKPOINT_PERIOD or TEST.EVAL_PERIOD, or be a hooks.PeriodicCheckpointer"
            )
        return {
            "guide": self._gathered or self.guide.state_dict(),
            "seed": self.seed,
            "loss_normalizers": loss_normalizers(self._dense),
            "random_states": random_states(),
            "rank_random_states": self._rank_states,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.guide.load_state_dict(state["guide"] if "guide" in state else state["pruner"])  # 0.1
        self.seed = int(state["seed"])
        self._random_states = self._own_states(state)
        set_loss_normalizers(self._dense, state["loss_normalizers"])

    def gather(self) -> None:
        """Where several processes share the guide, put their state where one alone can save it.

        A collective call.
        """
        if comm.get_world_size() > 1:
            self._gathered, self._gathered_after = self.guide.state_dict(), self._steps
            self._rank_states = comm.all_gather(random_states())

    @staticmethod
    def _own_states(state: dict[str, Any]) -> dict[str, Any] | None:
        """Of this process. One that the run did not have before keeps what it was seeded with: two
        processes with one state would draw the same for ever."""
        rank, of_ranks = comm.get_rank(), state.get("rank_random_states", [])
        if rank == 0:
            return state["random_states"]
        return of_ranks[rank] if rank < len(of_ranks) else None

    def _epochs(self, steps: int) -> int:
        """How many epochs end within so many steps."""
        return steps * self._batch_size // len(self._index)

    def _signals(self, observed: Observation) -> dict[str, Tensor]:
        """(B, ...) of each signal that the guide asks for; NaN of an image that has none.

        A loss key that later batches lack, as a detector may that runs on one image at a time, is 0
        there, as it is for single images.
        """
        if not self.guide.signals:
            return {}
        sizes = self._index.samples.sizes
        given = {**observed.signals, **observed.boxes(sizes[observed.ids], self._most)}
        if not self._checked and torch.isfinite(observed.losses).any():
            require_signals(self.guide, given)
            self._checked = True
        nothing = torch.where(torch.isfinite(observed.losses), 0.0, float("nan"))
        wide = dict.fromkeys(BOX_SIGNALS, nothing[:, None].expand(-1, self._most))
        return {
            name: given.get(name, wide.get(name, nothing)) for name in sorted(self.guide.signals)
        }

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

    def _put_scalars(self) -> None:
        scalars = {f"adapruner/{name}": value for name, value in self.guide.scalars().items()}
        self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)


def _periods_of(own: Iterable[HookBase]) -> list[int]:
    """Of the checkpointers among hooks, in steps."""
    found = [h.period for h in own if isinstance(h, hooks.PeriodicCheckpointer)]
    found += [h._period for h in own if isinstance(h, hooks.BestCheckpointer)]
    return [period for period in found if period > 0]


def require_signals(guide: Guide, given: Iterable[str]) -> None:
    """Raise a DataError that says what is missing unless ``given`` has all that ``guide`` wants.

    Args:
        guide: stands in a training run.
        given: the loss keys of the detector.
    """
    given = set(given)
    if missing := sorted(guide.signals - given):
        raise DataError(
            f"{type(guide).__name__} asks for {', '.join(missing)}, which the detector does not "
            f"give; besides the loss it gives {', '.join(sorted(given))}"
        )


def renamed_hooks(state: Mapping[str, Any]) -> dict[str, Any]:
    """A trainer's state with hooks under the names they have now, from version 0.1 too."""
    hooks = {_HOOK_NAMES.get(name, name): own for name, own in state.get("hooks", {}).items()}
    return {**state, "hooks": hooks} if hooks else dict(state)


_HOOK_NAMES = {"PruningHook": "GuideHook"}
