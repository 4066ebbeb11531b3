"""Cells: the costly parts of a grid, each in a folder of its own that one process at a time fills.

A cell is done once its ``done.json`` is there, which is written last. Until then whoever holds its
newest lock runs it. Locks are numbered, ``.lock-1`` and on, and never removed: the next number can
be made by one process alone, and only where the one before is let go of or stale. So of those that
find a stale lock one takes over, however they are interleaved, on one machine or on many that
share the disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from ..files import write_text
from ..values import is_number

logger = logging.getLogger(__name__)

Kind = Literal["thumbnails", "record", "select", "train"]

DONE, FAILED = "done.json", "failed.json"

#: What the result of each kind has in any case.
FIGURES: dict[Kind, tuple[str, ...]] = {
    "thumbnails": ("seconds",),
    "record": ("seconds", "value", "images"),
    "select": ("seconds",),
    "train": ("seconds", "value", "images"),
}

#: Seconds between two signs of life of who holds a lock, and without one until it is stale.
HEARTBEAT, STALE = 20.0, 300.0


def label_of(method: str, options: Mapping[str, Any]) -> str:
    """A method with its overrides of ADAPRUNER, as a user writes it."""
    words = ",".join(f"{name}={value}" for name, value in sorted(options.items()))
    return method + (f"[{words}]" if words else "")


@dataclass(frozen=True)
class Cell:
    """One costly part of a grid, known by all that decides its result.

    Attributes:
        kind: ``record`` trains on all samples and writes down what methods read, ``thumbnails``
            reads the images for them, ``select`` runs a method, ``train`` trains on all samples or
            on those that were selected.
        task: its identity; of thumbnails, that of the images.
        seed: of the run.
        method: a registered name; ``full`` for training on all samples.
        options: overrides of the node ADAPRUNER, as (name, value).
        keep_ratio: c_r; None where the cell serves every ratio.
        budget: how long a part is trained on.
        signals: what the recorded training keeps.
        needs: the cells whose results this one reads; not part of what it is known by.
        visits: how often it shows an image to the model, for the time that is left.
    """

    kind: Kind
    task: str
    seed: int = 0
    method: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    keep_ratio: float | None = None
    budget: str = ""
    signals: tuple[str, ...] = ()
    needs: tuple[Cell, ...] = field(default=(), compare=False, repr=False)
    visits: float = field(default=0.0, compare=False)

    @property
    def label(self) -> str:
        """The method as a user writes it, such as ``adapruner[WARMUP_EPOCHS=0]``."""
        return label_of(self.method, dict(self.options))

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the cell is known by, as JSON has it."""
        return {
            "kind": self.kind,
            "task": self.task,
            "seed": self.seed,
            "method": self.method,
            "options": dict(sorted(self.options)),
            "keep_ratio": None if self.keep_ratio is None else float(self.keep_ratio),
            "budget": self.budget,
            "signals": sorted(self.signals),
        }

    @cached_property
    def name(self) -> str:
        """Of its folder: what it is in words, and 8 digits of the SHA-256 of :attr:`config`."""
        ratio = "" if self.keep_ratio is None else f"{self.keep_ratio:g}"
        seed = "" if self.kind == "thumbnails" else f"s{self.seed}"
        words = "-".join(w for w in (self.kind, self.label, ratio, self.budget, seed) if w)
        total = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', words)[:80]}-{total[:8]}"

    def folder(self, root: Path) -> Path:
        """Where the cell lies in the grid's folder ``root``."""
        return root / "cells" / self.name


def read_done(cell: Cell, root: Path) -> dict[str, Any] | None:
    """What :func:`write_done` wrote; None where there is nothing, or nothing whole of this cell."""
    found = read_json(cell.folder(root) / DONE)
    whole = isinstance(found, dict) and found.get("config") == cell.config
    result = found.get("result") if whole else None
    if not isinstance(result, dict):
        return None
    return result if all(is_number(result.get(name)) for name in FIGURES[cell.kind]) else None


