"""The few lines that say what a pruning run found.

Shape letters: N samples, K kept, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.pruner import TOLERANCE
from ..selection import Selection
from .image_set import ImageSet
from .listing import shown


def class_kept_shares(selection: Selection, images: ImageSet) -> dict[str, float]:
    """Of each class's samples, the share that is kept, in [0, 1]."""
    labels = images.labels.numpy()
    total = np.bincount(labels, minlength=len(images.class_names))
    kept = np.bincount(labels, selection.columns["kept"], minlength=len(images.class_names))
    return {name: kept[c] / total[c] for c, name in enumerate(images.class_names) if total[c]}


def summarize(selection: Selection, images: ImageSet, seconds: float, next_step: str) -> str:
    """Nine lines: what was kept, how well the ratio held, what went, and what to do next.

    Before the last one stands what should not be: classes without a kept image, images that were
    left out, and images that never had a finite loss.
    """
    columns, shares = selection.columns, class_kept_shares(selection, images)
    n, k = selection.num_samples, selection.num_kept
    # Of what never had a finite loss nothing is known; it stands in a line of its own.
    dropped = np.flatnonzero(~columns["kept"].astype(bool) & (columns["times_seen"] > 0))
    by_loss = columns["key"][dropped[np.argsort(columns["mean_loss"][dropped], kind="stable")]]
    ratio = selection.soft_ratio if selection.soft_ratio is not None else k / n
    held = "held" if abs(ratio - selection.keep_ratio) <= TOLERANCE else "NOT HELD"
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    rows = [
        ("kept", f"{k} of {n} images ({100 * k / n:.2f}%), {n - k} dropped"),
        ("data set", ", ".join(selection.datasets)),
        ("soft ratio", f"{ratio:.4f} before the cut, asked {selection.keep_ratio:g}: {held}"),
        ("least kept class", f"{shown(low)}: {100 * shares[low]:.1f}% of its images"),
        ("most kept class", f"{shown(high)}: {100 * shares[high]:.1f}% of its images"),
        ("hardest dropped", _some(by_loss[::-1], count=False) or "none"),
        ("easiest dropped", _some(by_loss, count=False) or "none"),
        ("seconds", f"{seconds:.0f}"),
        ("NO IMAGE KEPT OF", _some(selection.lost_classes())),
        ("left out", _some(sorted(selection.excluded))),
        ("loss never finite", _some(selection.unseen_keys())),
        ("train on it", next_step),
    ]
    return "\n".join(f"{name:<17} {value}" for name, value in rows if value)


def _some(names: Sequence[str], count: bool = True) -> str:
    """The first three, and how many there are where these are not all."""
    more = f" and {len(names) - 3} more" if count and len(names) > 3 else ""
    return ", ".join(shown(str(name)) for name in names[:3]) + more
