"""Sums over the elements of each image. B images, P elements of all images together."""

import torch
from torch import Tensor


def image_of_each(counts: list[int], device: torch.device) -> Tensor:
    """The image each element belongs to, when the elements of B images lie one after another.

    Args:
        counts: B element counts, in the order of the images. Zeros are fine.
        device: where the result lives.

    Returns:
        (P,) int64, P = sum(counts), values in [0, B).
    """
    images = torch.arange(len(counts), device=device)
    repeats = torch.tensor(counts, device=device)
    return images.repeat_interleave(repeats, output_size=sum(counts))


def sum_by_image(values: Tensor, image: Tensor, num_images: int) -> Tensor:
    """Add up the values of each image.

    The sum runs in float64: `index_add` adds one by one, and in float32 a few hundred additions
    already cost the sixth digit, which Detectron2's own pairwise sum keeps.

    Args:
        values: (P,) one loss per element.
        image: (P,) int64, the image of each element.
        num_images: B.

    Returns:
        (B,) sums, 0 for an image without elements; float32, or float64 where `values` is. It is
        connected to the graph of `values` even when P is 0, so parameters get zero gradients.
    """
    sums = values.new_zeros(num_images, dtype=torch.float64)
    sums = sums.index_add(0, image, values.double())
    return sums.to(torch.promote_types(values.dtype, torch.float32))
