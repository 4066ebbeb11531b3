"""Training that prunes, and plain training on what was kept."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..core import AdaPruner, Balance, ClassSets, Exchange, Schedule, Terms
from ..errors import DataError
from ..selection import Selection, learned_selection
from . import compat
from .catalog import SampleIndex
from .config import config_digest
from .evaluation import build_evaluator
from .hooks import PruningHook
from .lazy import LazyMixin, is_lazy, pruning_mapper
from .loader import PruningLoader, build_pruning_train_loader
from .meta_arch import PrunedDetector

logger = logging.getLogger(__name__)

SELECTION_FILE = "selection.json"
#: What a pruning run replaces by a loader of its own.
STOCK_LOADERS = (
    DefaultTrainer.build_train_loader.__func__,
    LazyMixin.build_train_loader.__func__,
)


class AnyDeviceMixin:
    """Lets several processes train on the CPU too."""

    def __init__(self, cfg: CfgNode) -> None:
        with compat.parallel_on(cfg.MODEL.DEVICE):
            super().__init__(cfg)


class EvaluatingTrainer(AnyDeviceMixin, LazyMixin, DefaultTrainer):
    """Detectron2's trainer with the evaluator that fits each test set."""

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name, output_folder)


class PruningMixin(AnyDeviceMixin):
    """What makes a DefaultTrainer prune: ``class MyTrainer(PruningMixin, DefaultTrainer)``.

    After training ``selection`` is the result, saved as ``OUTPUT_DIR/selection.json``. A trainer
    with a mapper of its own returns ``build_pruning_train_loader(cfg, mapper=...)`` from its
    ``build_train_loader``.
    """

    selection: Selection | None = None

    @property
    def index(self) -> SampleIndex:
        """The samples of the run."""
        return self._trainer.data_loader.index

    @property
    def selection_path(self) -> str:
        """Where the selection is saved."""
        return os.path.join(self.cfg.OUTPUT_DIR, SELECTION_FILE)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return PrunedDetector(super().build_model(cfg))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: PrunedDetector) -> Optimizer:
        return super().build_optimizer(cfg, model.detector)  # which may go by parameter names

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> PruningLoader:
        inherited = super().build_train_loader
        if inherited.__func__ in STOCK_LOADERS:
            return build_pruning_train_loader(cfg, pruning_mapper(cfg) if is_lazy(cfg) else None)
        return inherited(cfg)  # the user's own, with a mapper of its own

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Detectron2's hooks, with the pruning hook first.

        So on every rank it takes a step's losses before PreciseBN computes others, and moves the
        mask before the checkpointer saves it.
        """
        loader = self._trainer.data_loader
        if not isinstance(loader, PruningLoader):
            raise DataError(
                f"{type(self).__name__}.build_train_loader returns a {type(loader).__name__}; "
                "return build_pruning_train_loader(cfg, mapper=...) from it"
            )
        model = _unwrapped(self._trainer.model)
        model.pruner = build_pruner(self.cfg, loader.index)
        periods = (self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.TEST.EVAL_PERIOD)
        self.pruning = PruningHook(model.pruner, model, loader, periods)
        return [self.pruning, *super().build_hooks()]

    def resume_or_load(self, resume: bool = True) -> Any:
        """As in Detectron2; a resumed run reads on where it stopped."""
        result = super().resume_or_load(resume=resume)
        loader = self._trainer.data_loader.at(self.start_iter, self.pruning.seed)
        compat.set_data_loader(self._trainer, loader)
        return result

    def train(self) -> Any:
        result = super().train()
        self.selection = build_selection(self.cfg, self.pruning.pruner, self._trainer.data_loader)
        if comm.is_main_process():
            self.selection.save(self.selection_path)
            logger.info("Selection written to %s", self.selection_path)
        return result

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if not compat.SAVES_OPTIMIZER:
            state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if not compat.SAVES_OPTIMIZER:
            self._trainer.load_state_dict(state_dict["_trainer"])


class PruningTrainer(PruningMixin, EvaluatingTrainer):
    """Trains ``cfg``'s detector, learns which images it can do without, and keeps the rest."""


def build_pruner(cfg: CfgNode, index: SampleIndex) -> AdaPruner:
    """The mask over the samples of ``index`` that ``cfg.ADAPRUNER`` and ``cfg.SOLVER`` describe.

    A collective call where several processes train.

    Raises:
        DataError: a run too short for its warm-up.
        ValueError: a keep ratio outside (0, 1], or an unknown controller or normalisation.
    """
    node = cfg.ADAPRUNER
    classes = [[a["category_id"] for a in d.get("annotations", ())] for d in index.dicts]
    balance = None
    if node.CLASS_BAND:
        num_classes = 1 + max(max(own, default=0) for own in classes)
        balance = Balance(ClassSets.from_sets(classes, num_classes), node.CLASS_BAND)
    return AdaPruner(
        len(index),
        node.KEEP_RATIO,
        pruning_schedule(cfg, len(index)),
        controller=node.CONTROLLER,
        normalize=node.NORMALIZE,
        sizes=np.array([len(own) for own in classes]) if node.NORMALIZE_BY_OBJECTS else None,
        balance=balance,
        terms=Terms(node.CLASSIFICATION_LOSS, node.SELECTION_LOSS, node.COMPRESSION_LOSS),
        paper_scale=node.PAPER_SCALE,
        exchange=Exchange.default(),
    )


def pruning_schedule(cfg: CfgNode, num_samples: int) -> Schedule:
    """The warm-up and pruning epochs that ``SOLVER.MAX_ITER`` makes of ``num_samples`` images.

    Raises:
        DataError: a run too short for its warm-up.
    """
    node = cfg.ADAPRUNER
    epochs = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH // num_samples
    if epochs <= node.WARMUP_EPOCHS:
        raise DataError(
            f"SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} makes {epochs} epochs of {num_samples} images, "
            f"of which {node.WARMUP_EPOCHS} are warm-up: none is left to prune in; raise "
            "SOLVER.MAX_ITER or lower ADAPRUNER.WARMUP_EPOCHS"
        )
    return Schedule(
        node.WARMUP_EPOCHS, epochs - node.WARMUP_EPOCHS, node.ALPHA_START, node.ALPHA_END
    )


def build_selection(cfg: CfgNode, pruner: AdaPruner, loader: PruningLoader) -> Selection:
    """What a finished run hands back. A collective call where several processes train."""
    return learned_selection(
        pruner,
        keys=loader.index.keys,
        digests=loader.index.digests,
        datasets=loader.index.fingerprints(),
        seed=loader.seed,
        config_digest=config_digest(cfg),
        libraries=["detectron2"],
    )


def scale_schedule(cfg: CfgNode, selection: Selection) -> str:
    """Shorten ``cfg.SOLVER`` so that the kept images are seen for as many epochs as all were.

    Returns:
        One line that says what the budget is.
    """
    solver, share = cfg.SOLVER, selection.num_kept / selection.num_samples
    before = solver.MAX_ITER
    solver.MAX_ITER = max(1, round(before * share))
    solver.STEPS = tuple(round(step * share) for step in solver.STEPS)
    return (
        f"Training on {selection.num_kept} of {selection.num_samples} images for the same number "
        f"of epochs: {solver.MAX_ITER} of {before} iterations"
    )


def _unwrapped(model: nn.Module) -> PrunedDetector:
    return model.module if isinstance(model, DistributedDataParallel) else model
