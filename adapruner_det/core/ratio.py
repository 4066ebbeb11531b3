"""What holds the kept ratio at c_r: the paper's λ, and a Lagrange multiplier.

Shape letters: N samples, B samples of a batch.

``paper`` is Eq. 6 with λ = s·|r − c_r| (Eq. 7). Every data gradient pushes down and λ vanishes
with the error, so the ratio settles where f = 2s(c_r − r)², that is sqrt(f / 2s) below c_r: some
7 to 19 points for s = 100. It is there for comparison.

``dual``, the default, solves  min Σ σ(α·m_i)·f_i  subject to  mean σ(α·m) = c_r  with a
multiplier μ for the constraint. At the solution the samples with f_i < μ are kept, so μ is the
c_r-quantile of f. The gradient of the Lagrangian with respect to m_i, times N, is

    α·σ'(α·m_i)·(f_i − μ + h·(1 − 2σ(α·m_i)))

with h the strength of the binarising penalty h·σ(1 − σ), which is 0 for the first part of the run.
The step is that gradient under a positive preconditioner that makes it free of the units of f:
4/α, and F(f_i) − F(μ) in place of f_i − μ, where F is the share of recent observations below a
value. F is read from a window, so that f may be heavy-tailed, bimodal or drifting; exact ties in
f are broken by a fixed hash of the sample's index. What is controlled is c = F(μ), a number
between 0 and 1. Logits are bounded: α·σ' of a sample far out would be all but 0, and no loss could
bring it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .equations import binarising_force, compression_weight, mask_gradient, sigmoid
from .hashing import mix
from .mask import Totals
from .window import RecentWindow


@dataclass(frozen=True)
class RunState:
    """What a controller may know of the run when a batch arrives."""

    num_samples: int
    keep_ratio: float
    alpha: float
    progress: float  # of the pruning epochs, 0 to 1
    totals: Totals
    offset: np.ndarray | float = 0.0  # (B,), lowers the ranks of the batch: see .balance


class RatioController(Protocol):
    """Moves the logits of a batch so that the ratio goes to c_r."""

    #: Logit of a sample before it first moves.
    initial_logit: float
    #: Weight of the newest loss in a sample's mean loss once it has been seen 1/decay times.
    visit_decay: float

    @property
    def multiplier(self) -> float:
        """The dual variable, for the log."""

    def watch(self, ids: np.ndarray, f: np.ndarray) -> None:
        """See a batch whose logits do not move (warm-up)."""

    def step(self, ids: np.ndarray, logit: np.ndarray, f: np.ndarray, run: RunState) -> np.ndarray:
        """The new logits, (B,), of distinct ``ids`` (B,) with pressure ``f`` (B,)."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class PaperRatio:
    """Eq. 6 and 7 to the letter: plain gradient steps with λ = s·|r − c_r|.

    Args:
        scale: s of Eq. 7.
        learning_rate: step in the logit per unit of the gradient times N.
        use_compression: False leaves Eq. 6 out (Table 5); then nothing holds the ratio.
    """

    initial_logit = 1.0
    visit_decay = 1.0  # Eq. 4 and 5 use the loss of the visit

    def __init__(
        self, scale: float = 100.0, learning_rate: float = 0.5, use_compression: bool = True
    ) -> None:
        self.scale, self.learning_rate = scale, learning_rate
        self.use_compression = use_compression
        self._weight = 0.0

    @property
    def multiplier(self) -> float:
        return self._weight

    def watch(self, ids: np.ndarray, f: np.ndarray) -> None:
        pass

    def step(self, ids: np.ndarray, logit: np.ndarray, f: np.ndarray, run: RunState) -> np.ndarray:
        ratio = run.totals.soft / run.num_samples
        self._weight = compression_weight(ratio, run.keep_ratio, self.scale)
        pull = 2.0 * self._weight * (ratio - run.keep_ratio) if self.use_compression else 0.0
        return logit - self.learning_rate * mask_gradient(logit, run.alpha, f + pull)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self._weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weight = float(state["weight"])


