"""What went of the faults that were planted.

Shape letters: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from ..selection import Selection


def dropped_faults(selections: Sequence[Selection], planted: Mapping[str, np.ndarray]) -> str:
    """How many of the dropped samples were planted faults, against what chance would drop.

    Args:
        selections: of the same N samples, one a seed.
        planted: what was planted, such as ``wrong label`` → (N,) bool; one kind or more.

    Returns:
        A table: of each kind, and of the samples in which nothing is planted, the number there are,
        and the mean over the selections of how many were dropped beside the number that dropping as
        many samples at random drops on average.
    """
    clean = ~np.any(list(planted.values()), axis=0)
    rows = []
    for kind, own in sorted({**planted, "clean": clean}.items()):
        gone = [~selection.columns["kept"] for selection in selections]
        dropped = [int((own & g).sum()) for g in gone]
        expected = [own.sum() * g.mean() for g in gone]
        rows.append(
            [
                kind,
                int(own.sum()),
                f"{np.mean(dropped):.1f}",
                " ".join(map(str, dropped)),
                f"{np.mean(expected):.1f}",
                f"{np.mean(dropped) / max(np.mean(expected), 1e-9):.2f}",
            ]
        )
    head = ["planted", "images", "dropped, mean", "each seed", "by chance", "times chance"]
    return tabulate(rows, head, disable_numparse=True)
