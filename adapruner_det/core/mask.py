"""SampleMask: the logits and what else is remembered of every sample, stored by column.

Shape letters: N samples, B samples of a batch, R ranks.

A sample takes 16 bytes: logit (float32), last and mean loss (float32), times seen (uint16, it stops
at 65,535), size level (uint8, see .typical) and one byte that is free. An objective may add columns
of its own: one of a byte takes the free byte, those of two bytes come after it, and with all of
:class:`.inclusion.Inclusion` a sample takes 28. The logits, which every epoch's end reads, are an
array of their own; the others lie side by side, so that a step finds them with one access to
memory, each where its type wants it. Both arrays are in RAM or in memory-mapped ``.npy`` files.
With R processes each holds only the rows it owns, index % R == rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .equations import sigmoid
from .exchange import Exchange

#: Column name and type, in the order in which a Selection saves them.
COLUMNS = {
    "logit": np.float32,
    "last_loss": np.float32,
    "mean_loss": np.float32,
    "times_seen": np.uint16,
}

#: What is given with the samples, so nothing saves it.
_GIVEN = {"size_level": np.uint8}

#: σ(x) is binary, below 0.1 or above 0.9, where |x| exceeds this.
BINARY_LOGIT = math.log(9.0)

_CHUNK = 1 << 15  # rows of a pass: small enough for the cache
_STEPS = np.float32(1 << 24)  # of a share in a sum that must not depend on its order


@dataclass
class Rows:
    """What a step needs of each sample of a batch: float64 (B,), two of them int64 (B,)."""

    logit: np.ndarray
    mean_loss: np.ndarray
    times_seen: np.ndarray  # int64
    size_level: np.ndarray  # int64
    state: dict[str, np.ndarray]  # the objective's columns, as stored, and the size level


@dataclass
class Totals:
    """Sums over all N samples, kept current as batches move.

    Attributes:
        soft: Σ σ(α·m).
        positive: how many logits are above 0, that is, lean to "kept".
        undecided: how many are exactly 0, as all are before they first move.
        binary: how many σ(α·m) are below 0.1 or above 0.9.
    """

    soft: float
    positive: int
    undecided: int
    binary: int


class SampleMask:
    """Storage of the mask and its sparse update.

    Args:
        num_samples: N over all processes.
        size_level: (N,) uint8 level of every sample's size; None leaves all at 0.
        levels: (L,) the size that each level stands for; None is a size of 1.
        learnt: name and type of further columns that visits change.
        given: name and type of further columns that are given with the samples.
        initial_logit: what every logit starts as.
        alpha: α that the totals are for, until a recount.
        directory: where memory-mapped columns are made; None keeps them in RAM.
        exchange: the processes that share this mask.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        size_level: np.ndarray | None = None,
        levels: np.ndarray | None = None,
        learnt: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
        initial_logit: float = 0.0,
        alpha: float = 1.0,
        directory: str | Path | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"a mask needs at least 1 sample, not {num_samples}")
        self.num_samples = num_samples
        self.exchange = exchange or Exchange()
        self.rank, self.world = self.exchange.rank, self.exchange.world
        self.levels = np.ones(1) if levels is None else levels
        self._rows = len(range(self.rank, num_samples, self.world))
        self._own = (*(learnt or ()), *(given or ()))
        #: Columns that a checkpoint holds: those that are given too, for a run whose seed is drawn
        #: goes on with what it was given.
        self.saved = (*COLUMNS, *self._own)
        record = _record({**(learnt or {}), **(given or {})})
        records = _make_array("records", record, self._rows, directory, self.rank)
        self._columns = {name: records[name] for name in record.names or ()}
        self._columns["logit"] = _make_array("logit", np.float32, self._rows, directory, self.rank)
        if size_level is not None:
            self._columns["size_level"][:] = size_level[self.rank :: self.world]
        if initial_logit:
            self._columns["logit"][:] = initial_logit
        self.totals = Totals(
            soft=num_samples * float(sigmoid(np.array(alpha * initial_logit))),
            positive=num_samples * (initial_logit > 0),
            undecided=num_samples * (initial_logit == 0),
            binary=num_samples * (abs(alpha * initial_logit) > BINARY_LOGIT),
        )

    def column(self, name: str) -> np.ndarray:
        """This rank's rows of a column: shape (N,) with one process, about (N/R,) with R."""
        return self._columns[name]

    def full_column(self, name: str) -> np.ndarray:
        """A column of all N samples on every rank, shape (N,). Costs O(N)."""
        if self.world == 1:
            return self._columns[name]
        full = np.zeros(self.num_samples)
        full[self.rank :: self.world] = self._columns[name]
        return self.exchange.sum(full).astype(self._columns[name].dtype)

    def read(self, ids: np.ndarray) -> Rows:
        """The rows of ``ids``, (B,) indices, repeated or not, the same on every rank."""
        names = ("logit", "mean_loss", "times_seen", "size_level", *self._own)
        logit, mean_loss, times_seen, size_level, *own = self._values(ids, names)
        level = size_level.astype(np.int64)
        state = {**dict(zip(self._own, own, strict=True)), "size_level": level}
        return Rows(logit, mean_loss, times_seen.astype(np.int64), level, state)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """The logits alone of ``ids``, as in :meth:`read`: (B,) float64."""
        return self._values(ids, ("logit",))[0]

    def write(
        self,
        ids: np.ndarray,
        logit: np.ndarray,
        last_loss: np.ndarray,
        mean_loss: np.ndarray,
        times_seen: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write the columns (B,) of distinct ``ids`` (B,); each rank keeps what it owns.

        ``state`` holds the objective's columns that have changed.
        """
        mine, local = self._owned(ids)
        self._columns["logit"][local] = logit[mine]
        self._columns["last_loss"][local] = last_loss[mine]
        self._columns["mean_loss"][local] = mean_loss[mine]
        self._columns["times_seen"][local] = np.minimum(times_seen[mine], 65535)
        for name, values in (state or {}).items():
            self._columns[name][local] = values[mine]

    def account(self, before: np.ndarray, after: np.ndarray, alpha: float) -> None:
        """Keep the totals current when logits go from ``before`` to ``after``, shape (B,) each."""
        totals, binary = self.totals, BINARY_LOGIT / alpha
        totals.soft += float(np.sum(sigmoid(alpha * after) - sigmoid(alpha * before)))
        totals.positive += _more(after > 0, before > 0)
        totals.undecided += _more(after == 0, before == 0)
        totals.binary += _more(np.abs(after) > binary, np.abs(before) > binary)

    def recount(self, alpha: float) -> None:
        """One pass over the logits that gives the totals for another ``alpha``."""
        column = self._columns["logit"]
        buffer = np.empty(min(_CHUNK, self._rows), dtype=np.float32)
        sums = np.zeros(2)
        for start in range(0, self._rows, _CHUNK):
            chunk = column[start : start + _CHUNK]
            tanh = buffer[: len(chunk)]  # 2σ(x) − 1 = tanh(x/2), which numpy has vectorised
            np.multiply(chunk, np.float32(0.5 * alpha), out=tanh)
            np.tanh(tanh, out=tanh)
            # Whole numbers, so that the sum does not depend on how it is split.
            sums[0] += np.rint(tanh * _STEPS).sum(dtype=np.float64)
            sums[1] += np.count_nonzero(np.abs(tanh, out=tanh) > np.float32(0.8))
        signed, binary = self.exchange.sum(sums)
        self.totals.soft = 0.5 * (self.num_samples + float(signed / _STEPS))
        self.totals.binary = int(binary)

    def state_dict(self) -> dict[str, Any]:
        """The columns of all N samples as tensors, and the totals."""
        columns = {name: _as_tensor(self.full_column(name)) for name in self.saved}
        return {"columns": columns, "totals": dict(vars(self.totals))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, on any number of processes.

        Columns that no mask has any more are passed over.
        """
        found = len(state["columns"]["logit"])
        if found != self.num_samples:
            raise ValueError(
                f"the saved mask has {found} samples, this run has {self.num_samples}: "
                "resume with the data sets the run was started with"
            )
        for name in self.saved:
            if name not in state["columns"]:
                raise ValueError(
                    f"the saved mask has no column {name!r}: it is of another objective; resume "
                    "with the objective the run was started with"
                )
        for name in self.saved:
            column, saved = self._columns[name], state["columns"][name].numpy()
            column[:] = saved[self.rank :: self.world].astype(column.dtype)
        self.totals = Totals(**state["totals"])

    def _values(self, ids: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Columns of ``ids`` on every rank, a row a name, (len(names), B) float64."""
        mine, local = self._owned(ids)
        values = np.zeros((len(names), len(ids)))
        for row, name in enumerate(names):
            values[row, mine] = self._columns[name][local]
        return self.exchange.sum(values)

    def _owned(self, ids: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
        """Which of ``ids`` this rank owns, and their local rows."""
        if self.world == 1:
            return slice(None), ids
        mine = np.flatnonzero(ids % self.world == self.rank)
        return mine, ids[mine] // self.world


def _record(own: Mapping[str, Any]) -> np.dtype[Any]:
    """What lies beside the logit, the smallest of an objective's columns first."""
    mask = [(name, kind) for name, kind in COLUMNS.items() if name != "logit"]
    rest = sorted(own.items(), key=lambda column: np.dtype(column[1]).itemsize)
    return np.dtype([*mask, *_GIVEN.items(), *rest], align=True)


def _make_array(
    name: str, dtype: Any, rows: int, directory: str | Path | None, rank: int
) -> np.ndarray:
    if directory is None:
        return np.zeros(rows, dtype=dtype)
    path = Path(directory) / f"{name}.{rank}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(rows,))


def _more(now: np.ndarray, then: np.ndarray) -> int:
    return int(np.count_nonzero(now) - np.count_nonzero(then))


def _as_tensor(column: np.ndarray) -> torch.Tensor:
    """A copy that torch can save and load with ``weights_only`` (it knows no uint16 there)."""
    return torch.from_numpy(column.astype(np.int32 if column.dtype == np.uint16 else column.dtype))
