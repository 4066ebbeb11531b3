"""Every k-th frame: how a video is thinned by who looks at nothing else. Shape letters: N samples,
K kept.
"""

from __future__ import annotations

import re

import numpy as np

from ..core.cut import kept_count
from .base import Choice, Evidence, register
from .shared import places


@register("every-kth", per_ratio=True)
def every_kth(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep the samples ⌊(j + u)·N/K⌋, j = 0..K−1, in the order of their keys; the seed draws u.

    Numbers in keys count as numbers, so ``frame_9`` comes before ``frame_10``. Several data sets
    follow each other. Sets of two ratios are not nested; cuts of one are spread as evenly as
    halving allows, by the bits of a sample's place in reverse. Costs O(N log N).
    """
    count = len(evidence.samples)
    frames = np.array(
        sorted(range(count), key=lambda i: natural(evidence.samples.keys[i])), dtype=np.int64
    )
    start = np.random.default_rng(evidence.seed).random()
    number = kept_count(count, keep_ratio)
    chosen = np.minimum(((np.arange(number) + start) * count / number).astype(np.int64), count - 1)
    kept = np.zeros(count, dtype=bool)
    kept[frames[chosen]] = True
    parts = [frames[kept[frames]], frames[~kept[frames]]]
    order = np.concatenate([part[spread_out(len(part))] for part in parts])
    return Choice(places(order), kept)


def natural(key: str) -> list[tuple[int, str]]:
    """What sorts keys with the numbers in them as numbers."""
    pieces = re.split(r"(\d+)", key)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def spread_out(count: int) -> np.ndarray:
    """0..count−1 in an order of which every beginning is spread over all: by reversed bits."""
    bits = max(count - 1, 0).bit_length()
    key = np.zeros(count, dtype=np.int64)
    for bit in range(bits):
        key |= ((np.arange(count) >> bit) & 1) << (bits - 1 - bit)
    return np.argsort(key, kind="stable")
