"""Random selection: the baseline that any method has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..core import cut, kept_count
from ..selection import Selection, check_keep_ratio, class_column


def random_selection(
    keys: list[str],
    digests: np.ndarray,
    datasets: Mapping[str, str],
    keep_ratio: float,
    seed: int,
    *,
    excluded: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    classes: Sequence[Iterable[int]] | None = None,
    digest_of: str = "",
) -> Selection:
    """Keep exactly round(c_r·N) samples drawn without replacement.

    Args:
        keys: the N sorted keys.
        digests: (N,) uint64, of each sample's annotations.
        datasets: data-set name → fingerprint.
        keep_ratio: c_r in (0, 1]; cuts of one seed at several ratios are nested.
        seed: of the draw.
        excluded: key → why, of the samples that were left out.
        class_names: of the classes in ``classes``.
        classes: the ids of the classes in each of the N samples, without those of crowd boxes.
        digest_of: what a digest is of, as :class:`Selection` has it.

    Raises:
        DataError: a keep ratio outside (0, 1].
    """
    check_keep_ratio(keep_ratio)
    score = np.random.default_rng(seed).random(len(keys))
    kept = cut(np.zeros(len(keys)), score, kept_count(len(keys), keep_ratio))
    columns = {"key": np.array(keys), "digest": digests, "kept": kept, "score": score}
    return Selection(
        "random",
        keep_ratio,
        seed,
        datasets,
        {**columns, **class_column(classes)},
        excluded=dict(excluded or {}),
        class_names=tuple(class_names),
        digest_of=digest_of,
    )
