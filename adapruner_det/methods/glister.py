"""Glister: what a step on the last layer does to held-out samples.

Killamsetty et al. 2021, *GLISTER: Generalization based Data Subset Selection for Efficient and
Robust Learning*. Shape letters: N samples, V held out, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError
from ..samples import Samples
from .base import FEATURES, PREDICTIONS, Choice, Evidence, register
from .shared import class_of_each, finite_features, places

#: The share held out, and the length η of the step.
HELD_OUT, STEP = 0.1, 0.1
#: Picks from one linearisation to the next.
PICKS = 32
#: Probabilities below count as this much.
TINY = 1e-12

NEEDED = "the method 'glister' needs the probability of each class: classification"


def _check(options: Mapping[str, Any], samples: Samples, epochs: int, keep_ratio: float) -> None:
    """The samples have no boxes, of which predictions would be."""
    if samples.boxes is not None:
        raise DataError(NEEDED)


@register("glister", needs=(FEATURES, PREDICTIONS), one_class=True, check=_check)
def glister(evidence: Evidence, keep_ratio: float) -> Choice:
    """Greedy: next is what raises the held-out log-likelihood most, by its gradient's first order.

    gain_i = ⟨Σ_{v held out} g_v(θ), g_i⟩, g = (p − onehot(y)) ⊗ (h, 1) the gradient by the last
    layer; θ is the recorded run's layer after one step −η · mean of the gradients of all picked,
    taken anew every 32 picks. p and h are the recorded run's, whose model has seen all samples:
    10% of them, drawn by the seed, stand for held-out ones. They can be picked too, by their gain
    for the others held out. The order serves every ratio. Costs O(N/32 · N·D·C).

    Raises:
        DataError: samples with no class or several, or predictions other than probabilities.
    """
    labels = class_of_each(evidence.samples, "glister")
    layer_input = finite_features(evidence, "glister")
    layer_input = np.hstack([layer_input, np.ones((len(labels), 1), layer_input.dtype)])
    predictions = evidence.predictions()
    if np.ndim(predictions) != 2 or np.shape(predictions)[1] <= labels.max():
        raise DataError(NEEDED)
    count = max(1, round(HELD_OUT * len(labels)))
    drawn = np.random.default_rng(evidence.seed).choice(len(labels), count, replace=False)
    return Choice(places(glister_order(predictions, layer_input, labels, np.sort(drawn))))


def glister_order(p: np.ndarray, h: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The order in which all are picked: (N,) int64.

    Args:
        p: (N, C) probabilities.
        h: (N, D + 1), features and a one.
        labels: (N,) int64.
        held: (V,) indices of those held out.
    """
    target = np.eye(p.shape[1], dtype=p.dtype)[labels]
    error, logits = p - target, np.log(np.maximum(p[held], TINY))
    length = np.square(h[held]).sum(axis=1)
    left, order = np.ones(len(p), dtype=bool), np.empty(0, dtype=np.int64)
    total = np.zeros((p.shape[1], h.shape[1]))
    steps = range(-(-len(p) // PICKS))
    for _ in tqdm(steps, "glister", unit=" steps", leave=False, disable=None):
        moved = logits - STEP * (h[held] @ total.T) / max(1, len(order))
        odds = np.exp(moved - moved.max(axis=1, keepdims=True))
        held_error = (odds / odds.sum(axis=1, keepdims=True) - target[held]).astype(p.dtype)
        gain = ((h @ (held_error.T @ h[held]).T) * error).sum(axis=1)
        gain[held] -= (held_error * error[held]).sum(axis=1) * length
        candidates = np.flatnonzero(left)
        picked = candidates[np.argsort(-gain[candidates], kind="stable")[:PICKS]]
        total += error[picked].T @ h[picked]
        left[picked] = False
        order = np.concatenate([order, picked])
    return order
