"""The wrapper that weights a detector's losses by image, and keeps them for who guides the run.

Shape letters: B images of this rank's batch, G of them good: with a finite loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...methods.base import Guide
from ..per_image import LossSource
from .forward_state import ForwardState
from .recovery import finite_losses


@dataclass(frozen=True)
class Observation:
    """What the hook takes from the wrapper after a step.

    Attributes:
        ids: (B,) int64 sample indices, on the CPU.
        losses: (B,) task losses before any weighting, detached, on the model's device; float32, or
            float64 where the model's are. NaN or infinite where an image is not good.
        signals: (B,) of each loss key of the detector, likewise; NaN where an image is not good.
    """

    ids: Tensor
    losses: Tensor
    signals: Mapping[str, Tensor] = field(default_factory=dict)


class LossWeighting(nn.Module):
    """A detector whose training losses are Σ over its loss keys of mean_i w_i·l_i (Eq. 4).

    In training it returns Detectron2's own loss keys; in evaluation it is the detector. Its state
    dict is the detector's, so what a pruning run saves loads into the plain detector and back. With
    weights of one it is the detector in training too.

    Args:
        detector: any of Detectron2's detectors, or one that is called like them.

    Attributes:
        guide: gives the weights; to be set before training.
        observed: of the last step, for the hook.
        source: which way gives the losses by image.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.guide: Guide | None = None
        self.observed: Observation | None = None
        self.source = LossSource(detector)
        self._state = ForwardState(detector)

    @property
    def device(self) -> torch.device:
        """The detector's device."""
        return next(self.detector.parameters()).device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's dict of scalar losses in training, its outputs in evaluation."""
        if not self.training:
            return self.detector(batched_inputs)
        if self.guide is None:
            raise RuntimeError("set .guide before training: PruningTrainer does")
        ids = torch.tensor([x["sample_index"] for x in batched_inputs])
        weights = self.guide.weights(ids)  # collective: before anything may raise
        losses, good, total = finite_losses(self.source.losses, self._state, batched_inputs)
        signals = {name: _spread(value, good, len(ids)) for name, value in losses.items()}
        self.observed = Observation(ids, total, signals)
        if not good:
            return dict.fromkeys(losses, self._nothing())
        weights = weights[good].to(total.device)
        return {name: (weights * value).mean() for name, value in losses.items()}

    def _nothing(self) -> Tensor:
        """A loss of 0 whose gradient is 0 for every parameter, and NaN once one of them is."""
        return torch.stack([(p * 0).sum() for p in self.parameters() if p.requires_grad]).sum()

    # Transparent to checkpoints: no prefix.
    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.detector.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.detector.load_state_dict(*args, **kwargs)


def _spread(losses: Tensor, good: list[int], num_images: int) -> Tensor:
    """(B,) detached: the losses (G,) in their places, NaN in the others."""
    if len(good) == num_images:
        return losses.detach()
    spread = losses.new_full((num_images,), float("nan"))
    if good:
        spread[good] = losses.detach()
    return spread
