"""Training that prunes, and plain training on what was kept."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ... import settings
from ...command import PACKAGE
from ...core import AdaPruner, Exchange
from ...devices import lacks_gpu
from ...errors import DISK_ERRORS, DataError, one_line, show_data_errors_as_one_line
from ...files import CONFIG_FILE, write_text
from ...methods.adapruner import choice_of
from ...methods.base import Guide, make_selection
from ...random_states import random_states_kept
from ...selection import Selection
from ...stopping import StopRequest, how_to_go_on
from .. import compat
from ..config import leaves_to_data, resolve_device
from ..data import coco_set, voc_folder
from ..data.checks import require_room_for_classes
from ..data.evaluators import build_evaluator
from ..data.loader import NamingMapper, PruningLoader, build_pruning_train_loader
from ..data.own_sets import register_from_config
from ..data.samples import SampleIndex
from ..evidence import EVIDENCE
from ..per_image import LossSource
from .checkpoints import WholeCheckpointer, require_same_run
from .fit import fit_to_data
from .hooks import GuideHook, renamed_hooks
from .lazy import LazyMixin, is_lazy, training_mapper
from .leaving import LeavingHook
from .probe import settle
from .run_state import TRAIN, RunState, StopHook, kind_of, run_identity, without_tracebacks
from .weighting import LossWeighting

logger = logging.getLogger(__name__)

SELECTION_FILE = "selection.json"


if TYPE_CHECKING:
    from detectron2.engine import DefaultTrainer as Mixed  # what a mixin is mixed into
else:
    Mixed = object


class RunMixin(Mixed):
    """What every run of this project has, for a DefaultTrainer.

    Checkpoints that are whole or absent, a state that no other run goes on from, and an end without
    loss when a signal asks for it. Several processes may train on the CPU too.

    Args:
        cfg: the configuration.
        index: its training samples, where they have just been read; by default they are read.

    Attributes:
        trust_pickle: load weights from a ``.pkl``, which can run any code.
    """

    trust_pickle = False
    _kind = TRAIN

    def __init__(self, cfg: CfgNode, index: SampleIndex | None = None) -> None:
        show_data_errors_as_one_line()
        self._stop = StopRequest()
        self._index = index
        log_beside_detectron2(cfg)
        cfg = fitted(cfg)
        with compat.parallel_on(cfg.MODEL.DEVICE):
            super().__init__(cfg)

    @property
    def index(self) -> SampleIndex:
        """The samples of the run."""
        if self._index is None:
            self._index = SampleIndex.from_config(self.cfg)
        return self._index

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Detectron2's hooks, between the run's identity and the one that ends it early."""
        self.checkpointer = WholeCheckpointer(  # in place of the one that __init__ has just made
            self._trainer.model,
            self.cfg.OUTPUT_DIR,
            trust_pickle=self.trust_pickle,
            trainer=weakref.proxy(self),
        )
        index = self.index
        require_room_for_classes(self._trainer.model, index.dicts, index.samples.class_names)
        state = RunState(run_identity(self._kind, self.cfg, index))
        return [state, *super().build_hooks(), StopHook(self._stop, self._gather_state)]

    def _gather_state(self) -> None:
        """Bring what processes share to where one can save it. A collective call."""

    def resume_or_load(self, resume: bool = True) -> Any:
        """As in Detectron2; a checkpoint of another run is refused before anything is loaded."""
        if resume and self.checkpointer.has_checkpoint():
            identity = next(h for h in self._hooks if isinstance(h, RunState)).identity
            require_same_run(self.checkpointer.get_checkpoint_file(), identity)
        elif resume:
            logger.warning("There is no checkpoint in %s: starting anew.", self.cfg.OUTPUT_DIR)
        try:
            return super().resume_or_load(resume=resume)
        except Exception as error:
            if isinstance(error, DataError) or "://" not in self.cfg.MODEL.WEIGHTS:
                raise
            raise DataError(  # what is fetched from elsewhere can fail in many ways
                f"MODEL.WEIGHTS {self.cfg.MODEL.WEIGHTS} cannot be loaded: {one_line(error)}"
            ) from error

    def train(self) -> Any:
        go_on = how_to_go_on(self.cfg.OUTPUT_DIR)
        with (
            self._stop.listening(),
            self._stop.naming_lost_workers("DATALOADER.NUM_WORKERS", go_on),
            without_tracebacks(),
        ):
            try:
                return super().train()
            except OSError as error:
                if error.errno not in DISK_ERRORS or error.filename:
                    raise
                raise DataError(
                    f"OUTPUT_DIR {self.cfg.OUTPUT_DIR!r} takes no more: {error.strerror}; free "
                    "space there or set another OUTPUT_DIR"
                ) from error

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> Any:
        """As in Detectron2; a training's random numbers go on as if there had been no evaluation.

        A loader draws its seed from them, and a checkpoint of the same step is written before: what
        goes on from there would draw others than the unbroken run.
        """
        with random_states_kept():
            return super().test(cfg, model, evaluators)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if not compat.SAVES_OPTIMIZER:
            state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(renamed_hooks(state_dict))
        if not compat.SAVES_OPTIMIZER:
            self._trainer.load_state_dict(state_dict["_trainer"])


