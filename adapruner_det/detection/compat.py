"""The one place that knows how Detectron2 v0.6 and main differ."""

from __future__ import annotations

from typing import Any

from detectron2.engine import DefaultTrainer

#: main saves the inner trainer (optimizer, grad scaler) with a checkpoint; v0.6 does not.
SAVES_OPTIMIZER = "state_dict" in vars(DefaultTrainer)


def set_data_loader(trainer: Any, loader: Any) -> None:
    """Make ``trainer`` (a SimpleTrainer) read ``loader`` from its beginning."""
    trainer.data_loader = loader
    if hasattr(trainer, "_data_loader_iter_obj"):
        trainer._data_loader_iter_obj = None  # main makes the iterator when it is first needed
    else:
        trainer._data_loader_iter = iter(loader)
