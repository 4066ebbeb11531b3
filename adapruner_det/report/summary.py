"""The few lines that say what a pruning run found, of either task.

Shape letters: N samples, K kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.status import TOLERANCE
from ..enough import still_falling
from ..errors import shown
from ..selection import Selection, missed_line

SHOWN = 3  # names of samples in a line


def class_counts(selection: Selection) -> dict[str, tuple[int, int]]:
    """How many of each class's images are kept, of how many; boxes of crowds do not count.

    Empty where the selection does not know the classes of its samples.
    """
    total: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    columns = selection.columns
    if "classes" not in columns:
        return {}
    for ids, stays in zip(columns["classes"].tolist(), columns["kept"], strict=True):
        own = [int(i) for i in ids.split()]
        total.update(own)
        if stays:
            kept.update(own)
    names = selection.class_names
    return {
        names[c] if c < len(names) else f"class {c}": (kept[c], total[c]) for c in sorted(total)
    }


def class_kept_shares(selection: Selection) -> dict[str, float]:
    """Of each class's images, the share that is kept, in [0, 1]."""
    return _shares(class_counts(selection))


def _shares(counts: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    return {name: kept / total for name, (kept, total) in counts.items()}


def classes_nearly_lost(counts: Mapping[str, tuple[int, int]], ratio: float) -> list[str]:
    """Classes of which less than half of the keep ratio stays, by more than chance would have it.

    Chance is three standard deviations of a binomial draw, so that two images of a class of three
    may go without a word. The least kept first.

    Args:
        counts: as :func:`class_counts` gives them.
        ratio: c_r.
    """
    far = {
        name: kept / total
        for name, (kept, total) in counts.items()
        if kept < ratio * total / 2
        and (ratio * total - kept) ** 2 > 9 * ratio * (1 - ratio) * total
    }
    return sorted(far, key=far.__getitem__)


def summarize(selection: Selection, seconds: float, path: str, next_step: str) -> str:
    """What was kept, how well the ratio held, what went first, and what to do next, a line each.

    Args:
        selection: of a run; what its method does not know has no line.
        seconds: that the run took.
        path: of the selection's file.
        next_step: the command that trains on it.
    """
    n, k = selection.num_samples, selection.num_kept
    counts = class_counts(selection)
    rows = [
        ("kept", f"{k} of {n} images ({100 * k / n:.2f}%), {n - k} dropped"),
        ("data sets", ", ".join(map(shown, selection.datasets))),
        *_ratio(selection),
        *_visits(selection),
        *_classes(_shares(counts)),
        *_reasons(selection),
        *_dropped(selection),
        *_warnings(selection, counts),
        ("written", f"{path} after {seconds:.0f} s"),
        ("train on it", next_step),
    ]
    return "\n".join(f"{name:<17} {value}" for name, value in rows)


def _ratio(selection: Selection) -> list[tuple[str, str]]:
    if selection.soft_ratio is None:
        return []
    held = abs(selection.soft_ratio - selection.keep_ratio) <= TOLERANCE
    return [
        (
            "soft ratio",
            f"{selection.soft_ratio:.4f} before the cut, asked {selection.keep_ratio:g}: "
            f"{'held' if held else 'NOT HELD'}",
        )
    ]


def _visits(selection: Selection) -> list[tuple[str, str]]:
    visits = selection.columns.get("times_seen")
    if visits is None:
        return []
    text = f"{visits.min()} to {visits.max()} an image, {visits.mean():.1f} on average"
    return [("visits", text)]


def _classes(shares: dict[str, float], most: int = 12) -> list[tuple[str, str]]:
    """The kept share of the images of each class, the least kept first, and how far they differ."""
    if not shares:
        return [("kept by class", "no image has an object")]
    order = sorted(shares, key=shares.__getitem__)
    low, high = order[0], max(shares, key=shares.__getitem__)
    text = ", ".join(f"{shown(name)} {100 * shares[name]:.1f}%" for name in order[:most])
    more = f" and {len(order) - most} more" if len(order) > most else ""
    spread = f"{100 * (shares[high] - shares[low]):.1f}"
    ends = f"{shown(low)} to {shown(high)}"
    if spread == "0.0":  # as it is written: which class is ahead by less says nothing
        ends = "all classes are kept alike" if len(shares) > 1 else "there is one class"
    return [("kept by class", text + more), ("class spread", f"{spread} points, {ends}")]


def _reasons(selection: Selection) -> list[tuple[str, str]]:
    if "why" not in selection.columns:
        return []
    return [("dropped as", dropped_as(selection) or "none")]


def dropped_as(selection: Selection) -> str:
    """How many went for which reason, the most frequent first; empty where none is known."""
    if "why" not in selection.columns:
        return ""
    counts = Counter(selection.columns["why"][~selection.columns["kept"]].tolist())
    return ", ".join(f"{shown(why or 'unknown')} {n}" for why, n in counts.most_common())


def _dropped(selection: Selection) -> list[tuple[str, str]]:
    """Both ends of the dropped samples by mean loss; one that was never seen is at neither.

    What went as easy is not among the hardest, nor the other way round, however few went else.
    """
    columns = selection.columns
    if "mean_loss" not in columns:
        return []
    seen = columns["times_seen"] > 0 if "times_seen" in columns else True
    dropped = np.flatnonzero(~columns["kept"] & seen)
    why = columns["why"][dropped] if "why" in columns else np.full(len(dropped), "")
    rows = []
    for name, other, sign in (("hardest", "easy", -1.0), ("easiest", "hard", 1.0)):
        own = dropped[why != other]
        first = own[np.argsort(sign * columns["mean_loss"][own], kind="stable")[:SHOWN]]
        if len(own) or not len(dropped):
            keys = map(shown, columns["key"][first].tolist())
            rows.append((f"{name} dropped", ", ".join(keys) or "none"))
    return rows


def _warnings(selection: Selection, counts: Mapping[str, tuple[int, int]]) -> list[tuple[str, str]]:
    """Rows that most runs do not need."""
    rows = []
    if unseen := selection.unseen_keys():
        rows.append(("never finite", f"{_few(unseen)}: no finite loss, so they were cut first"))
    if selection.excluded:
        rows.append(("left out", f"{_few(list(selection.excluded))}: faulty, see the selection"))
    if line := missed_line(selection):
        rows.append(("nothing to drop", line))
    if line := still_falling(selection.parameters.get("epoch_losses", ())):
        rows.append(("too short", line))
    if lost := selection.lost_classes():
        rows.append(("classes lost", f"{_few(lost)}: no image of them is kept"))
    far = classes_nearly_lost(counts, selection.keep_ratio)
    if far and selection.method == "adapruner":
        band = min(0.1, selection.keep_ratio / 4)
        hint = f"ADAPRUNER.CLASS_BAND {band:.2g} holds each class's share as near to the ratio"
        rows.append(("few left of", f"{_few(far)}: {hint}"))
    return rows


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more
