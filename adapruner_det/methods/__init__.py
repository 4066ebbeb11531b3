"""What makes selections: one file a method, all behind one door; importing this registers them."""

from importlib import import_module
from pkgutil import iter_modules

from .base import Choice, Evidence, Guide, Method, get_method, method_names, register, select
from .recorder import Recorder

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

__all__ = [
    "Choice",
    "Evidence",
    "Guide",
    "Method",
    "Recorder",
    "get_method",
    "method_names",
    "register",
    "select",
]
