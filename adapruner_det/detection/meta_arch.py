"""The wrapper that weights a detector's per-image losses.

Shape letters: B images of this rank's batch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core import AdaPruner
from .per_image import check_per_image, take_apart, unhandled

logger = logging.getLogger(__name__)


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

    The per-image losses are the detector's own where it has a method ``losses_per_image``
    (batched_inputs → dict of (B,) tensors), else those of its heads taken apart.

    Args:
        detector: any of Detectron2's detectors that ``per_image`` knows, or one with
            ``losses_per_image``.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.pruner: AdaPruner | None = None
        self.observed: Observation | None = None
        self._offers_losses = hasattr(detector, "losses_per_image")
        if not self._offers_losses:
            take_apart(detector)
            scalar = unhandled(detector)
            if scalar:
                raise ValueError(
                    f"the training losses of {', '.join(scalar)} cannot be told apart by image; "
                    "give the detector a method losses_per_image(batched_inputs) that returns a "
                    "dict of (B,) tensors"
                )

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
        compute = self.detector.losses_per_image if self._offers_losses else self.detector
        losses = compute(batched_inputs)
        check_per_image(losses, len(batched_inputs))
        losses = {name: _at_least_float32(value) for name, value in losses.items()}
        ids = torch.tensor([x["sample_index"] for x in batched_inputs])
        total = torch.stack([value.detach() for value in losses.values()]).sum(dim=0)
        self.observed = Observation(ids, total)
        weights = self.pruner.weights(ids).to(total.device)  # collective: before any return
        if not torch.isfinite(total).all():
            return dict.fromkeys(losses, self._nothing())
        return {name: (weights * value).mean() for name, value in losses.items()}

    def _nothing(self) -> Tensor:
        """A loss of 0 whose gradient is 0 for every parameter, and NaN once one of them is.

        A NaN or infinite loss must not enter the sum even with weight 0: its gradient would still
        be NaN. So its whole batch is left out.
        """
        return torch.stack([(p * 0).sum() for p in self.parameters() if p.requires_grad]).sum()

    # Transparent to checkpoints: no prefix.
    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.detector.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.detector.load_state_dict(*args, **kwargs)


def _at_least_float32(losses: Tensor) -> Tensor:
    """Half precision, as under autocast, is too coarse to take logarithms and sums of."""
    return losses.to(torch.promote_types(losses.dtype, torch.float32))
