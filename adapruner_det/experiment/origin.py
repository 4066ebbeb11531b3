"""With what a cell was made: figures of two programs or two processors differ by more than methods.

A grid's folder may be gone on with after an update, or be shared by unlike machines. No cell is
made anew for that; the tables say it.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..selection import library_versions

PACKAGE = Path(__file__).resolve().parents[1]
CPU_INFO = Path("/proc/cpuinfo")

#: The key of a cell's result.
ORIGIN = "made_with"


def origin(device: str, *libraries: str) -> dict[str, str]:
    """What this process makes cells with.

    Args:
        device: that is trained on, as a task has it.
        libraries: that decide an outcome besides torch and numpy.

    Returns:
        Library → version, ``code`` → the beginning of the SHA-256 of this package's files,
        ``device`` → the GPU where one is trained on, else the processor, and ``threads`` → how many
        PyTorch shares an operation between, by which its sums differ.
    """
    versions = library_versions("adapruner-det", "torch", "numpy", *libraries)
    threads = str(torch.get_num_threads())
    return {**versions, "code": _code(), "device": _device(device), "threads": threads}


def mixed_lines(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each thing of which ``results`` were made with several.

    Args:
        results: of cells; one that does not tell its origin is passed over.
    """
    counts: dict[str, Counter[str]] = {}
    for result in results:
        for name, value in result.get(ORIGIN, {}).items():
            counts.setdefault(name, Counter())[value] += 1
    return [
        f"cells of several {name}: {_listed(found)}; their differences are not of the methods "
        "alone, and another --folder makes all of them anew"
        for name, found in counts.items()
        if len(found) > 1
    ]


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in found.most_common())


@cache
def _code() -> str:
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:8]


def _device(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    with suppress(OSError):  # a virtual processor's name may tell little, its numbers tell it apart
        first = CPU_INFO.read_text().partition("\n\n")[0]
        found = dict(re.findall(r"^([^\t\n]+?)\t*: (.*)$", first, re.M))
        words = [found.get(k, "") for k in ("model name", "cpu family", "model", "stepping")]
        if text := " ".join(filter(None, words)):
            return text
    return platform.processor() or platform.machine()
