"""Prune a detector's training set while it trains; see README.md.

``Selection`` and ``core`` work without Detectron2; the other names need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core import AdaPruner
from .selection import Selection

if TYPE_CHECKING:
    from .detection.config import add_adapruner_config
    from .detection.data.coco_set import register_coco_set
    from .detection.data.samples import register_selection
    from .detection.data.voc_folder import register_voc_folder
    from .detection.training.trainer import PruningMixin, PruningTrainer

_LAZY = {
    "add_adapruner_config": "config",
    "register_coco_set": "data.coco_set",
    "register_selection": "data.samples",
    "register_voc_folder": "data.voc_folder",
    "PruningMixin": "training.trainer",
    "PruningTrainer": "training.trainer",
}

__all__ = [
    "AdaPruner",
    "PruningMixin",
    "PruningTrainer",
    "Selection",
    "add_adapruner_config",
    "register_coco_set",
    "register_selection",
    "register_voc_folder",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".detection.{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
