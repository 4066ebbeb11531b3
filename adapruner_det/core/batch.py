"""What a batch tells the mask: checked, in float64, and averaged where a sample is there twice.

Shape letters: B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from .objectives import SIGNALS


def checked_ids(ids: Tensor | np.ndarray, num_samples: int) -> np.ndarray:
    """The indices of a batch, (B,) int64.

    Raises:
        ValueError: another shape or type, or an index outside [0, ``num_samples``).
    """
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(f"ids have shape {array.shape}; they must be a vector (B,)")
    if len(array) and array.dtype.kind not in "iu":
        raise ValueError(f"ids are of type {array.dtype}; they must be whole numbers")
    array = array.astype(np.int64)
    if len(array) and not (0 <= array.min() and array.max() < num_samples):
        raise ValueError(
            f"ids run from {array.min()} to {array.max()}; "
            f"the mask has indices 0 to {num_samples - 1}"
        )
    return array


def checked_signals(
    signals: Mapping[str, Tensor | np.ndarray], ids: np.ndarray, used: Collection[str]
) -> dict[str, np.ndarray]:
    """Those of ``signals`` that are ``used``, (B,) float64 each, in the order of their names.

    Raises:
        ValueError: an unknown signal, used or not; one of another shape than ``ids``, (B,), or with
            values outside [0, 1].
    """
    found = {}
    for name in sorted(signals):
        if name not in SIGNALS:
            known = ", ".join(SIGNALS)
            raise ValueError(f"there is no signal {name!r}; there are {known}")
        values = as_float64(signals[name])
        if values.shape != ids.shape:
            raise ValueError(
                f"{len(ids)} ids came with {name} of shape {values.shape}; "
                "there must be one value per id"
            )
        # Sums of float16 and float32 probabilities may end a little outside.
        if np.any((values < -1e-3) | (values > 1.0 + 1e-3)):
            low, high = np.nanmin(values), np.nanmax(values)
            raise ValueError(f"{name} runs beyond [0, 1]: {low:g} to {high:g}")
        if name in used:
            found[name] = np.clip(values, 0.0, 1.0)
    return found


def as_float64(losses: Tensor | np.ndarray) -> np.ndarray:
    """The losses, float64; one that the mask's float32 cannot hold is infinite."""
    if isinstance(losses, Tensor):
        losses = losses.detach().to("cpu", torch.float64).numpy()
    losses = np.asarray(losses, dtype=np.float64)
    return np.where(losses > np.finfo(np.float32).max, np.inf, losses)


def means_by_id(ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct ids in rising order, and of each row of (n, B) values the mean for each of them."""
    distinct, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    times = np.maximum(counts, 1)
    return distinct, [np.bincount(inverse, row, len(distinct)) / times for row in rows]