class EvaluatingTrainer(RunMixin, LazyMixin, DefaultTrainer):
    """Detectron2's trainer with the evaluator that fits each test set."""

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        if is_lazy(cfg):
            return super().build_train_loader(cfg)
        return build_detection_train_loader(cfg, mapper=NamingMapper(DatasetMapper(cfg, True)))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        if is_lazy(cfg):
            return super().build_test_loader(cfg, dataset_name)
        mapper = NamingMapper(DatasetMapper(cfg, False))
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)


class PruningMixin(RunMixin):
    """What makes a DefaultTrainer prune: ``class MyTrainer(PruningMixin, DefaultTrainer)``.

    After the last step ``selection`` is the result, saved as ``OUTPUT_DIR/selection.json`` before
    anything is evaluated. A trainer with a mapper of its own returns
    ``build_pruning_train_loader(cfg, mapper=...)`` from its ``build_train_loader``.

    Args:
        cfg: the configuration.
        index: its training samples, where they have just been read; by default they are read.
        guide: weights the losses and hears of them, in place of the mask that ``cfg`` describes;
            what it makes of the run is then the caller's, and ``selection`` stays None.

    Attributes:
        command: that asked for the run, to be on record in the selection.
        settles: whether what runs the trainer finds out afterwards what ``DROP auto`` leaves open.

    Raises:
        DataError: for ``DROP auto`` in a run after which nothing finds it out; in the first step,
            for a guide that asks for a loss key that the detector does not have.
    """

    selection: Selection | None = None
    command = ""
    settles = False

    def __init__(
        self, cfg: CfgNode, index: SampleIndex | None = None, guide: Guide | None = None
    ) -> None:
        self._given, self._kind = guide, kind_of(guide)
        if guide is None and cfg.ADAPRUNER.DROP == settings.AUTO and not self.settles:
            raise DataError(
                "ADAPRUNER.DROP is 'auto', which `adapruner prune-net` finds out after its run and "
                "a script of your own does not: leave it empty, and `adapruner cut --drop auto` "
                "finds it out for the selection of this run"
            )
        if index is not None:  # DefaultTrainer asks for the loader with cfg alone
            own = partial(type(self).build_train_loader, index=index)
            self.build_train_loader = own  # type: ignore[method-assign]
            coco_set.forget()  # a large data set takes gigabytes, of which the index is a part
            voc_folder.forget()
        super().__init__(cfg, index)

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
        return LossWeighting(super().build_model(cfg))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        return super().build_optimizer(cfg, model.detector)  # which may go by parameter names

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, index: SampleIndex | None = None) -> PruningLoader:
        inherited = super().build_train_loader
        if inherited.__func__ in STOCK_LOADERS:
            return build_pruning_train_loader(cfg, training_mapper(cfg), index)
        return inherited(cfg)  # the user's own, with a mapper of its own

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Detectron2's hooks, with the guide's first.

        So on every rank it takes a step's losses before PreciseBN computes others, and the guide
        hears of them before the checkpointer saves it.
        """
        loader = self._trainer.data_loader
        if not isinstance(loader, PruningLoader):
            raise DataError(
                f"{type(self).__name__}.build_train_loader returns a {type(loader).__name__}; "
                "return build_pruning_train_loader(cfg, mapper=...) from it"
            )
        model = _unwrapped(self._trainer.model)
        given = self._given
        if given is None and self.cfg.ADAPRUNER.OBJECTIVE != "paper":  # which takes losses alone
            settle(model.source, model.detector, loader.index, loader.mapper)
        self.guide = given or build_pruner(
            self.cfg, loader.index, loader.seed, offered=offered(model.source)
        )
        model.guide = self.guide
        periods = (self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.TEST.EVAL_PERIOD)
        self.guiding = GuideHook(self.guide, model, loader, periods, self._select)
        leaving = LeavingHook(self.guide, loader.index, loader.batch_size)
        return [self.guiding, leaving, *super().build_hooks()]

    def _gather_state(self) -> None:
        self.guiding.gather()

    def resume_or_load(self, resume: bool = True) -> Any:
        """As in Detectron2; a resumed run reads on where it stopped."""
        result = super().resume_or_load(resume=resume)
        loader = self._trainer.data_loader.at(self.start_iter, self.guiding.seed)
        compat.set_data_loader(self._trainer, loader)
        for hook in self._hooks:
            if isinstance(hook, hooks.PreciseBN):
                self._read_on(hook)
        return result

    def _read_on(self, hook: hooks.PreciseBN) -> None:
        """Have PreciseBN read on, too, from where it stood at ``start_iter``.

        It has a loader of its own, of which it takes as many batches in each period.
        """
        loader = getattr(hook, "_data_loader", None)  # without a batch norm in training it has none
        if isinstance(loader, PruningLoader):
            periods = self.start_iter // hook._period if hook._period > 0 else 0
            hook._data_loader = loader.at(periods * hook._num_iter, self.guiding.seed)

    def train(self) -> Any:
        if self.start_iter >= self.max_iter:  # resumed after the last step
            self._select()
        return super().train()

    def _select(self) -> None:
        """Make the selection and save it. A collective call where several processes train."""
        if self._given is not None:
            return
        pruner = cast(AdaPruner, self.guide)  # as none was given
        found = build_selection(self.cfg, pruner, self._trainer.data_loader)
        self.selection = replace(found, command=self.command)
        if comm.is_main_process():
            self.selection.save(self.selection_path)
            logger.info("Selection written to %s", self.selection_path)


class PruningTrainer(PruningMixin, EvaluatingTrainer):
    """Trains ``cfg``'s detector, learns which images it can do without, and keeps the rest."""


