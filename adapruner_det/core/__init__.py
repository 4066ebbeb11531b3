"""The method: a mask over samples, moved by their losses. torch and numpy only."""

from .balance import Balance, ClassSets, kept_shares
from .cut import cut, kept_count
from .ends import ENDS, REASONS, end_reasons, end_score, reasons
from .exchange import Exchange
from .inclusion import Inclusion
from .mask import SampleMask
from .neighbours import Neighbours
from .objectives import SIGNALS, Objective, Paper
from .pruner import AdaPruner
from .schedule import Schedule
from .status import Status, Terms

__all__ = [
    "ENDS",
    "REASONS",
    "SIGNALS",
    "AdaPruner",
    "Balance",
    "ClassSets",
    "Exchange",
    "Inclusion",
    "Neighbours",
    "Objective",
    "Paper",
    "SampleMask",
    "Schedule",
    "Status",
    "Terms",
    "cut",
    "end_reasons",
    "end_score",
    "kept_count",
    "kept_shares",
    "reasons",
]
