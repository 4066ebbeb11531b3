"""What a training forward moves besides its losses, so that it can be taken back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..per_image.serial import batch_norms


class Moment(NamedTuple):
    """Values to go back to: running averages, and the states of the random generators."""

    averages: list[Tensor]
    normalizers: dict[str, float]
    cpu: Tensor
    cuda: list[Tensor]


class ForwardState:
    """Running averages of a detector's batch norms and losses, and torch's random generators.

    Frozen batch norms and batch norms in evaluation mode are not among them.

    Args:
        detector: whose they are.
    """

    def __init__(self, detector: nn.Module) -> None:
        self._dense = dense_detectors(detector)
        self._norms = list(batch_norms(detector).values())

    def synchronised(self) -> bool:
        """Whether a batch norm gathers statistics from all processes."""
        return any("Sync" in type(norm).__name__ for norm in self._training())

    def now(self) -> Moment:
        """The values now, for :meth:`restore`."""
        found = self._averages()
        # In one operation: a deep network has a hundred of them.
        averages = list(torch.cat(found).split([len(a) for a in found])) if found else []
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        normalizers = loss_normalizers(self._dense)
        return Moment(averages, normalizers, torch.get_rng_state(), cuda)

    @torch.no_grad()
    def restore(self, moment: Moment) -> None:
        """Set the values that :meth:`now` gave."""
        for average, value in zip(self._averages(), moment.averages, strict=True):
            average.copy_(value)
        set_loss_normalizers(self._dense, moment.normalizers)
        torch.set_rng_state(moment.cpu)
        if moment.cuda:
            torch.cuda.set_rng_state_all(moment.cuda)

    def _averages(self) -> list[Tensor]:
        found = [a for norm in self._training() for a in (norm.running_mean, norm.running_var)]
        return [average for average in found if average is not None]

    def _training(self) -> list[_BatchNorm]:
        return [norm for norm in self._norms if norm.training]


def dense_detectors(model: nn.Module) -> dict[str, DenseDetector]:
    """RetinaNets and FCOSs in ``model``, by module name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, DenseDetector)}


def loss_normalizers(dense: dict[str, DenseDetector]) -> dict[str, float]:
    """The moving average that each divides its losses by; before the first step it has none.

    Detectron2 keeps it as a plain attribute, so that no state dict has it.
    """
    return {n: float(m.loss_normalizer) for n, m in dense.items() if hasattr(m, "loss_normalizer")}


def set_loss_normalizers(dense: dict[str, DenseDetector], values: dict[str, float]) -> None:
    """Set what :func:`loss_normalizers` gave; one without a value has none again."""
    for name, detector in dense.items():
        vars(detector).pop("loss_normalizer", None)
        if name in values:
            detector.loss_normalizer = values[name]