class DualRatio:
    """A Lagrange multiplier in rank space; see the module's docstring.

    The constants hold for every N, batch size, number of epochs and keep ratio.

    Args:
        num_samples: N; the window of recent pressures holds min(N, 4096).
        keep_ratio: c_r.
        alpha_end: α of the last epoch.
        use_compression: False leaves the constraint out (Table 5): every sample is pushed out.
    """

    initial_logit = 0.0
    visit_decay = 0.2

    # Logits in units of 1/α of the last epoch, so that another α range changes nothing else.
    STEP = 3.0  # largest step in a logit; one such step from 0 ends up binary
    BOUND = 5.0  # largest logit: no sample is out so far that it could not come back in mid-run
    WINDOW = 4096  # a quantile's standard error is then below 0.8 points
    PROPORTIONAL = 4.0  # c moves by 4 points for each point of error in the ratio ...
    BATCH_GAIN = 0.7  # ... but a batch never tries to make good more than this part of it
    INTEGRAL = 2.0  # per epoch
    GUARD_FROM = 0.3  # progress from which a batch may not leave the ratio further off than ...
    GUARD_SLACK = 0.005  # ... this, a quarter of the paper's ε
    SETTLE_FROM = 0.5  # progress from which h grows ...
    SETTLE = 0.6  # ... to this, in units of rank

    def __init__(
        self,
        num_samples: int,
        keep_ratio: float,
        alpha_end: float = 5.0,
        use_compression: bool = True,
    ) -> None:
        self._step, self._bound = self.STEP / alpha_end, self.BOUND / alpha_end
        self._window = RecentWindow(min(num_samples, self.WINDOW))
        self._center = keep_ratio  # c
        self._integral = 0.0
        # Within this distance of c, in rank, a step is below full size: wide enough to rank
        # the samples at the threshold, narrow enough that few of them stay undecided.
        self._width = max(min(0.05, 0.2 * min(keep_ratio, 1.0 - keep_ratio)), 1e-6)
        self.use_compression = use_compression

    @property
    def multiplier(self) -> float:
        return self._center

    def watch(self, ids: np.ndarray, f: np.ndarray) -> None:
        self._window.add(_break_ties(ids, f))

    def step(self, ids: np.ndarray, logit: np.ndarray, f: np.ndarray, run: RunState) -> np.ndarray:
        f = _break_ties(ids, f)
        self._window.add(f)
        probability = sigmoid(run.alpha * logit)
        gain = self._step * 4.0 * probability * (1.0 - probability)
        settle = self.SETTLE * max(0.0, (run.progress - self.SETTLE_FROM) / (1 - self.SETTLE_FROM))
        rank = self._window.rank(f) - run.offset + binarising_force(probability, settle)
        self._center = self._control(len(ids), run) if self.use_compression else 0.0
        if self.use_compression and run.progress >= self.GUARD_FROM:
            self._center = self._guard(logit, rank, gain, run)
        moved = logit + gain * np.clip((self._center - rank) / self._width, -1.0, 1.0)
        return np.clip(moved, -self._bound, self._bound)

    def _control(self, batch: int, run: RunState) -> float:
        """c by proportional and integral control on the share of logits above 0.

        That share is what r becomes once the mask is binary, and unlike r it is meaningful while
        α is small. Undecided logits count as c_r of a sample. The integral stands still while c
        is at its bounds.
        """
        n = run.num_samples
        share = (run.totals.positive + run.keep_ratio * run.totals.undecided) / n
        error = run.keep_ratio - share
        proportional = min(self.PROPORTIONAL, self.BATCH_GAIN * n / batch)
        wanted = run.keep_ratio + proportional * error + self._integral
        center = min(max(wanted, 0.0), 1.0)
        if center == wanted:
            self._integral += self.INTEGRAL * error * batch / n
        return center

    def _guard(self, logit: np.ndarray, rank: np.ndarray, gain: np.ndarray, run: RunState) -> float:
        """The c nearest to the controlled one that leaves the ratio within the slack.

        A logit that can change its sign in this step is above 0 after it if and only if c exceeds
        a critical value known in closed form, so the count kept after the step is a step function
        of c. Where the whole batch cannot make the error good, it does what it can.
        """
        turn = -logit / np.maximum(gain, 1e-12)  # the clipped step that brings the logit to 0
        can_turn = np.abs(turn) < 1.0
        critical = np.sort((rank + self._width * turn)[can_turn])
        if not len(critical):
            return self._center
        n = run.num_samples
        kept_now = np.count_nonzero(logit > 0) + run.keep_ratio * np.count_nonzero(logit == 0)
        share = run.totals.positive + run.keep_ratio * run.totals.undecided
        target = kept_now + run.keep_ratio * n - share - np.count_nonzero((logit > 0) & ~can_turn)
        slack = max(self.GUARD_SLACK * n, 0.5)
        fewest, most = int(np.ceil(target - slack)), int(np.floor(target + slack))
        kept = int(np.searchsorted(critical, self._center))
        if fewest <= kept <= most:
            return self._center
        allowed = min(max(fewest if kept < fewest else most, 0), len(critical))
        edges = np.concatenate([[critical[0] - 1.0], critical, [critical[-1] + 1.0]])
        return float(0.5 * (edges[allowed] + edges[allowed + 1]))

    def state_dict(self) -> dict[str, Any]:
        return {
            "center": self._center,
            "integral": self._integral,
            "window": self._window.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._center = float(state["center"])
        self._integral = float(state["integral"])
        self._window.load_state_dict(state["window"])


def make_controller(
    name: str,
    num_samples: int,
    keep_ratio: float,
    alpha_end: float,
    paper_scale: float,
    use_compression: bool,
) -> RatioController:
    """The controller ``dual`` or ``paper``; the arguments are those of the two."""
    if name == "dual":
        return DualRatio(num_samples, keep_ratio, alpha_end, use_compression)
    if name == "paper":
        return PaperRatio(paper_scale, use_compression=use_compression)
    raise ValueError(f"the controller is {name!r}; it must be 'dual' or 'paper'")


def _break_ties(ids: np.ndarray, f: np.ndarray) -> np.ndarray:
    """``f`` shifted by at most 1e-9 of itself, by a hash of the index that never changes.

    Without it, equal losses at the threshold would be kept or dropped together.
    """
    unit = mix(ids.astype(np.uint64)).astype(np.float64) / 2.0**64 - 0.5
    return f + 1e-9 * unit * np.maximum(1.0, np.abs(f))
