"""The most memory that a piece of work took: resident, and of PyTorch on a GPU.

Megabytes here are 2^20 bytes.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEGABYTE = 2**20


@dataclass
class Peak:
    """Filled once the work is done.

    Attributes:
        memory_mb: the most that this process had resident meanwhile, libraries and data among it,
            without processes that it started; None where the system does not say.
        added_mb: how far that is above what it had resident when the work began; None likewise.
        gpu_mb: the most that PyTorch had allocated on the GPUs meanwhile, all together; None
            without one.
    """

    memory_mb: float | None = None
    added_mb: float | None = None
    gpu_mb: float | None = None

    def figures(self) -> dict[str, float]:
        """Name → value, of those that are known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure what is done inside ``with``.

    Linux keeps a high-water mark for each process, which is set back first; what an earlier piece
    of work has freed is given back to the system before that, as far as it can be. Elsewhere the
    mark is of the whole process, so it is told only where it rose.
    """
    found = Peak()
    _give_back()
    was_reset = _reset()
    before = _high_water()
    start = _of_status("VmRSS")
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    try:
        yield found
    finally:
        after = _high_water()
        if after is not None and (was_reset or before is None or after > before):
            found.memory_mb = after
            found.added_mb = None if start is None else max(after - start, 0.0)
        if torch.cuda.is_initialized():
            count = torch.cuda.device_count()
            total = sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(count))
            found.gpu_mb = total / MEGABYTE


def _give_back() -> None:
    """Free what nothing refers to, and give it back to the system, as glibc does not by itself."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _reset() -> bool:
    """Set the process's mark back to what it has resident now; whether that could be."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> float | None:
    """The mark, in megabytes."""
    found = _of_status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def _of_status(name: str) -> float | None:
    """A line of Linux's account of this process, in megabytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) / 1024 if found else None
