"""Which of three ways gives a detector's losses by image. B images of this rank's batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..evidence import Evidence, evidence_of, watching
from .serial import describe_cost, has_scalars, names_of_scalars, serial_losses
from .table import check_per_image, put_together, take_apart, unhandled

logger = logging.getLogger(__name__)

#: By the detector's method ``losses_per_image``; by its heads, taken apart; one image at a time.
OFFERED, APART, SERIAL = "offered", "apart", "serial"


class LossSource:
    """Gives the training losses of each image, in the first way that fits.

    Those are the detector's own where it has a method ``losses_per_image`` (batched_inputs → dict
    of (B,) tensors), else those of its heads taken apart, else those of a run on each image alone,
    which a warning announces.

    Args:
        detector: any of Detectron2's detectors, or one that is called like them.

    Attributes:
        way: ``offered``, ``apart`` or ``serial``.
        look: whether the annotated boxes are held against what the detector predicts.
        evidence: of the last batch, where ``look`` is set and the detector shows what it predicts.
    """

    look = False
    evidence: Evidence | None = None

    def __init__(self, detector: nn.Module) -> None:
        self._detector: Any = detector
        self.way = OFFERED if hasattr(detector, "losses_per_image") else APART
        if self.way == OFFERED:
            return
        if scalar := unhandled(detector):
            self.go_serial(f"the losses of {', '.join(scalar)} are those of the whole batch")
        elif not take_apart(detector):
            self.go_serial("it has none of Detectron2's heads")

    @property
    def shows(self) -> bool:
        """Whether the detector, or a head of it, shows what it predicts in training."""
        modules = [self._detector] if self.way == OFFERED else self._detector.modules()
        return self.way != SERIAL and any(getattr(m, "shows_predictions", False) for m in modules)

    def losses(
        self, batched_inputs: list[dict[str, Any]], take_back: Callable[[], None]
    ) -> dict[str, Tensor]:
        """The (B,) losses of each loss key, not detached; float32, or float64 where they are.

        Args:
            batched_inputs: B dicts, as the detector takes them.
            take_back: undoes what a forward moves besides; called where the step begins anew, as
                a loss of the detector's own forward shows only when that runs.

        Raises:
            ValueError: no losses, or one that is not one value per image; it names the key.
        """
        with watching(self.look) as shown:
            if self.way == SERIAL:
                losses = serial_losses(self._detector, batched_inputs)
            elif self.way == OFFERED:
                losses = self._detector.losses_per_image(batched_inputs)
            else:
                losses = self._detector(batched_inputs)
                if has_scalars(losses):
                    self.go_serial(f"{names_of_scalars(losses)} is one value for the whole batch")
                    take_back()
                    return self.losses(batched_inputs, take_back)
        check_per_image(losses, len(batched_inputs))
        # Of a cascade the last stage counts, whose boxes are the detector's.
        self.evidence = evidence_of(shown[-1], batched_inputs) if shown else None
        return {name: _at_least_float32(value) for name, value in losses.items()}

    def go_serial(self, why: str) -> None:
        """Take the serial way from now on; ``why`` completes "because ..." in the warning."""
        put_together(self._detector)
        self.way = SERIAL
        logger.warning(describe_cost(self._detector, why))


def _at_least_float32(losses: Tensor) -> Tensor:
    """Half precision, as under autocast, is too coarse to take logarithms and sums of."""
    return losses.to(torch.promote_types(losses.dtype, torch.float32))
