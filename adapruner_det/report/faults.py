"""What went of the faults that were planted.

Shape letters: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from ..samples import image_id_of
from ..selection import Selection


def dropped_faults(selections: Sequence[Selection], kinds: Mapping[str, str]) -> str:
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
            ids = [image_id_of(key) for key in selection.columns["key"].tolist()]
            is_kind = np.array([kinds[i] == kind for i in ids])
            gone = ~selection.columns["kept"]
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
