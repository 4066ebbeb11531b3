"""What both tasks ask of a configuration: values within their range, and a digest of the whole."""

from __future__ import annotations

import hashlib
import math
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
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, (int, float))
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high == math.inf:
            return low
        if self.above or self.below:
            return f"{low} and {'below' if self.below else 'at most'} {self.high:g}"
        return f"{self.low:g} to {self.high:g}"


def check_settings(
    cfg: CfgNode, ranges: Mapping[str, Range], choices: Mapping[str, Sequence[str]]
) -> None:
    """Raise a DataError for the first value that cannot be meant.

    Args:
        cfg: every number in it must be finite.
        ranges: dotted key → where its number, or each number of its list, must lie.
        choices: dotted key → the words it may be.
    """
    for key, value in leaves(cfg):
        for number in _numbers(value):
            if not math.isfinite(number):
                raise DataError(f"{key} is {value}; it must be finite")
            if key in ranges and number not in ranges[key]:
                raise DataError(f"{key} is {value}; it must be {ranges[key]}")
        if key in choices and value not in choices[key]:
            raise DataError(f"{key} is {value!r}; it must be one of {', '.join(choices[key])}")


def leaves(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is set in ``cfg``."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
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


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a value, however lists are nested; a bool is none."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
