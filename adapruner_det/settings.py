"""What both tasks ask of a configuration: values within their range, and a digest of the whole."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fvcore.common.config import CfgNode

from .errors import DataError

#: Keys that say where a run reads and writes, or how fast, and change nothing of what comes out:
#: what is read is told by the fingerprint of the data.
WITHOUT_EFFECT = (
    "OUTPUT_DIR",
    "DATALOADER.NUM_WORKERS",
    "DATA.ROOT",
    "DATA.WORKERS",
    "DATA.MEMORY_MB",
    "ADAPRUNER.VOC_FOLDERS",
    "ADAPRUNER.COCO_SETS",
)


class Range(NamedTuple):
    """An interval of numbers.

    Attributes:
        low: the least value.
        high: the greatest value.
        above: whether ``low`` itself is outside.
        below: whether ``high`` itself is outside.
        unset: whether None may stand for no number.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    unset: bool = False

    def __contains__(self, value: Any) -> bool:
        is_above = value > self.low if self.above else value >= self.low
        is_below = value < self.high if self.below else value <= self.high
        return bool(is_above and is_below)

    def __str__(self) -> str:
        low = f"above {_text(self.low)}" if self.above else f"{_text(self.low)} or more"
        high = f"{'below' if self.below else 'at most'} {_text(self.high)}"
        if self.high == math.inf:
            return "a number" if self.low == -math.inf else low
        if self.low == -math.inf:
            return high
        if self.above or self.below:
            return f"{low} and {high}"
        return f"{_text(self.low)} to {_text(self.high)}"


def check_settings(
    cfg: CfgNode, ranges: Mapping[str, Range], choices: Mapping[str, Sequence[str]]
) -> None:
    """Raise a DataError for the first value that cannot be meant.

    Args:
        cfg: every number in it must be finite.
        ranges: dotted key → where its number, or each number of its list, must lie. A key that is
            here has nothing but numbers.
        choices: dotted key → the words it may be.
    """
    for key, value in leaves(cfg):
        wanted = ranges.get(key)
        unset = value is None and wanted and wanted.unset
        if wanted and not unset and not all(map(_is_number, _parts(value))):
            raise DataError(f"{key} is {value!r}; it must be a number, {wanted}")
        for number in _numbers(value):
            if isinstance(number, numbers.Integral):
                if abs(int(number)) >= 2**63:
                    raise DataError(f"{key} has more than 64 bits; it must be below 2^63")
            elif not math.isfinite(number):
                raise DataError(f"{key} is {value}; it must be finite")
            if wanted and number not in wanted:
                raise DataError(f"{key} is {value}; it must be {wanted}")
        if key in choices and value not in choices[key]:
            raise DataError(f"{key} is {value!r}; it must be one of {', '.join(choices[key])}")


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is set in ``cfg``."""
    for name, value in cfg.items():
        if isinstance(value, dict):  # yacs's own node is none of fvcore's
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 of the configuration, without what has no effect on the result. Hexadecimal."""
    cfg = cfg.clone()
    cfg.defrost()
    for key in WITHOUT_EFFECT:
        *path, name = key.split(".")
        node = cfg
        for part in path:
            node = node.get(part, CfgNode())
        if name in node:
            node[name] = type(node[name])()
    return hashlib.sha256(cfg.dump(sort_keys=True).encode()).hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds, however lists are nested."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _numbers(value: Any) -> Iterator[Any]:
    return filter(_is_number, _parts(value))


def _is_number(value: Any) -> bool:
    """Whether it is one of Python's or NumPy's real numbers; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
