"""The wrapper that weights a detector's per-image losses.

Shape letters: B images of this rank's batch, G of them good: with a finite loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from ...core import AdaPruner
from ..per_image import LossSource
from .forward_state import ForwardState, Moment


@dataclass(frozen=True)
class Observation:
    """What the hook takes from the wrapper after a step.

    Attributes:
        ids: (B,) int64 sample indices, on the CPU.
        losses: (B,) task losses before any weighting, detached, on the model's device; float32, or
            float64 where the model's are.
    """

    ids: Tensor
    losses: Tensor


class PrunedDetector(nn.Module):
    """A detector whose training losses are Σ over its loss keys of mean_i w_i·l_i (Eq. 4).

    In training it returns Detectron2's own loss keys; in evaluation it is the detector. Its state
    dict is the detector's, so what a pruning run saves loads into the plain detector and back.

    The per-image losses are those that :class:`LossSource` finds.

    Args:
        detector: any of Detectron2's detectors, or one that is called like them.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.pruner: AdaPruner | None = None
        self.observed: Observation | None = None
        self._state = ForwardState(detector)
        self.source = LossSource(detector)

    @property
    def device(self) -> torch.device:
        """The detector's device."""
        return next(self.detector.parameters()).device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's dict of scalar losses in training, its outputs in evaluation."""
        if not self.training:
            return self.detector(batched_inputs)
        if self.pruner is None:
            raise RuntimeError("set .pruner before training: PruningTrainer does")
        ids = torch.tensor([x["sample_index"] for x in batched_inputs])
        weights = self.pruner.weights(ids)  # collective: before anything may raise
        losses, good, total = self._finite_losses(batched_inputs)
        self.observed = Observation(ids, total)
        if not good:
            return dict.fromkeys(losses, self._nothing())
        weights = weights[good].to(total.device)
        return {name: (weights * value).mean() for name, value in losses.items()}

    def _finite_losses(
        self, batched_inputs: list[dict[str, Any]]
    ) -> tuple[dict[str, Tensor], list[int], Tensor]:
        """The losses of the images whose losses are finite.

        A NaN or infinite loss must not enter the sum even with weight 0: its gradient would still
        be NaN. So the step is computed anew without its image. Where batch norms carry it to all
        images of the batch, the guilty are those that are not finite alone.

        Returns:
            (G,) losses per key, the places of the G good images in the batch, and the (B,) totals
            over all keys, NaN or infinite where an image is not good. No good images: the step
            counts for nothing.
        """
        before = self._state.now()
        losses, total, error = self._attempt(batched_inputs, before)
        if torch.isfinite(total).all():
            return losses, list(range(len(total))), total
        if comm.get_world_size() > 1 and self._state.synchronised():
            good = []  # the other processes would wait for ever in a second forward
        else:
            good = [i for i, x in enumerate(batched_inputs) if self._is_good(total[i], x, before)]
        if 0 < len(good) < len(total):
            again, part, _ = self._attempt([batched_inputs[i] for i in good], before)
            if torch.isfinite(part).all():
                total = torch.full_like(total, float("nan"), dtype=part.dtype, device=part.device)
                total[good] = part
                return again, good, total
        if error is not None:
            raise error
        return losses, [], total

    def _attempt(
        self, batched_inputs: list[dict[str, Any]], before: Moment
    ) -> tuple[dict[str, Tensor], Tensor, FloatingPointError | None]:
        """The (B,) losses per key, and their (B,) totals: NaN with Detectron2's error, if any.

        ``before`` is the state it starts from, and returns to unless all is finite.
        """
        try:
            losses = self.source.losses(batched_inputs, lambda: self._state.restore(before))
        except FloatingPointError as error:  # of its RPN, for boxes or scores that are not finite
            self._state.restore(before)
            return {}, torch.full((len(batched_inputs),), float("nan")), error
        total = torch.stack([value.detach() for value in losses.values()]).sum(dim=0)
        if not torch.isfinite(total).all():
            self._state.restore(before)
        return losses, total, None

    def _is_good(self, total: Tensor, sample: dict[str, Any], before: Moment) -> bool:
        """Whether a sample's loss is finite, in its batch or alone."""
        if not torch.isfinite(total):
            _, total, _ = self._attempt([sample], before)
            self._state.restore(before)
        return bool(torch.isfinite(total).all())

    def _nothing(self) -> Tensor:
        """A loss of 0 whose gradient is 0 for every parameter, and NaN once one of them is."""
        return torch.stack([(p * 0).sum() for p in self.parameters() if p.requires_grad]).sum()

    # Transparent to checkpoints: no prefix.
    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.detector.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.detector.load_state_dict(*args, **kwargs)
