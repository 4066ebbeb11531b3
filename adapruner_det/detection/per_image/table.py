"""Which Detectron2 classes have per-image losses, and how a built detector gets them."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.keypoint_head import BaseKeypointRCNNHead
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from torch import Tensor, nn

from .fast_rcnn import PerImageFastRCNNOutputLayers
from .fcos import PerImageFCOS
from .keypoint import PerImageKeypointRCNNHead
from .mask import PerImageMaskRCNNHead
from .retinanet import PerImageRetinaNet
from .rpn import PerImageRPN
from .sem_seg import PerImageSemSegFPNHead

logger = logging.getLogger(__name__)

# Detectron2's class: its per-image subclass, and the methods whose work that subclass does itself.
# A user's own subclass that changes one of them has a loss unknown here.
TABLE: dict[type[nn.Module], tuple[type[nn.Module], tuple[str, ...]]] = {
    RPN: (PerImageRPN, ("losses",)),
    FastRCNNOutputLayers: (
        PerImageFastRCNNOutputLayers,
        ("losses", "box_reg_loss", "sigmoid_cross_entropy_loss"),
    ),
    BaseMaskRCNNHead: (PerImageMaskRCNNHead, ("forward",)),
    BaseKeypointRCNNHead: (PerImageKeypointRCNNHead, ("forward",)),
    SemSegFPNHead: (PerImageSemSegFPNHead, ("losses",)),
    RetinaNet: (PerImageRetinaNet, ("losses",)),
    FCOS: (PerImageFCOS, ("losses",)),
}

_original: dict[type[nn.Module], type[nn.Module]] = {}


def take_apart(detector: nn.Module) -> list[str]:
    """Let a detector's training forward return per-image losses.

    Every module of a class in TABLE, or of a subclass that leaves the loss methods alone, changes
    its `__class__` to one whose losses are (B,) vectors, B images in the order of the batch, each
    vector's mean being Detectron2's own scalar. Attributes, parameters, buffers and state-dict keys
    stay as they are; inference too. Detectron2's own forward merges the vectors. Calling it
    again changes nothing.

    Args:
        detector: a built meta-architecture.

    Returns:
        The modules that are apart now, as "name (Class)". An empty list means that the detector has
        no loss known here; `unhandled` tells what would still be a scalar.
    """
    apart = []
    for name, module in detector.named_modules():
        if type(module) not in _original:
            per_image = _per_image_class(type(module))
            if per_image is None:
                continue
            module.__class__ = per_image
        apart.append(_describe(name, _original[type(module)]))
    logger.debug("per-image losses: %s", ", ".join(apart) or "none")
    return apart


def put_together(detector: nn.Module) -> None:
    """Undo `take_apart`: every module gets back the class it had."""
    for module in detector.modules():
        if type(module) in _original:
            module.__class__ = _original[type(module)]


def unhandled(detector: nn.Module) -> list[str]:
    """Modules whose training loss stays a scalar, as "name (Class)", before or after `take_apart`.

    Found are subclasses of Detectron2's heads that change a loss method, and modules that have a
    `losses` method of their own. A loss computed elsewhere, in a forward, cannot be seen from
    outside: `check_per_image` finds it in the first step.
    """
    return [
        _describe(name, type(module))
        for name, module in detector.named_modules()
        if type(module) not in _original
        and _per_image_class(type(module)) is None
        and (isinstance(module, tuple(TABLE)) or callable(getattr(module, "losses", None)))
    ]


def check_per_image(losses: Mapping[str, Any], batch_size: int) -> None:
    """Make sure that a detector's losses are one value per image.

    Args:
        losses: what the training forward returned.
        batch_size: B, the images of this process.

    Raises:
        ValueError: no losses at all, or a value whose shape isn't (B,); it names the key.
    """
    if not isinstance(losses, Mapping) or not losses:
        raise ValueError(
            f"the detector returned no losses but {type(losses).__name__} {losses!r:.80}, expected "
            "a dict of tensors: put it in training mode, and return its losses from forward"
        )
    for name, value in losses.items():
        if isinstance(value, Tensor) and value.shape == (batch_size,):
            continue
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"loss {name!r} has {found}, expected one value per image, shape ({batch_size},): give "
            "the detector a method losses_per_image(batched_inputs), or use the serial path"
        )


@functools.cache
def _per_image_class(cls: type[nn.Module]) -> type[nn.Module] | None:
    """The per-image counterpart of a module class; None where there is none."""
    for base, (per_image, methods) in TABLE.items():
        if not issubclass(cls, base):
            continue
        if any(getattr(cls, m, None) is not getattr(base, m, None) for m in methods):
            return None
        if cls is not base:
            per_image = type(f"PerImage{cls.__name__}", (per_image, cls), {})
        _original[per_image] = cls
        return per_image
    return None


def _describe(name: str, cls: type) -> str:
    return f"{name or 'detector'} ({cls.__name__})"
