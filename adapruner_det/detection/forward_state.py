"""What a training forward moves besides its losses, so that it can be taken back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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
        self._detector = detector
        self._norms = {n: m for n, m in detector.named_modules() if isinstance(m, _BatchNorm)}

    def batch_norms(self) -> list[str]:
        """Names of the batch norms that are in training mode."""
        return [name for name, norm in self._norms.items() if norm.training]

    def synchronised(self) -> bool:
        """Whether some of them gather statistics from all processes."""
        return any("Sync" in type(self._norms[name]).__name__ for name in self.batch_norms())

    def now(self) -> Moment:
        """The values now, for :meth:`restore`."""
        found = self._averages()
        # In one operation: a deep network has a hundred of them.
        averages = list(torch.cat(found).split([len(a) for a in found])) if found else []
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        normalizers = loss_normalizers(self._detector)
        return Moment(averages, normalizers, torch.get_rng_state(), cuda)

    @torch.no_grad()
    def restore(self, moment: Moment) -> None:
        """Set the values that :meth:`now` gave."""
        for average, value in zip(self._averages(), moment.averages, strict=True):
            average.copy_(value)
        set_loss_normalizers(self._detector, moment.normalizers)
        torch.set_rng_state(moment.cpu)
        if moment.cuda:
            torch.cuda.set_rng_state_all(moment.cuda)

    def _averages(self) -> list[Tensor]:
        norms = [self._norms[name] for name in self.batch_norms()]
        found = [a for norm in norms for a in (norm.running_mean, norm.running_var)]
        return [average for average in found if average is not None]


def loss_normalizers(model: nn.Module) -> dict[str, float]:
    """The moving averages that RetinaNet and FCOS divide their losses by, by module name.

    Detectron2 keeps them as plain attributes, so that no state dict has them; before the first
    step there is none.
    """
    return {
        name: float(module.loss_normalizer)
        for name, module in model.named_modules()
        if isinstance(module, DenseDetector) and hasattr(module, "loss_normalizer")
    }


def set_loss_normalizers(model: nn.Module, values: dict[str, float]) -> None:
    """Set what :func:`loss_normalizers` gave; a module without a value has none again."""
    for name, module in model.named_modules():
        if not isinstance(module, DenseDetector):
            continue
        if name in values:
            module.loss_normalizer = values[name]
        else:
            vars(module).pop("loss_normalizer", None)
