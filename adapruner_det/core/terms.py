"""What pushes a sample out, one small class a term, and the objectives made of them.

Shape letters: N samples, B samples of a batch, C classes.

``paper`` is the published objective: the pressure on a sample is f = L − log L. It ranks, so it
takes the two ends of the losses and cannot see wrong annotations of samples that are easy, nor
copies. ``inclusion`` gives every sample a chance to be kept and draws by it:

    v_i = (1 − φ_i) · [ a + (1 − a) · w_i·B(p_i) / (M_i·Z) ],   π_i = min(1, λ·v_i),  Σ π_i = k

with φ the fault gate, a the share of the floor (an unflagged sample's chance is never below that
part of an even draw's), w how much the confidence p in the given annotation still moves, B a Beta
density of p that matters at deep cuts and prefers what is easy the more, the deeper, M how often
the sample is there, and Z the mean of w·B/M over the unflagged samples. The pressure is
−log v_i − g_i with a Gumbel number g_i that belongs to the sample and the run's seed: the k samples
of least pressure are a draw without replacement in proportion to v, for every k, and so nested.

A term says which columns it needs: those that it learns from the visits, and those that are given
with the samples. Numbers in [0, 1] are stored in 16 bits.

Sources: Cho et al., "Lightweight Dataset Pruning without Full Training via Example Difficulty and
Prediction Uncertainty" (DUAL: w and B); Yellott 1977 and Kool et al. 2019 (Gumbel numbers and draws
without replacement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .cut import ranking
from .neighbours import COUNTED, Neighbours, one_of_each
from .objective import pressure

if TYPE_CHECKING:
    from .mask import SampleMask

State = Mapping[str, np.ndarray]  # column name → (B,) or (N,), as stored
Read = Callable[[str], np.ndarray]  # column name → (N,), as stored

#: What a task may tell of a visit besides the loss, (B,) each, in [0, 1].
SIGNALS = {
    "confidence": "how sure the model is of the given annotation; p of the label",
    "fault": "evidence against the annotation; at 0.5 another answer is as likely as the given one",
}

UNIT = 65535.0  # a share in [0, 1] in 16 bits


def as_share(stored: np.ndarray) -> np.ndarray:
    """What a 16-bit column holds, in [0, 1]."""
    return np.asarray(stored, dtype=np.float64) / UNIT


def stored_share(share: np.ndarray) -> np.ndarray:
    """As a 16-bit column holds it: the nearest of 65,536 steps, as float64."""
    return np.rint(np.clip(share, 0.0, 1.0) * UNIT)


class Objective(Protocol):
    """What decides which samples go: :class:`Paper`, :class:`Inclusion` or another such."""

    name: str
    #: Columns beside the mask's own: those learnt from visits, and those given with the samples.
    learnt: Mapping[str, Any]
    given: Mapping[str, Any]
    #: Which of :data:`SIGNALS` it takes.
    signals: frozenset[str]

    def start(self, mask: SampleMask) -> None:
        """Fill the given columns of this process's rows."""

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """The learnt columns after a visit, as stored.

        Args:
            seen: (B,) how often each sample was seen before.
            state: the columns before the visit.
            signals: ``confidence`` always, others where the task gives them.
        """

    def pressure(self, loss: np.ndarray, state: State) -> np.ndarray:
        """What pushes each sample out, (B,) finite; ``loss`` is mean loss over typical loss."""

    def end_epoch(self, mask: SampleMask) -> None:
        """Bring what is known of all samples up to date. A collective call; O(N) at most."""

    def order(self, read: Read, typical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(logit, score), (N,) each, that :func:`.cut.cut` orders by, for every keep ratio."""

    def columns(self, read: Read, typical: np.ndarray) -> dict[str, np.ndarray]:
        """What is worth saving of the samples besides the mask's columns, (N,) each."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class Paper:
    """The published objective: f = L − log(L + eps), Eq. 4 and 5; and nothing else.

    The two switches leave a term out, as in the paper's Table 5.
    """

    name = "paper"
    learnt: Mapping[str, Any] = {}
    given: Mapping[str, Any] = {}
    signals: frozenset[str] = frozenset()

    def __init__(self, *, use_classification: bool = True, use_selection: bool = True) -> None:
        self.switches = {"use_classification": use_classification, "use_selection": use_selection}

    def start(self, mask: SampleMask) -> None:
        pass

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        return {}

    def pressure(self, loss: np.ndarray, state: State) -> np.ndarray:
        return pressure(loss, **self.switches)

    def end_epoch(self, mask: SampleMask) -> None:
        pass

    def order(self, read: Read, typical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = read("times_seen")
        return ranking(read("logit"), read("mean_loss"), typical, seen, self.switches)

    def columns(self, read: Read, typical: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Draw:
    """A Gumbel number for each sample, from its digest and the run's seed; 2 bytes.

    It depends on nothing else: not on N, nor on the order of the samples, nor on the processes.

    Args:
        digests: (N,) uint64, a hash of each sample's key.
        seed: of the run.
    """

    given: Mapping[str, Any] = {"draw": np.uint16}

    def __init__(self, digests: np.ndarray, seed: int) -> None:
        mixed = np.asarray(digests).astype(np.uint64) ^ _mix(np.array([seed], dtype=np.uint64))
        self.stored = (_mix(mixed) >> np.uint64(48)).astype(np.uint16)

    @staticmethod
    def uniform(stored: np.ndarray) -> np.ndarray:
        """In (0, 1): the middle of each of the 65,536 steps."""
        return (np.asarray(stored, dtype=np.float64) + 0.5) / (UNIT + 1.0)

    @staticmethod
    def gumbel(stored: np.ndarray) -> np.ndarray:
        """g = −log(−log u), from −2.5 to 11.8."""
        return -np.log(-np.log(Draw.uniform(stored)))


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al. 2014) of (n,) uint64: a hash whose bits are all good."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class FaultGate:
    """φ: samples against whose annotation the evidence of many visits speaks; 2 bytes.

    The fault signal is averaged over the first visits, when a model has not yet learnt its training
    set by heart. Where annotations are wrong, their averages form a heap of their own at the upper
    end; where none are, the averages just thin out, and what lies above ½ is a hard image. So the
    gate opens only if more samples lie above :data:`CLEAR` than between ½ and it, and then takes
    all above ½.

    Where the evidence is the strongest of many parts of a sample, as of the boxes of an image, it
    lies above ½ by chance in most samples. A ``limit`` of its own, which sound samples seldom
    reach, then takes the place of ½, and the gate is always open.

    Args:
        visits: how many of them count.
        limit: what a fault lies above; None finds out whether there are faults at all.
    """

    learnt: Mapping[str, Any] = {"fault": np.uint16}
    signals = frozenset({"fault"})

    EVEN = 0.5  # another answer is as likely as the given one
    CLEAR = 0.7  # another answer is clearly more likely

    def __init__(self, visits: int, limit: float | None = None) -> None:
        self.visits, self._limit = visits, limit
        self.open = limit is not None

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """The running mean over the first visits."""
        if "fault" not in signals:
            return {"fault": state["fault"]}
        mean = running_mean(as_share(state["fault"]), signals["fault"], seen)
        return {"fault": np.where(seen < self.visits, stored_share(mean), state["fault"])}

    def flagged(self, stored: np.ndarray) -> np.ndarray:
        """φ = 1, bool, shape as ``stored``."""
        limit = self.EVEN if self._limit is None else self._limit
        return self.open & (as_share(stored) > limit)

    def end_epoch(self, mask: SampleMask) -> None:
        """Open or close the gate."""
        if self._limit is not None:
            return
        fault = as_share(mask.column("fault"))
        counts = [np.sum(fault > self.CLEAR), np.sum((fault > self.EVEN) & (fault <= self.CLEAR))]
        clear, doubtful = mask.exchange.sum(np.array(counts, dtype=np.float64))
        self.open = bool(clear > doubtful)


class Redundancy:
    """M, how often a sample is there, and which of twins may go first; 1 byte.

    Of twins one stays ahead of the others: while the mask learns it is the one with the largest
    Gumbel number, at the cut the one of least pressure. The others go before any sample that has
    no twin.

    Args:
        neighbours: of all N samples.
        draw: the Gumbel numbers.
    """

    given: Mapping[str, Any] = {"copies": np.uint8}
    STEPS = 127.0  # of M from 1 to 11; the highest bit says that a twin stays in its place

    def __init__(self, neighbours: Neighbours, draw: Draw) -> None:
        self.twins = neighbours.twins()
        steps = np.rint((neighbours.copies - 1.0) / COUNTED * self.STEPS).astype(np.uint8)
        spare = ~self.twins.representatives(-Draw.uniform(draw.stored))
        self.stored = steps | (spare.astype(np.uint8) << 7)

    @classmethod
    def copies(cls, stored: np.ndarray) -> np.ndarray:
        """M, from 1 to 11."""
        return 1.0 + (np.asarray(stored, dtype=np.int64) & 127) / cls.STEPS * COUNTED

    @staticmethod
    def spare(stored: np.ndarray) -> np.ndarray:
        """Whether a twin of it stays in its place, bool."""
        return np.asarray(stored, dtype=np.int64) > 127


class Uncertainty:
    """w and p of DUAL from moments kept per visit; 8 bytes.

    The visits are cut into windows. At the end of each the confidence's standard deviation in it,
    times one minus its mean, enters the mean of them, which is w; p is the mean confidence.

    Args:
        visits: how many count, a multiple of ``window``.
        window: visits of a window.
    """

    learnt: Mapping[str, Any] = {
        "window_mean": np.uint16,
        "window_spread": np.uint16,
        "uncertainty": np.uint16,
        "confidence": np.uint16,
    }
    signals = frozenset({"confidence"})

    def __init__(self, visits: int, window: int) -> None:
        self.visits, self.window = visits, window

    @classmethod
    def of_run(cls, epochs: int) -> Uncertainty:
        """Windows of 10 over the first half of a run, 15 to 30 visits; of 5 in a short run."""
        window = 10 if epochs >= 30 else 5
        visits = min(max(epochs // 2, 15), 30, epochs) // window * window
        return cls(max(visits, window), window)

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """One visit more, and where it ends a window one more value in w."""
        q = signals["confidence"]
        place = seen % self.window  # in the window, from 0
        old = np.where(place > 0, as_share(state["window_mean"]), 0.0)
        # The variance in the window is at most 1/4, and is stored as four times itself.
        spread = np.where(place > 0, as_share(state["window_spread"]) / 4.0, 0.0)
        mean = running_mean(old, q, place)
        spread = running_mean(spread, (q - old) * (q - mean), place)  # Welford's
        value = np.sqrt(np.maximum(spread, 0.0)) * (1.0 - mean)
        before = as_share(state["uncertainty"])
        w = np.where(
            place == self.window - 1, running_mean(before, value, seen // self.window), before
        )
        found = {
            "window_mean": mean,
            "window_spread": 4.0 * spread,
            "uncertainty": w,
            "confidence": running_mean(as_share(state["confidence"]), q, seen),
        }
        counts = seen < self.visits
        return {
            name: np.where(counts, stored_share(share), state[name])
            for name, share in found.items()
        }


def running_mean(mean: np.ndarray, value: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of ``count`` + 1 values, of which the first ``count`` have the mean ``mean``."""
    return mean + (value - mean) / (count + 1.0)


def beta_powers(middle: float, keep_ratio: float, power: float = 4.0) -> tuple[float, float]:
    """(a − 1, b − 1) of DUAL's Beta density for a cut to ``keep_ratio``, tempered at light cuts.

    b = 15·(1 − μ)·(1 − r^c) and a = 16 − b, with r the dropped share: the deeper the cut, the
    nearer to 1 the confidence that is preferred. The density is narrow; where most samples stay it
    would send away hard and easy ones alike. So both powers are multiplied by (r / 0.7)², at most
    1: from 30% kept on it is DUAL's, and at 90% next to nothing is left of it.

    Args:
        middle: μ, the mean confidence of the samples of largest w, in [0, 1].
        keep_ratio: c_r.
        power: c.
    """
    dropped = 1.0 - keep_ratio
    b = 15.0 * (1.0 - middle) * (1.0 - dropped**power)
    temper = min(1.0, (dropped / 0.7) ** 2)
    return temper * (15.0 - b), temper * (b - 1.0)


def beta_weight(confidence: np.ndarray, powers: tuple[float, float]) -> np.ndarray:
    """The Beta density, divided by its largest value for p in [0.001, 0.999]. Shape as given."""
    grid = np.linspace(1e-3, 1.0 - 1e-3, 999)

    def log_density(p: np.ndarray) -> np.ndarray:
        return powers[0] * np.log(p) + powers[1] * np.log1p(-p)

    p = np.clip(confidence, grid[0], grid[-1])
    return np.minimum(np.exp(log_density(p) - log_density(grid).max()), 1.0)


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
    TOP = 10  # samples of largest w, whose mean confidence is μ

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

    def start(self, mask: SampleMask) -> None:
        if len(self._draw.stored) != mask.num_samples:
            raise ValueError(
                f"there are {len(self._draw.stored)} digests for {mask.num_samples} samples"
            )
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
        """w·B(p)/M."""
        powers = beta_powers(self.known.middle, self.keep_ratio)
        weight = as_share(state["uncertainty"]) * beta_weight(as_share(state["confidence"]), powers)
        return weight if self._redundancy is None else weight / Redundancy.copies(state["copies"])

    def end_epoch(self, mask: SampleMask) -> None:
        """The gate, μ and Z anew, unless no visit has counted since; the same on any processes."""
        if not self._moved:
            return
        self._moved = False
        if self._gate is not None:
            self._gate.end_epoch(mask)
        self.known = Known(self._middle(mask))
        sums = np.zeros(2)
        for state in self._parts(mask):
            # Whole numbers, so that the sum does not depend on how it is split.
            sums[0] += np.rint(self._informed(state) * 2.0**24).sum()
            sums[1] += len(state["draw"])
        total, count = mask.exchange.sum(sums)
        self.known = Known(self.known.middle, float(total / max(count, 1.0) / 2.0**24))

    def _middle(self, mask: SampleMask) -> float:
        """The mean confidence of the unflagged samples of largest w; ½ where none has any."""
        best = np.empty((3, 0))
        for state in self._parts(mask):
            rows = np.stack([-state["uncertainty"], state["index"], state["confidence"]])
            best = _first(np.concatenate([best, rows.astype(np.float64)], axis=1), self.TOP)
        best = _first(mask.exchange.gather(best)[0], self.TOP)
        moving = best[2, best[0] < 0]
        return float(as_share(moving).mean()) if len(moving) else 0.5

    def _parts(self, mask: SampleMask) -> Iterator[dict[str, np.ndarray]]:
        """This process's unflagged samples that were seen, some at a time, with their index."""
        rows = len(mask.column("draw"))
        for start in range(0, rows, 1 << 18):
            part = slice(start, min(start + (1 << 18), rows))
            state = {name: mask.column(name)[part] for name in (*self.learnt, *self.given)}
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
        if self._gate is not None:
            found["fault"] = as_share(state["fault"]).astype(np.float32)
            found["flagged"] = self._flagged(state)
        if self._redundancy is not None:
            found["twin_group"] = self._redundancy.twins.group
            found["spare"] = self._spare(self._drawn(state) + self._against(state))
        return found

    def _all(self, read: Read) -> dict[str, np.ndarray]:
        return {name: read(name) for name in (*self.learnt, *self.given)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "middle": self.known.middle,
            "mean_informed": self.known.mean_informed,
            "moved": self._moved,
            "gate_open": self._gate is not None and self._gate.open,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.known = Known(float(state["middle"]), float(state["mean_informed"]))
        self._moved = bool(state["moved"])
        if self._gate is not None:
            self._gate.open = bool(state["gate_open"])


def _first(rows: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` first columns of (3, n), by the first row, then by the second."""
    return rows[:, np.lexsort((rows[1], rows[0]))[:count]]
