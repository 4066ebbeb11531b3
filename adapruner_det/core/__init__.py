"""The method: a mask over samples, moved by their losses. torch and numpy only."""

from .cut import cut, kept_count
from .exchange import Exchange
from .mask import SampleMask
from .pruner import AdaPruner, Status, Terms
from .schedule import Schedule

__all__ = [
    "AdaPruner",
    "Exchange",
    "SampleMask",
    "Schedule",
    "Status",
    "Terms",
    "cut",
    "kept_count",
]
