"""The few lines that say what a pruning run found.

Shape letters: N samples, K kept, C classes.
"""

from __future__ import annotations

import numpy as np

from ..core.pruner import TOLERANCE
from ..selection import Selection
from .image_set import ImageSet


def class_kept_shares(selection: Selection, images: ImageSet) -> dict[str, float]:
    """Of each class's samples, the share that is kept, in [0, 1]."""
    labels = images.labels.numpy()
    total = np.bincount(labels, minlength=len(images.class_names))
    kept = np.bincount(labels, selection.columns["kept"], minlength=len(images.class_names))
    return {name: kept[c] / total[c] for c, name in enumerate(images.class_names) if total[c]}


def summarize(selection: Selection, images: ImageSet, seconds: float, next_step: str) -> str:
    """Nine lines: what was kept, how well the ratio held, what went, and what to do next."""
    columns, shares = selection.columns, class_kept_shares(selection, images)
    n, k = selection.num_samples, selection.num_kept
    dropped = np.flatnonzero(~columns["kept"].astype(bool))
    by_loss = columns["key"][dropped[np.argsort(columns["mean_loss"][dropped], kind="stable")]]
    ratio = selection.soft_ratio if selection.soft_ratio is not None else k / n
    held = "held" if abs(ratio - selection.keep_ratio) <= TOLERANCE else "NOT HELD"
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    rows = [
        ("kept", f"{k} of {n} images ({100 * k / n:.2f}%), {n - k} dropped"),
        ("data set", ", ".join(selection.datasets)),
        ("soft ratio", f"{ratio:.4f} before the cut, asked {selection.keep_ratio:g}: {held}"),
        ("least kept class", f"{low}: {100 * shares[low]:.1f}% of its images"),
        ("most kept class", f"{high}: {100 * shares[high]:.1f}% of its images"),
        ("hardest dropped", ", ".join(by_loss[:-4:-1]) or "none"),
        ("easiest dropped", ", ".join(by_loss[:3]) or "none"),
        ("seconds", f"{seconds:.0f}"),
        ("train on it", next_step),
    ]
    return "\n".join(f"{name:<17} {value}" for name, value in rows)
