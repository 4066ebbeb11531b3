"""The objective ``inclusion``: every sample has a chance to be kept, and is drawn by it.

Shape letters: N samples, B samples of a batch.

    v_i = (1 − φ_i) · [ a + (1 − a) · n_i·w_i·B(p_i) / (M_i·Z) ],   π_i = min(1, λ·v_i),  Σ π_i = k

with φ the fault gate, a the share of the floor (an unflagged sample's chance is never below that
part of an even draw's), w how much the confidence p in the given annotation still moves, B a Beta
density of p that matters at deep cuts and prefers what is easy the more, the deeper, M how often
the sample is there, and Z the mean of n·w·B/M over the unflagged samples.

n is the sample's size, the number of parts that its loss sums over: 1 in classification, in
detection its boxes, or 1 without any. The confidence is the mean over them, and what moves in it is
less, the more there are, as the errors of independent parts cancel; n·w is that of their sum.
Without n the images with one box would stay and the crowded ones go. The pressure is
−log v_i − g_i with a Gumbel number g_i that belongs to the sample and the run's seed: the k samples
of least pressure are a draw without replacement in proportion to v, for every k, and so nested.
The parts of it are in :mod:`.terms`, with their sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .neighbours import Neighbours, one_of_each
from .objectives import Read, State
from .terms import Draw, FaultGate, Redundancy, Uncertainty, as_share, beta_powers, beta_weight

if TYPE_CHECKING:
    from .mask import SampleMask


@dataclass(frozen=True)
class Known:
    """What is known of all samples together: μ, and Z, which is 0 where nothing is known yet."""

    middle: float = 0.5
    mean_informed: float = 0.0


class Inclusion:
    """A draw in which every sample has its chance; see the module's docstring.

    One object serves one mask: it holds what is known of that run's samples together.

    Args:
        digests: (N,) uint64, a hash of each sample's key: what a sample's Gumbel number is from.
        seed: of the run.
        keep_ratio: c_r, which B depends on.
        epochs: of the run, warm-up and pruning.
        neighbours: of all N samples; None knows no copies.
        gate: whether samples with faults are looked for; it takes the signal ``fault``.
        parts: whether that is the strongest of a sample's parts, such as boxes.
        floor: a in [0, 1]; 1 draws evenly among what is neither faulty nor a spare twin.

    Raises:
        ValueError: neighbours of other samples, or a floor outside [0, 1].
    """

    name = "inclusion"
    FLOOR = 0.25
    #: What the evidence against the worst of a sample's parts lies above where one is faulty, and
    #: where that is clear.
    PARTS_LIMIT, PARTS_CLEAR = 0.7, 0.75
    #: Added to the pressure, whose other part spans some 26: clear faults go first, those with most
    #: evidence at their head, then spare twins, then doubtful faults.
    FAULT, SPARE, DOUBT = 100.0, 80.0, 30.0
    TOP = 10  # samples of largest n·w, whose mean confidence is μ

    def __init__(
        self,
        digests: np.ndarray,
        seed: int,
        keep_ratio: float,
        epochs: int,
        *,
        neighbours: Neighbours | None = None,
        gate: bool = True,
        parts: bool = False,
        floor: float | None = None,
    ) -> None:
        if neighbours is not None and len(neighbours) != len(digests):
            raise ValueError(f"there are neighbours of {len(neighbours)} of {len(digests)} samples")
        self.floor = self.FLOOR if floor is None else floor
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"the floor is {floor}; it must lie in [0, 1]")
        self.keep_ratio = keep_ratio
        self.known = Known()
        self._draw = Draw(digests, seed)
        self._uncertainty = Uncertainty.of_run(epochs)
        self._gate = None
        self._clear = self.PARTS_CLEAR if parts else 0.0
        if gate and parts:
            # A detector learns late what it takes to doubt a box, and forgets it no more.
            self._gate = FaultGate(epochs, self.PARTS_LIMIT)
        elif gate:
            self._gate = FaultGate(self._uncertainty.visits)
        self._redundancy = None if neighbours is None else Redundancy(neighbours, self._draw)
        self._terms = [t for t in (self._uncertainty, self._gate) if t is not None]
        self.learnt: Mapping[str, Any] = {
            name: kind for t in self._terms for name, kind in t.learnt.items()
        }
        self.given: Mapping[str, Any] = {
            **self._draw.given,
            **(Redundancy.given if self._redundancy else {}),
        }
        self.signals: frozenset[str] = frozenset().union(*(t.signals for t in self._terms))
        self._moved = False
        self._levels = np.ones(1)

    def start(self, mask: SampleMask) -> None:
        if len(self._draw.stored) != mask.num_samples:
            raise ValueError(
                f"there are {len(self._draw.stored)} digests for {mask.num_samples} samples"
            )
        self._levels = mask.levels
        own = slice(mask.rank, None, mask.world)
        mask.column("draw")[:] = self._draw.stored[own]
        if self._redundancy is not None:
            mask.column("copies")[:] = self._redundancy.stored[own]

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        self._moved = self._moved or bool(np.any(seen < max(t.visits for t in self._terms)))
        return {k: v for t in self._terms for k, v in t.observe(seen, state, signals).items()}

    def pressure(self, loss: np.ndarray, state: State) -> np.ndarray:
        out = self._against(state)
        if self._redundancy is not None:
            out = np.maximum(out, self.SPARE * Redundancy.spare(state["copies"]))
        return self._drawn(state) + out

    def chance(self, state: State) -> np.ndarray:
        """v·N of samples that are not flagged: 1 is that of an even draw."""
        if not self.known.mean_informed:
            return np.ones(len(state["draw"]))
        informed = self._informed(state) / self.known.mean_informed
        return self.floor + (1.0 - self.floor) * informed

    def _drawn(self, state: State) -> np.ndarray:
        """−log v − g."""
        return -np.log(np.maximum(self.chance(state), 1e-6)) - Draw.gumbel(state["draw"])

    def _flagged(self, state: State) -> np.ndarray:
        if self._gate is None:
            return np.zeros(len(state["draw"]), dtype=bool)
        return self._gate.flagged(state["fault"])

    def _against(self, state: State) -> np.ndarray:
        """What the evidence against flagged samples adds, the more of it the more; 0 for others."""
        if self._gate is None:
            return np.zeros(len(state["draw"]))
        share = as_share(state["fault"])
        weight = np.where(share > self._clear, self.FAULT, self.DOUBT)
        return self._flagged(state) * weight * (1.0 + share)

    def _informed(self, state: State) -> np.ndarray:
        """n·w·B(p)/M."""
        powers = beta_powers(self.known.middle, self.keep_ratio)
        weight = as_share(state["uncertainty"]) * self._size(state)
        weight = weight * beta_weight(as_share(state["confidence"]), powers)
        return weight if self._redundancy is None else weight / Redundancy.copies(state["copies"])

    def _size(self, state: State) -> np.ndarray:
        """n, 1 or more."""
        return np.maximum(self._levels[state["size_level"]], 1.0)

    def end_epoch(self, mask: SampleMask) -> None:
        """The gate, μ and Z anew, unless no visit has counted since; the same on any processes."""
        if not self._moved:
            return
        self._moved = False
        if self._gate is not None:
            self._gate.end_epoch(mask)
            if self._redundancy is not None:
                self._redundancy.end_epoch(mask, self._gate.flagged(mask.full_column("fault")))
        self.known = Known(self._middle(mask))
        sums = np.zeros(2)
        for state in self._parts(mask):
            # Whole numbers, so that the sum does not depend on how it is split.
            sums[0] += np.rint(self._informed(state) * 2.0**24).sum()
            sums[1] += len(state["draw"])
        total, count = mask.exchange.sum(sums)
        self.known = Known(self.known.middle, float(total / max(count, 1.0) / 2.0**24))

    def _middle(self, mask: SampleMask) -> float:
        """The mean confidence of the unflagged samples of largest n·w; ½ where none has any."""
        best = np.empty((3, 0))
        for state in self._parts(mask):
            moved = state["uncertainty"] * self._size(state)
            rows = np.stack([-moved, state["index"], state["confidence"]])
            best = _first(np.concatenate([best, rows.astype(np.float64)], axis=1), self.TOP)
        best = _first(mask.exchange.gather(best)[0], self.TOP)
        moving = best[2, best[0] < 0]
        return float(as_share(moving).mean()) if len(moving) else 0.5

    def _parts(self, mask: SampleMask) -> Iterator[dict[str, np.ndarray]]:
        """This process's unflagged samples that were seen, some at a time, with their index."""
        rows = len(mask.column("draw"))
        for start in range(0, rows, 1 << 18):
            part = slice(start, min(start + (1 << 18), rows))
            state = {name: mask.column(name)[part] for name in self._names()}
            state["uncertainty"] = state["uncertainty"].astype(np.int64)
            state["index"] = np.arange(part.start, part.stop) * mask.world + mask.rank
            use = (mask.column("times_seen")[part] > 0) & ~self._flagged(state)
            yield {name: column[use] for name, column in state.items()}

    def order(self, read: Read, typical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least pressure first, of twins the best first, and of each group one early on."""
        state = self._all(read)
        seen = read("times_seen") > 0
        score, eligible = self._score(state), seen & ~self._flagged(state)
        if self._redundancy is not None:
            group = self._redundancy.twins.group
            score = one_of_each(score, group, eligible).astype(np.float64)
        return np.where(seen, 0.0, -np.inf), score

    def _score(self, state: State) -> np.ndarray:
        """The pressure of all samples, with the twins that stay as they are now."""
        drawn, out = self._drawn(state), self._against(state)
        return drawn + np.maximum(out, self.SPARE * self._spare(drawn + out))

    def _spare(self, score: np.ndarray) -> np.ndarray:
        """Which samples have a twin of lower score that stays, (N,) bool."""
        if self._redundancy is None:
            return np.zeros(len(score), dtype=bool)
        return ~self._redundancy.twins.representatives(score)

    def columns(self, read: Read, typical: np.ndarray) -> dict[str, np.ndarray]:
        """What :mod:`.ends` reads; ``score`` orders the samples, lower is kept first."""
        state = self._all(read)
        logit, score = self.order(read, typical)
        found = {
            "score": np.where(logit == 0, score, np.inf),
            "confidence": as_share(state["confidence"]).astype(np.float32),
            "uncertainty": as_share(state["uncertainty"]).astype(np.float32),
            "chance": self.chance(state).astype(np.float32),
            "draw": Draw.uniform(state["draw"]).astype(np.float32),
        }
        if len(self._levels) > 1:
            found["parts"] = self._size(state).astype(np.float32)
        if self._gate is not None:
            found["fault"] = as_share(state["fault"]).astype(np.float32)
            found["flagged"] = self._flagged(state)
        if self._redundancy is not None:
            found["twin_group"] = self._redundancy.twins.group
            found["spare"] = self._spare(self._drawn(state) + self._against(state))
        return found

    def _all(self, read: Read) -> dict[str, np.ndarray]:
        return {name: read(name) for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        """The columns that a sample's chance hangs on."""
        return (*self.learnt, *self.given, "size_level")

    def state_dict(self) -> dict[str, Any]:
        return {
            "middle": self.known.middle,
            "mean_informed": self.known.mean_informed,
            "gate_open": self._gate is not None and self._gate.open,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.known = Known(float(state["middle"]), float(state["mean_informed"]))
        self._moved = True  # at the epoch's end all is found anew: the same, if nothing has moved
        if self._gate is not None:
            self._gate.open = bool(state["gate_open"])


def _first(rows: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` first columns of (3, n), by the first row, then by the second."""
    return rows[:, np.lexsort((rows[1], rows[0]))[:count]]
