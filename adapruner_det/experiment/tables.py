"""Tables of trainings: mean ± sd, paired differences to random with their interval, ranks.

Figures of a method at a keep ratio and a budget are over its seeds; differences are paired, between
trainings of one seed. Plain functions of a list of rows, whose order does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student
from tabulate import tabulate

#: What stands above tables that have dynamic references.
_OF_DYNAMIC = (
    "A dynamic reference leaves images out anew in every epoch: its images are the mean over them, "
    "and it is neither ranked nor compared, for it selects nothing. Here it has the loss of such a "
    "training, and not its time."
)

#: Differences that are nearer than this are equal but for rounding.
EQUAL = 1e-9

#: What everything is compared with.
RANDOM = "random"


@dataclass(frozen=True)
class Row:
    """One training on all samples or on a part.

    Attributes:
        method: what chose the part, ``full`` for all samples.
        keep_ratio: c_r.
        budget: ``epochs`` or ``steps``, that are as many as on all samples.
        seed: of selection and training.
        value: of the metric; more is better.
        images: that were trained on.
        select_seconds: what choosing took, a recorded training that it reads included; 0 for all.
        train_seconds: of the training.
        select_memory: the most that choosing had resident, likewise, in megabytes; None where that
            is not known.
        select_added: the most that it added to what its process had resident before, likewise.
        select_gpu: the most that it had allocated on GPUs, likewise.
        steps: of the training; 0 where that is not known.
        dynamic: whether it pruned while it trained: a reference that is kept apart from methods,
            whose ``images`` are the mean over its epochs.
    """

    method: str
    keep_ratio: float
    budget: str
    seed: int
    value: float
    images: int
    select_seconds: float
    train_seconds: float
    select_memory: float | None = None
    select_added: float | None = None
    select_gpu: float | None = None
    dynamic: bool = False
    steps: int = 0


class Setting(NamedTuple):
    """What the methods are compared at."""

    keep_ratio: float
    budget: str

    def __str__(self) -> str:
        return f"{100 * self.keep_ratio:g}% kept, equal {self.budget}"


class Gap(NamedTuple):
    """Paired differences to random over the seeds that both have.

    Attributes:
        values: one a seed.
        mean: of them.
        half: of the 95% interval's width; NaN where the values tell of no spread: of one seed,
            or where all are equal, as few accuracies on a small test set can be.
    """

    values: tuple[float, ...]
    mean: float
    half: float

    @property
    def ahead(self) -> int:
        """In how many seeds the method is better."""
        return sum(value > EQUAL for value in self.values)

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.mean) > self.half


def spread(values: Sequence[float]) -> str:
    """``mean ± sd``, with n - 1 in the denominator; the value alone of one."""
    mean = f"{np.mean(values):.2f}"
    return f"{mean} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else mean


def gap(values: Sequence[float]) -> Gap:
    """Mean of n differences and half the width of its 95% interval, by Student's t of n - 1."""
    half = float("nan")
    if np.ptp(values) > EQUAL:
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        half = float(student.ppf(0.975, len(values) - 1) * error)
    mean = float(np.mean(values))
    return Gap(tuple(values), mean if abs(mean) > EQUAL else 0.0, half)


def gap_to_random(rows: Iterable[Row], method: str, setting: Setting) -> Gap | None:
    """Of a method at one setting; None where it shares no seed with random there."""
    own, drawn = by_seed(rows, method, setting), by_seed(rows, RANDOM, setting)
    shared = sorted(own.keys() & drawn.keys())
    return gap([own[seed].value - drawn[seed].value for seed in shared]) if shared else None


def by_seed(rows: Iterable[Row], method: str, setting: Setting) -> dict[int, Row]:
    """Seed → the row of a method at one setting."""
    return {r.seed: r for r in rows if (r.method, r.keep_ratio, r.budget) == (method, *setting)}


def settings_of(rows: Iterable[Row]) -> list[Setting]:
    """Those of the parts: by budget, and the largest keep ratio first."""
    found = {Setting(row.keep_ratio, row.budget) for row in rows if _is_of_a_part(row)}
    return sorted(found, key=lambda setting: (setting.budget, -setting.keep_ratio))


def methods_of(rows: Iterable[Row]) -> list[str]:
    """The methods, random first, without ``full`` and what is dynamic."""
    found = {row.method for row in rows if _is_of_a_part(row)}
    return sorted(found, key=lambda name: (name != RANDOM, name))


def dynamic_of(rows: Iterable[Row]) -> list[str]:
    """The dynamic references."""
    return sorted({row.method for row in rows if row.dynamic})


def _is_of_a_part(row: Row) -> bool:
    return row.method != "full" and not row.dynamic


def ranks(rows: Sequence[Row], setting: Setting) -> dict[str, int]:
    """Method → its place by the mean over the seeds that all methods have there; equals share it.

    Empty where they have none in common.
    """
    found = {name: by_seed(rows, name, setting) for name in methods_of(rows)}
    found = {name: own for name, own in found.items() if own}
    shared = set.intersection(*(set(own) for own in found.values())) if found else set()
    if not shared:
        return {}
    means = {
        name: round(float(np.mean([own[seed].value for seed in sorted(shared)])), 9)
        for name, own in found.items()
    }
    return {name: 1 + sum(other > mean for other in means.values()) for name, mean in means.items()}


