"""The method: a mask over samples, moved by their losses. torch and numpy only."""

from .balance import Balance, ClassSets, kept_shares
from .cut import cut, kept_count
from .exchange import Exchange
from .mask import SampleMask
from .pruner import AdaPruner, Status, Terms
from .schedule import Schedule

__all__ = [
    "AdaPruner",
    "Balance",
    "ClassSets",
    "Exchange",
    "SampleMask",
    "Schedule",
    "Status",
    "Terms",
    "cut",
    "kept_count",
    "kept_shares",
]
