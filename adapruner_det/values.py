"""What a value that was read from a file may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def is_number(value: Any, finite: bool = True) -> bool:
    """Whether it is a real number that a float can hold; a bool is none.

    Args:
        value: anything.
        finite: whether NaN and infinities are none either.
    """
    plain = isinstance(value, (int, float, np.integer, np.floating))
    if not plain or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) or not finite
    except OverflowError:  # a whole number beyond all floats
        return False
