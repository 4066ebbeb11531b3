"""Per-image losses of any detector: it runs on one image at a time. B images of the batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .table import check_per_image


def serial_losses(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Run the training forward on each image alone.

    What the detector averages over a batch (sampled boxes, batch statistics) is then that of one
    image, so the means are Detectron2's own scalars only where its losses are means over images.

    Args:
        detector: any module whose training forward returns a dict of losses, one number each.
        batched_inputs: B dicts.

    Returns:
        (B,) per loss key. A key that some images lack has 0 there.

    Raises:
        ValueError: no losses, or one that is not a single number; it names the key.
    """
    alone = [_numbers(detector([x])) for x in batched_inputs]
    present = {name: value for losses in alone for name, value in losses.items()}
    losses = {
        name: torch.stack([a.get(name, torch.zeros_like(value)) for a in alone])
        for name, value in present.items()
    }
    check_per_image(losses, len(batched_inputs))
    return losses


def batch_norms(detector: nn.Module) -> dict[str, _BatchNorm]:
    """Its batch norms by name. Frozen ones, whose statistics never move, are not among them."""
    return {n: m for n, m in detector.named_modules() if isinstance(m, _BatchNorm)}


def describe_cost(detector: nn.Module, why: str) -> str:
    """What a user should know when his detector takes the serial path, as one warning.

    Args:
        detector: it.
        why: completes "runs on one image at a time, because ...".
    """
    norms = [name for name, norm in batch_norms(detector).items() if norm.training]
    text = (
        f"{type(detector).__name__} runs on one image at a time, because {why}. A step costs as "
        "much as one step of batch size 1 for each image. Give the detector a method "
        "losses_per_image(batched_inputs) to avoid that (docs/detectors.md)."
    )
    if norms:
        text += (
            f" It also changes what is learned: {len(norms)} batch norms (first "
            f"{norms[0]}) take mean and variance from one image, not from the batch, and "
            "move their running averages once per image. Frozen batch norm or group norm has no "
            "such effect."
        )
    return text


def has_scalars(losses: Any) -> bool:
    """Whether some loss is one number for the whole batch."""
    return isinstance(losses, Mapping) and any(_is_scalar(value) for value in losses.values())


def names_of_scalars(losses: Mapping[str, Any]) -> str:
    """The keys of losses that are one number for the whole batch."""
    return ", ".join(name for name, value in losses.items() if _is_scalar(value))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0


def _numbers(losses: Any) -> dict[str, Tensor]:
    """The losses of one image, each of shape ()."""
    if not isinstance(losses, Mapping):
        check_per_image(losses, 1)  # says that there are none
    for name, value in losses.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"loss {name!r} of one image has {found}, expected a single number: reduce it in "
                "the detector's forward"
            )
    return {name: value.reshape(()) for name, value in losses.items()}
