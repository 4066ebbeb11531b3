"""What the processes of one run tell each other: batches are gathered, numbers are summed.

Built on torch.distributed with a gloo group of its own, so that the small CPU arrays of the mask
do not queue behind gradients; without torch.distributed it is the identity.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.distributed as dist


class Exchange:
    """The processes that share one mask. ``rank`` of ``world`` owns the samples index % world."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        distributed = group is not None
        self.rank = dist.get_rank(group) if distributed else 0
        self.world = dist.get_world_size(group) if distributed else 1

    @classmethod
    def default(cls) -> Exchange:
        """All processes of torch.distributed where it runs, else this one alone.

        A collective call: every process must make it at the same point.
        """
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return cls()
        return cls(cast(dist.ProcessGroup, dist.new_group(backend="gloo")))

    def gather(self, values: np.ndarray) -> tuple[np.ndarray, slice]:
        """The values of all ranks, by rank, and where this rank's stand along the last axis.

        ``values`` has shape (..., B); B may differ between ranks, nothing else may. int64 or
        float64.
        """
        batch = values.shape[-1]
        if self.world == 1:
            return values, slice(0, batch)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor([batch]), group=self._group)
        counts = [int(n) for n in lengths]
        padded = np.zeros((*values.shape[:-1], max(counts)), dtype=values.dtype)
        padded[..., :batch] = values
        parts = [torch.from_numpy(np.empty_like(padded)) for _ in range(self.world)]
        dist.all_gather(parts, torch.from_numpy(padded), group=self._group)
        own = [part[..., :count].numpy() for part, count in zip(parts, counts, strict=True)]
        start = sum(counts[: self.rank])
        return np.concatenate(own, axis=-1), slice(start, start + batch)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The elementwise sum over the ranks, float64; any one shape, the same on every rank."""
        if self.world == 1:
            return values
        total = torch.from_numpy(values.astype(np.float64))
        dist.all_reduce(total, group=self._group)
        return total.numpy()