def write_done(cell: Cell, root: Path, result: Mapping[str, Any]) -> None:
    """Say that the cell is done, and what came of it."""
    write_json(cell.folder(root) / DONE, {"config": cell.config, "result": result})


def write_json(path: Path, content: Any) -> None:
    """``content`` as a file that is whole or absent."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text)


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote; None where there is nothing, or nothing whole."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


class Claim:
    """A cell that this process holds, inside ``with``; its heartbeat is a thread.

    Attributes:
        lost: whether a process of another machine has taken the cell over, which happens to one
            that was halted, or could not reach the disk, until its lock was stale.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            write_json(self.path, {"free": True})  # of a lock that is not the newest, no one's care
        except DataError:  # of a disk that is full: one that says nothing goes stale in time
            with suppress(OSError):
                os.truncate(self.path, 0)

    def still_held(self) -> bool:
        """Whether no other process has taken the cell over."""
        self.lost = self.lost or _newest_lock(self.path.parent) != self.path
        return not self.lost

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with suppress(OSError):  # a disk that is away for a while
                if not self.still_held():
                    logger.warning("%s was taken over by another process.", self.path.parent)
                    return
                os.utime(self.path)


def claim(folder: Path) -> Claim | None:
    """Take the cell in ``folder``, which is made; None where another process holds it.

    Raises:
        OSError: a disk that is full or closed to writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = _newest_lock(folder)
    if newest is not None and holder(folder) is not None:
        return None
    path = folder / f".lock-{_number(newest) + 1 if newest else 1}"
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    try:
        with os.fdopen(handle, "w") as file:
            own = {"pid": os.getpid(), "started": _started(os.getpid())}
            json.dump({**own, **_machine()}, file)
    except BaseException:
        path.unlink(missing_ok=True)  # or nobody could tell that it holds nothing
        raise
    return Claim(path)


def holder(folder: Path) -> str | None:
    """Who holds the cell in ``folder``, in words; None where it is free or its lock is stale.

    That of a process of this machine is stale once that has ended, however long it was halted.
    """
    newest = _newest_lock(folder)
    if newest is None:
        return None
    found = read_json(newest)
    if not isinstance(found, dict):
        found = {}  # just made, and not written yet
    if found.get("free"):
        return None
    here = bool(_machine()["boot"]) and all(found.get(k) == v for k, v in _machine().items())
    if here and not _is_alive(found.get("pid")):
        return None
    began = _started(found.get("pid")) if here and found.get("started") else ""
    if began and began != found["started"]:  # its number is another process's by now
        return None
    if not began and _now(folder) - newest.stat().st_mtime > STALE:
        return None
    return f"process {found.get('pid', '?')} on {found.get('host', '?')}"


def _newest_lock(folder: Path) -> Path | None:
    """Without what else lies there, such as a copy that a shared disk made."""
    locks = (path for path in folder.glob(".lock-*") if re.fullmatch(r"\.lock-\d+", path.name))
    return max(locks, key=_number, default=None)


def _number(lock: Path) -> int:
    return int(lock.name.rpartition("-")[2])


def _now(folder: Path) -> float:
    """By the clock of the disk, as the times of the locks are, whichever machine made them."""
    path = folder / ".clock"
    try:
        path.touch()
        return path.stat().st_mtime
    except OSError:  # who may only look
        return time.time()


def _machine() -> dict[str, str]:
    """What a process's number means something within; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        numbers = os.readlink("/proc/self/ns/pid")  # containers count for themselves
    except OSError:
        boot = numbers = ""
    return {"host": socket.gethostname(), "boot": boot, "numbers": numbers}


def _started(pid: Any) -> str:
    """When a process of this machine began; empty where that is not known."""
    return "".join(_stat(pid)[19:20])


def _stat(pid: Any) -> list[str]:
    """What Linux says of a process, from its state on; empty where it says nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_alive(pid: Any) -> bool:
    """Whether there is such a process; one of an unknown number may be."""
    if type(pid) is not int:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _stat(pid)[:1] not in (["Z"], ["X"])  # ended, though who started it has not asked yet