#: What a pruning run replaces by a loader of its own.
STOCK_LOADERS = (
    DefaultTrainer.build_train_loader.__func__,
    LazyMixin.build_train_loader.__func__,  # type: ignore[attr-defined]
    EvaluatingTrainer.build_train_loader.__func__,  # type: ignore[attr-defined]
)


def build_pruner(
    cfg: CfgNode,
    index: SampleIndex,
    seed: int = 0,
    *,
    offered: Collection[str] = (),
    look: bool = True,
) -> AdaPruner:
    """The mask over the samples of ``index`` that ``cfg.ADAPRUNER`` and ``cfg.SOLVER`` describe.

    A collective call where several processes train.

    Args:
        cfg: the configuration.
        index: of the samples.
        seed: of the run.
        offered: the signals that the detector gives besides the loss.
        look: as :func:`settings.build_pruner` has it.

    Raises:
        DataError: a run too short for its warm-up, or settings that make no mask.
    """
    epochs = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH // len(index)
    return settings.build_pruner(
        cfg.ADAPRUNER,
        index.samples,
        epochs,
        seed=seed,
        offered=offered,
        look=look,
        exchange=Exchange.default(),
        length="SOLVER.MAX_ITER",
    )


def offered(source: LossSource) -> frozenset[str]:
    """What a detector tells of a visit besides its losses."""
    return EVIDENCE if source.shows else frozenset()


def build_selection(cfg: CfgNode, pruner: AdaPruner, loader: PruningLoader) -> Selection:
    """What a finished run hands back. A collective call where several processes train."""
    return make_selection(
        choice_of(pruner, cfg.ADAPRUNER.DROP),
        loader.index.samples,
        method="adapruner",
        keep_ratio=pruner.keep_ratio,
        seed=loader.seed,
        config_digest=settings.config_digest(cfg),
        libraries=["detectron2"],
    )


def log_beside_detectron2(cfg: CfgNode) -> None:
    """Let this package be heard where ``default_setup`` has opened a log and nobody one for it."""
    opened = os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "log.txt"))
    if opened and not logging.getLogger(PACKAGE).handlers:
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=PACKAGE)


def fitted(cfg: CfgNode) -> CfgNode:
    """``cfg`` with its own data sets registered, and with what it leaves to machine and data set.

    The tools have done so before their checks; a script of the user's has not. The ``config.yaml``
    that ``default_setup`` has written of the values before is written anew.
    """
    names = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
    known = names <= set(DatasetCatalog.list())
    if known and not lacks_gpu(cfg.MODEL.DEVICE) and not leaves_to_data(cfg):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    resolve_device(cfg)
    if not known:
        register_from_config(cfg)
    if leaves_to_data(cfg):
        samples = SampleIndex.from_config(cfg).dicts
        for line in fit_to_data(cfg, samples, comm.get_world_size()):
            logger.info(line)
    cfg.freeze()
    file = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    if comm.is_main_process() and os.path.isfile(file):
        write_text(file, cfg.dump())
    return cfg


def _unwrapped(model: nn.Module) -> LossWeighting:
    own = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(LossWeighting, own)
