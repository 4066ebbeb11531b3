"""Where a configuration's device is: a GPU of this machine, or the CPU."""

from __future__ import annotations

import torch

from .errors import DataError


def lacks_gpu(device: str) -> bool:
    """Whether ``device`` asks for a GPU where there is none."""
    return device.startswith("cuda") and not torch.cuda.is_available()


def require_numbered(device: str, setting: str) -> None:
    """Raise a DataError for the number of a GPU that is not there, where others are.

    Args:
        device: such as ``cuda:1``.
        setting: that names it.
    """
    if not device.startswith("cuda") or lacks_gpu(device):
        return
    count = torch.cuda.device_count()
    if (torch.device(device).index or 0) >= count:
        there = ", ".join(f"cuda:{number}" for number in range(count))
        raise DataError(f"{setting} is {device!r}, which this machine lacks; it has {there}")
