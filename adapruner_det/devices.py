"""Where a configuration's device is: a GPU of this machine, or the CPU."""

from __future__ import annotations

import logging

import torch

from .errors import DataError

logger = logging.getLogger(__name__)


def lacks_gpu(device: str) -> bool:
    """Whether ``device`` asks for a GPU where there is none."""
    return device.startswith("cuda") and not torch.cuda.is_available()


def found_device(device: str, setting: str) -> str:
    """``device``, or the CPU with one log line where it asks for a GPU and there is none.

    Args:
        device: such as ``cuda:1``.
        setting: that names it.

    Raises:
        DataError: the number of a GPU that is not there, where others are.
    """
    if lacks_gpu(device):
        logger.info("No GPU found: %s is 'cpu' in place of %r.", setting, device)
        return "cpu"
    count = torch.cuda.device_count()
    if device.startswith("cuda") and (torch.device(device).index or 0) >= count:
        there = ", ".join(f"cuda:{number}" for number in range(count))
        raise DataError(f"{setting} is {device!r}, which this machine lacks; it has {there}")
    return device
