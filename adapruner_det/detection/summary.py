"""The few lines that say what a pruning run found.

Shape letters: N samples, K kept.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from tabulate import tabulate

from ..core.pruner import TOLERANCE
from ..selection import Selection


def class_kept_shares(selection: Selection) -> dict[str, float]:
    """Of each class's images, the share that is kept, in [0, 1]; boxes of crowds do not count."""
    total: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    columns = selection.columns
    for ids, stays in zip(columns["classes"].tolist(), columns["kept"], strict=True):
        own = [int(i) for i in ids.split()]
        total.update(own)
        if stays:
            kept.update(own)
    return {selection.class_names[c]: kept[c] / total[c] for c in sorted(total)}


def summarize(selection: Selection, seconds: float, path: str, next_step: str) -> str:
    """What was kept, how well the ratio held, what went first, and what to do next, a line each.

    Args:
        selection: of a pruning run.
        seconds: that the run took.
        path: of the selection's file.
        next_step: the command that trains on it.
    """
    columns, shares = selection.columns, class_kept_shares(selection)
    n, k = selection.num_samples, selection.num_kept
    dropped = np.flatnonzero(~columns["kept"].astype(bool) & (columns["times_seen"] > 0))
    hardest = dropped[np.argsort(-columns["mean_loss"][dropped], kind="stable")][:3]
    easiest = dropped[np.argsort(columns["mean_loss"][dropped], kind="stable")][:3]
    visits = columns["times_seen"]
    ratio = selection.soft_ratio if selection.soft_ratio is not None else k / n
    held = "held" if abs(ratio - selection.keep_ratio) <= TOLERANCE else "NOT HELD"
    rows = [
        ("kept", f"{k} of {n} images ({100 * k / n:.2f}%), {n - k} dropped"),
        ("data sets", ", ".join(selection.datasets)),
        ("soft ratio", f"{ratio:.4f} before the cut, asked {selection.keep_ratio:g}: {held}"),
        ("visits", f"{visits.min()} to {visits.max()} an image, {visits.mean():.1f} on average"),
        ("kept by class", _by_class(shares)),
        ("class spread", _spread(shares)),
        ("hardest dropped", ", ".join(columns["key"][hardest]) or "none"),
        ("easiest dropped", ", ".join(columns["key"][easiest]) or "none"),
        *_warnings(selection),
        ("written", f"{path} after {seconds:.0f} s"),
        ("train on it", next_step),
    ]
    return "\n".join(f"{name:<17} {value}" for name, value in rows)


def _warnings(selection: Selection) -> list[tuple[str, str]]:
    """Rows that most runs do not need."""
    rows = []
    if unseen := selection.unseen_keys():
        rows.append(("never finite", f"{_few(unseen)}: no finite loss, so they were cut first"))
    if selection.excluded:
        rows.append(("left out", f"{_few(list(selection.excluded))}: faulty, see the selection"))
    if lost := selection.lost_classes():
        rows.append(("classes lost", f"{_few(lost)}: no image of them is kept"))
    return rows


def _few(words: list[str], most: int = 3) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _spread(shares: dict[str, float]) -> str:
    if not shares:
        return "no image has an object"
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    return f"{100 * (shares[high] - shares[low]):.1f} points, {low} to {high}"


def _by_class(shares: dict[str, float], most: int = 12) -> str:
    """The kept share of the images of each class, the least kept first, ``most`` of them."""
    order = sorted(shares, key=shares.__getitem__)
    shown = ", ".join(f"{name} {100 * shares[name]:.1f}%" for name in order[:most])
    return (shown or "no image has an object") + (
        f" and {len(order) - most} more" if len(order) > most else ""
    )


def dropped_faults(selections: list[Selection], kinds: dict[str, str]) -> str:
    """How many of the dropped samples were planted faults, against what chance would drop.

    Args:
        selections: of the same data, one a seed.
        kinds: image id → kind of the sample as planted, ``clean`` for the others.

    Returns:
        A table: of each kind the number planted, and the mean over the selections of how many were
        dropped beside the number that dropping as many samples at random drops on average.
    """
    rows = []
    for kind in sorted(set(kinds.values())):
        dropped, expected, planted = [], [], 0
        for selection in selections:
            ids = [key.rsplit("/", 1)[1] for key in selection.columns["key"].tolist()]
            is_kind = np.array([kinds[i] == kind for i in ids])
            gone = ~selection.columns["kept"].astype(bool)
            planted = int(is_kind.sum())
            dropped.append(int((is_kind & gone).sum()))
            expected.append(planted * gone.mean())
        rows.append(
            [
                kind.replace("_", " "),
                planted,
                f"{np.mean(dropped):.1f}",
                " ".join(map(str, dropped)),
                f"{np.mean(expected):.1f}",
                f"{np.mean(dropped) / max(np.mean(expected), 1e-9):.2f}",
            ]
        )
    head = ["planted", "images", "dropped, mean", "each seed", "by chance", "times chance"]
    return tabulate(rows, head, disable_numparse=True)
