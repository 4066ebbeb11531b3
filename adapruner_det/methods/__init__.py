"""What makes selections: one file a method, all behind one door; importing this registers them."""

from . import adapruner, random
from .base import Choice, Evidence, Guide, Method, get_method, method_names, register, select
from .recorder import Recorder

__all__ = [
    "Choice",
    "Evidence",
    "Guide",
    "Method",
    "Recorder",
    "adapruner",
    "get_method",
    "method_names",
    "random",
    "register",
    "select",
]
