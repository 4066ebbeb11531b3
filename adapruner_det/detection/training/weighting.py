"""The wrapper that weights a detector's losses by image, and keeps them for who guides the run.

Shape letters: B images of this rank's batch, G of them good: with a finite loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...methods.base import Guide
from ..evidence import BOX_SIGNALS, EVIDENCE, Evidence
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
        evidence: of the G good images' boxes, where it was looked for.
        good: (G,) the places of those in the batch.
    """

    ids: Tensor
    losses: Tensor
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    evidence: Evidence | None = None
    good: Sequence[int] = ()

    def boxes(self, sizes: np.ndarray, most: int) -> dict[str, Tensor]:
        """(B,) or (B, most) of each of :data:`.evidence.SIGNALS` and BOX_SIGNALS; NaN as above.

        What is of single boxes is NaN, too, where augmentation has taken some of them away: which
        of them are left is not known.

        Args:
            sizes: (B,) how many boxes each sample has.
            most: how many the sample has that has most.
        """
        if self.evidence is None:
            return {}
        found = {**self.evidence.signals(), **self.evidence.of_boxes(most)}
        found = {name: _spread(value, self.good, len(self.ids)) for name, value in found.items()}
        seen = torch.isfinite(found[BOX_SIGNALS[0]]).sum(1).cpu()
        for name in BOX_SIGNALS:
            found[name][seen != torch.from_numpy(sizes)] = float("nan")
        return found


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
        self.source.look = not EVIDENCE.isdisjoint(self.guide.signals)
        weights = self.guide.weights(ids)  # collective: before anything may raise
        losses, good, total = finite_losses(self.source.losses, self._state, batched_inputs)
        signals = {name: _spread(value, good, len(ids)) for name, value in losses.items()}
        evidence = self.source.evidence if good else None
        self.observed = Observation(ids, total, signals, evidence, good)
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


def _spread(losses: Tensor, good: Sequence[int], num_images: int) -> Tensor:
    """(B, ...) detached: the values (G, ...) in their places, NaN in the others."""
    if len(good) == num_images:
        return losses.detach()
    spread = losses.new_full((num_images, *losses.shape[1:]), float("nan"))
    if good:
        spread[list(good)] = losses.detach()
    return spread
