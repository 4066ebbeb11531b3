"""Which end to drop, found out on training samples that are held out; the test set is not read.

Two data sets may look the same to a run and yet need opposite cuts, so only the response of a
trained model decides. Each trial holds out another tenth of the samples, cuts the rest to the keep
ratio once by a class-stratified draw and once by each candidate, trains on every cut with one seed,
and evaluates on the tenth. Near-copies are held out together: a cut that thins them would else be
judged by how well its rival has learnt the tenth by heart. A candidate is taken only where the
one-sided 95% bound of its mean difference to the draw, corrected for the number of candidates
(Bonferroni), lies above 0; of several the one with the highest bound. Otherwise the draw is taken,
which loses to no random one.

What a run learnt of the samples it learnt from all of them, held-out ones too; they decide which
of the *others* are kept, never how a cut is judged.

Shape letters: N samples, T trials.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from tabulate import tabulate
from tqdm import tqdm

from ..core import end_score
from ..core.cut import cut, kept_count
from ..errors import DataError
from ..folds import assign_folds, near_copies
from ..samples import Samples
from ..settings import require_enough_for_auto
from .stratified import stratified_score

logger = logging.getLogger(__name__)

#: What the draw is called, and the objective's own order.
DRAW, OWN = "stratified draw", "own order"
#: Ends that are tried besides the objective's own order, where the columns tell them.
TRIED = ("both", "easy", "hard")
#: How many trials, and how many folds the samples are dealt into, of which each holds one out.
TRIALS, FOLDS = 5, 10
LEVEL = 0.95

#: (samples to train on (N,) bool, samples to evaluate on (N,) bool, seed) → (value, seconds).
Respond = Callable[[np.ndarray, np.ndarray, int], tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """What the trials say.

    Attributes:
        taken: the candidate, or :data:`DRAW`.
        values: candidate or DRAW → (T,) what the trials gave.
        bounds: candidate → the lower bound of its mean difference to the draw.
        seconds: of all trainings.
    """

    taken: str
    values: Mapping[str, Sequence[float]]
    bounds: Mapping[str, float]
    seconds: float

    def parameters(self) -> dict[str, object]:
        """Plain values for a selection."""
        return {
            "auto": self.taken,
            "auto_values": {name: [float(v) for v in own] for name, own in self.values.items()},
            "auto_bounds": {name: float(bound) for name, bound in self.bounds.items()},
            "auto_seconds": float(self.seconds),
        }

    def text(self, metric: str = "") -> str:
        """A table of the candidates and one line that says which is taken, why, and the cost."""
        draw = np.array(self.values[DRAW])
        rows = [
            (
                name,
                f"{np.mean(own):.2f}",
                "" if name == DRAW else f"{np.mean(np.array(own) - draw):+.2f}",
                "" if name == DRAW else f"{self.bounds[name]:+.2f}",
            )
            for name, own in self.values.items()
        ]
        head = ["dropped by", f"held-out {metric}".strip(), "to the draw", "at least"]
        table = tabulate(rows, head, tablefmt="github", disable_numparse=True)
        trainings = sum(len(own) for own in self.values.values())
        why = (
            "no candidate is better with the evidence asked for"
            if self.taken == DRAW
            else f"it is better by at least {self.bounds[self.taken]:.2f}"
        )
        return (
            f"{table}\ntaken: {self.taken}, for {why}; {trainings} trainings on held-out parts "
            f"took {self.seconds:.0f} s"
        )


def candidates(columns: Mapping[str, np.ndarray], own: np.ndarray) -> dict[str, np.ndarray]:
    """Name → score (N,), lower is kept first, of what is tried.

    Args:
        columns: of the run, as :mod:`.core.ends` reads them.
        own: (N,) the objective's own score.
    """
    found = {OWN: own}
    for end in TRIED:
        score = end_score(end, columns)
        if not np.array_equal(np.argsort(score, kind="stable"), np.argsort(own, kind="stable")):
            found[end] = score
    return found


def decide(
    scores: Mapping[str, np.ndarray],
    samples: Samples,
    keep_ratio: float,
    seed: int,
    respond: Respond,
    trials: int = TRIALS,
) -> Verdict:
    """Compare the candidates with a class-stratified draw on held-out samples.

    Args:
        scores: of :func:`candidates`.
        samples: the N samples.
        keep_ratio: c_r, of what is not held out too.
        seed: of the folds, the draws and the trainings.
        respond: trains and evaluates.
        trials: T, at least 2.

    Raises:
        DataError: too few samples to hold a tenth out.
    """
    require_enough_for_auto(len(samples))
    fold = assign_folds(near_copies(samples), FOLDS, seed)
    values: dict[str, list[float]] = {name: [] for name in (DRAW, *scores)}
    total = 0.0
    bar = tqdm(desc="auto", total=trials * len(values), unit=" trainings", disable=None)
    with bar:
        for trial in range(trials):
            held = fold == trial % FOLDS
            own = {DRAW: stratified_score(samples, seed + trial), **scores}
            for name, score in own.items():
                value, seconds = respond(cut_of_rest(score, held, keep_ratio), held, seed + trial)
                if not np.isfinite(value):
                    raise DataError(
                        f"a training on what is left without {name} was evaluated to {value}: no "
                        "end can be chosen by it; lower the learning rate if it has diverged, or "
                        "name the end to drop in place of 'auto'"
                    )
                values[name].append(value)
                total += seconds
                logger.info("auto: trial %d of %d, %s: %.2f", trial + 1, trials, name, value)
                bar.update()
    bounds = {
        name: lower_bound(np.array(values[name]) - values[DRAW], len(scores)) for name in scores
    }
    best = max(bounds, key=lambda name: bounds[name])
    return Verdict(best if bounds[best] > 0 else DRAW, values, bounds, total)


def cut_of_rest(score: np.ndarray, held: np.ndarray, keep_ratio: float) -> np.ndarray:
    """(N,) bool: of the samples that are not ``held`` the round(c_r·n) of lowest ``score``."""
    rest = np.flatnonzero(~held)
    kept = np.zeros(len(score), dtype=bool)
    kept[rest] = cut(np.zeros(len(rest)), score[rest], kept_count(len(rest), keep_ratio))
    return kept


def lower_bound(differences: np.ndarray, comparisons: int) -> float:
    """What the mean of paired differences (T,) is at least, at LEVEL for all comparisons together.

    Student's t, one-sided, with Bonferroni's correction. The trials learn from samples that they
    share, so the variance of their mean is not s²/T but s²·(1/T + n_held/n_rest), as Nadeau and
    Bengio have it (Inference for the Generalization Error, 2003). What is judged is a cut of the
    rest and a training on it, so the rest counts, not the part of it that is kept.
    """
    level = 1.0 - (1.0 - LEVEL) / comparisons
    shared = 1.0 / len(differences) + 1.0 / (FOLDS - 1)
    error = differences.std(ddof=1) * np.sqrt(shared)
    return float(differences.mean() - stats.t.ppf(level, len(differences) - 1) * error)
