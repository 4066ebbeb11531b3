"""Crop, flip and Cutout for a whole batch at once, on the device that holds it.

Shape letters: B samples of a batch, C channels, H and W pixels, P pixels of padding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def crop_and_flip(
    images: Tensor, padding: int, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Crop each image at random from itself with P zeros around it; mirror every second one.

    Args:
        images: (B, C, H, W), any type.
        padding: P; 0 crops nothing.
        flip: whether to mirror left and right with probability 1/2.
        generator: on the device of ``images``.

    Returns:
        (B, C, H, W) of the same type.
    """
    if not padding and not flip:
        return images
    b, c, h, w = images.shape
    device = images.device
    x = torch.arange(w, device=device).expand(b, w)
    if flip:
        mirrored = torch.rand(b, 1, generator=generator, device=device) < 0.5
        x = torch.where(mirrored, w - 1 - x, x)
    y = torch.arange(h, device=device).expand(b, h)
    if padding:
        shifts = torch.randint(0, 2 * padding + 1, (2, b, 1), generator=generator, device=device)
        images = torch.nn.functional.pad(images, (padding, padding, padding, padding))
        y, x = y + shifts[0], x + shifts[1]
    # One gather for crop and flip: the place of each pixel in its padded image, flattened.
    places = (y[:, :, None] * (w + 2 * padding) + x[:, None, :]).view(b, 1, h * w)
    return images.flatten(2).gather(2, places.expand(b, c, h * w)).view(b, c, h, w)


def cutout(images: Tensor, side: int, generator: torch.Generator | None = None) -> Tensor:
    """Set a square to 0 in each image. Its centre is any pixel, so it may reach over the border.

    Source: DeVries and Taylor 2017. On normalised images 0 is the mean.

    Args:
        images: (B, C, H, W) float.
        side: of the square in pixels; 0 blanks nothing.
        generator: on the device of ``images``.
    """
    if not side:
        return images
    b, _, h, w = images.shape
    device = images.device
    top = torch.randint(0, h, (b, 1), generator=generator, device=device) - side // 2
    left = torch.randint(0, w, (b, 1), generator=generator, device=device) - side // 2
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    rows = (y >= top) & (y < top + side)
    columns = (x >= left) & (x < left + side)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images − mean) / std in float32; ``mean`` and ``std`` (C,) are in units of the pixels."""
    return (images.float() - mean[:, None, None]) / std[:, None, None]


def channel_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of all images together: (C,) float32 each.

    Args:
        batches: (B, C, H, W) uint8, one at least. However they are cut, the result is the same.
    """
    parts, count = [], 0
    for images in batches:
        pixels = images.int()  # whole numbers, whose sums are exact
        parts.append(torch.stack([pixels.sum((0, 2, 3)), (pixels * pixels).sum((0, 2, 3))]))
        count += pixels[:, 0].numel()
    mean, square = torch.stack(parts).sum(0).double() / count
    std = (square - mean**2).clamp(min=0).sqrt()
    return mean.float(), std.clamp(min=1.0).float()