def main_table(rows: Sequence[Row], metric: str) -> str:
    """Markdown: a line for all samples, one a dynamic reference, one a method and setting."""
    whole = ("full", *dynamic_of(rows))
    lines = [_line(rows, name, Setting(1.0, "epochs"), {}) for name in whole]
    for setting in settings_of(rows):
        places = ranks(rows, setting)
        lines += [_line(rows, name, setting, places) for name in methods_of(rows)]
    head = ["trained on", "keep %", "equal", "images", "seeds", f"{metric}, mean ± sd"]
    head += ["against random, 95%", "ahead in", "rank", "selection s", "selection MB"]
    head += ["selection GPU MB", "training s"]
    if all(row.select_gpu is None for row in rows):
        unused = head.index("selection GPU MB")
        head.pop(unused)
        lines = [line[:unused] + line[unused + 1 :] for line in lines]
    return tabulate([x for x in lines if x], head, tablefmt="github", disable_numparse=True)


def _line(rows: Sequence[Row], name: str, setting: Setting, places: dict[str, int]) -> list[str]:
    """Empty where there is nothing yet."""
    found = [row for _, row in sorted(by_seed(rows, name, setting).items())]
    if not found:
        return []
    against = None if name == RANDOM else gap_to_random(rows, name, setting)
    dynamic = found[0].dynamic
    return [
        f"{name} (dynamic)" if dynamic else name,
        "" if dynamic else f"{100 * setting.keep_ratio:g}",
        setting.budget,
        "/".join(str(count) for count in sorted({row.images for row in found})),
        str(len(found)),
        spread([row.value for row in found]),
        interval_text(against) if against else "",
        f"{against.ahead} of {len(against.values)}" if against else "",
        str(places.get(name, "")),
        ""
        if name == "full" or dynamic
        else f"{np.mean([row.select_seconds for row in found]):.1f}",
        _memory(found),
        _most([row.select_gpu for row in found]),
        f"{np.mean([row.train_seconds for row in found]):.1f}",
    ]


def _memory(rows: Sequence[Row]) -> str:
    """``peak (+added)``, without decimals; empty unless all rows know it."""
    peak, added = _most([r.select_memory for r in rows]), _most([r.select_added for r in rows])
    return f"{peak} (+{added})" if peak and added else peak


def _most(values: Sequence[float | None]) -> str:
    """The largest, without decimals; empty unless all are known."""
    known = [value for value in values if value is not None]
    return f"{max(known):.0f}" if known and len(known) == len(values) else ""


def interval_text(found: Gap) -> str:
    """``+1.00 (-0.50 to +2.50)``; without a spread there is no interval."""
    low, high = found.mean - found.half, found.mean + found.half
    return f"{found.mean:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if found.half >= 0 else "")


def worst_table(rows: Sequence[Row]) -> str:
    """Each method's worst setting against random, and how many are below it; Markdown."""
    lines = []
    for name in methods_of(rows):
        known = [(gap_to_random(rows, name, setting), setting) for setting in settings_of(rows)]
        gaps = [(found, setting) for found, setting in known if found]
        if name == RANDOM or not gaps:
            continue
        worst, setting = min(gaps, key=lambda pair: (pair[0].mean, pair[1]))
        below = [found for found, _ in gaps if found.mean < 0]
        sure = sum(found.is_sure for found in below)
        counts = [f"{len(below)} of {len(gaps)}", str(sure)]
        lines.append([name, f"{interval_text(worst)} at {setting}", *counts])
    head = ["method", "worst cell", "below random", "with all of the interval"]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True) if lines else ""


def verdict(rows: Sequence[Row], method: str, setting: Setting, metric: str) -> str:
    """One sentence on a method against random.

    A difference whose interval has 0 in it is called none, and so is a lead that not every seed
    shares.
    """
    found = gap_to_random(rows, method, setting)
    if found is None:
        return f"{method} at {setting}: there is no seed to compare with random yet."
    count = len(found.values)
    if found.is_sure and found.mean < 0:
        outcome = "is BEHIND random"
    elif found.is_sure and found.ahead == count:
        outcome = "beats random"
    else:
        outcome = "cannot be told from random"
    return (
        f"{method} {outcome} at {setting}: {interval_text(found)} {metric}, "
        f"ahead in {found.ahead} of {count} seed{'s' * (count > 1)}."
    )


def report(rows: Sequence[Row], title: str, metric: str, cells: int, done: int) -> str:
    """All tables and verdicts as a page in Markdown.

    Args:
        rows: the trainings that are done.
        title: the data and the model.
        metric: what the values are.
        cells: of the grid.
        done: of those.
    """
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in rows})) or "none yet"
    state = "" if done == cells else f"Not complete: {done} of {cells} cells are done. "
    lines = [
        f"# {title}",
        "",
        f"{state}{metric} after the last step, on the test set; seeds {seeds}. Differences are "
        "paired by seed, with the 95% interval of Student's t. Selection includes the recorded "
        "training that a method reads, which a grid pays for once a seed; its MB are the most that "
        "the process had resident meanwhile, libraries and data included, over all seeds, and in "
        "brackets what that was above its start." + (" " + _OF_DYNAMIC if dynamic_of(rows) else ""),
        "",
        main_table(rows, metric),
        "",
    ]
    if worst := worst_table(rows):
        lines += [worst, ""]
    lines += [
        f"- {verdict(rows, name, setting, metric)}"
        for setting in settings_of(rows)
        for name in methods_of(rows)
        if name != RANDOM and by_seed(rows, name, setting)
    ]
    return "\n".join(lines) + "\n"
