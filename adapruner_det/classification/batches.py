"""The batches of an epoch, from a tensor on the device or from files that workers decode.

Shape letters: N samples, B samples of a batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from ..stopping import heed_the_main_process
from .image_set import ImageSet, UnreadImages


def split_order(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut (N,) indices into batches; a last one of a single sample joins the one before it.

    Batch normalisation cannot train on one sample, and every sample is to be visited.
    """
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """How many batches :func:`split_order` makes."""
    return len(split_order(torch.empty(num_samples, 0), batch_size))


class Batches:
    """Reads an ImageSet in batches: images (B, C, H, W) uint8 on the device.

    Args:
        images: in memory, where they move to the device as a whole; or in files.
        device: of the batches.
        workers: processes that decode files.
    """

    def __init__(self, images: ImageSet, device: torch.device, workers: int = 0) -> None:
        own = images.images
        self._pixels = own.to(device) if isinstance(own, Tensor) else own
        self._device, self._workers = device, workers

    def read(self, batches: list[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """(ids (B,) on the CPU, images) of each batch of ids.

        Raises:
            DataError: an image that does not decode, named.
        """
        if isinstance(self._pixels, Tensor):
            for ids in batches:
                yield ids, self._pixels[ids.to(self._device)]
            return
        loader = DataLoader(
            _Files(self._pixels),
            batch_sampler=[ids.tolist() for ids in batches],
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # leaves the global one alone, or resuming would differ
            worker_init_fn=heed_the_main_process,
        )
        for ids, (images, problems) in zip(batches, loader, strict=True):
            for problem in filter(None, problems):
                raise DataError(problem)
            yield ids, images.to(self._device, non_blocking=True)

    def spread(self, count: int) -> Iterator[Tensor]:
        """``count`` images spread over the set, or all where it is smaller: (B, C, H, W) each."""
        n = self._pixels.shape[0]
        ids = torch.linspace(0, n - 1, min(count, n)).long()
        return (images for _, images in self.read(split_order(ids, 256)))


class _Files(Dataset[tuple[Tensor, str]]):
    """Images by index with what is wrong with them, for an exception would lose its type."""

    def __init__(self, files: UnreadImages) -> None:
        self._files = files

    def __len__(self) -> int:
        return self._files.shape[0]

    def __getitem__(self, i: int) -> tuple[Tensor, str]:
        try:
            return self._files.read(i), ""
        except DataError as error:
            return torch.zeros(self._files.shape[1:], dtype=torch.uint8), str(error)
