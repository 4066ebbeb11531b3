"""Prune a detector's training set while it trains; see README.md.

``AdaPruner``, ``Selection`` and ``core`` work without Detectron2; the other names need it. Each is
imported when it is asked for, so that ``adapruner --help`` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import AdaPruner
    from .detection.config import add_adapruner_config
    from .detection.data.coco_set import register_coco_set
    from .detection.data.kept_splits import register_selection
    from .detection.data.voc_folder import register_voc_folder
    from .detection.per_image import register_head
    from .detection.training.trainer import PruningMixin, PruningTrainer
    from .selection import Selection

_LAZY = {
    "add_adapruner_config": "detection.config",
    "register_coco_set": "detection.data.coco_set",
    "register_head": "detection.per_image",
    "register_selection": "detection.data.kept_splits",
    "register_voc_folder": "detection.data.voc_folder",
    "PruningMixin": "detection.training.trainer",
    "PruningTrainer": "detection.training.trainer",
    "AdaPruner": "core",
    "Selection": "selection",
}
_MODULES = ("core", "selection")

__all__ = [
    "AdaPruner",
    "PruningMixin",
    "PruningTrainer",
    "Selection",
    "add_adapruner_config",
    "register_coco_set",
    "register_head",
    "register_selection",
    "register_voc_folder",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    if name in _MODULES:  # which need no import of their own, as in 0.1
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
