"""Detection as a grid sees it: one configuration, its data sets, and trainings of its detector.

Shape letters: N samples, M boxes of all samples, D features.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import nn

from ..errors import DamagedCheckpoints, DataError, one_line
from ..experiment.task import Budget, Run
from ..files import file_digest
from ..methods.base import BOX_FEATURES, BOXES, FEATURES, PREDICTIONS, THUMBNAILS, Guide
from ..random_states import random_states_kept
from ..report.changes import Objects
from ..samples import Samples
from ..selection import Selection
from ..settings import config_digest
from .data.kept_splits import register_kept
from .data.loader import single_images
from .data.objects import objects_of
from .data.planted import planted_in
from .data.samples import SampleIndex
from .inference import backbone_features, box_features, detections, has_box_features
from .per_image import LossSource
from .setup import (
    check_datasets,
    check_training_inputs,
    gives_instances,
    load_config,
    run_folder,
)
from .training.checkpoints import load_weights, newest_whole
from .training.hooks import require_signals
from .training.lazy import evaluation_mapper, is_lazy, named_as_in, training_mapper
from .training.probe import two_images
from .training.run_state import TRAIN, RunClock, kind_of, run_identity
from .training.schedule import scale_schedule
from .training.trainer import EvaluatingTrainer, PruningTrainer, offered

logger = logging.getLogger(__name__)

#: What Detectron2 calls the checkpoint after the last step.
MODEL_FILE = "model_final.pth"


class DetectionTask:
    """A :class:`~adapruner_det.experiment.task.Task`; the data are looked at once, when it is made.

    Without a guide Detectron2 trains as it always does; under one the training reads its samples by
    this project's loader, so that it can be resumed bit for bit.

    Args:
        cfg: the configuration; SEED, ADAPRUNER.KEEP_RATIO and OUTPUT_DIR have no effect.
        tested: whether there is a test set; without one each training says what it is tested on.
        trust_pickle: whether MODEL.WEIGHTS may be a ``.pkl``, which can run any code.

    Raises:
        DataError: what cannot be trained on, or other than one test set.
    """

    name = "detection"
    metric = "AP50"
    libraries: tuple[str, ...] = ("detectron2",)

    def __init__(self, cfg: CfgNode, *, tested: bool = True, trust_pickle: bool = False) -> None:
        self._trust_pickle = trust_pickle
        cfg = cfg.clone()
        cfg.defrost()
        if not tested:
            cfg.DATASETS.TEST = ()
        cfg.SEED, cfg.ADAPRUNER.KEEP_RATIO, cfg.OUTPUT_DIR = 0, 1.0, ""
        if tested and len(cfg.DATASETS.TEST) != 1:
            raise DataError(
                f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} data sets "
                f"({', '.join(cfg.DATASETS.TEST) or 'none'}); a comparison evaluates on one"
            )
        if tested and not gives_instances(cfg):
            raise DataError(
                f"{cfg.MODEL.META_ARCHITECTURE} gives no instances, and a comparison is by their "
                "AP50; give a detector of objects, such as one with ROI heads"
            )
        self._index = check_training_inputs(cfg, trust_pickle=trust_pickle)
        known = [self._index.samples.fingerprint]
        if tested:
            test = {name: own.dicts for name, own in check_datasets(cfg, train=False).items()}
            known.append(SampleIndex.from_dicts(test).samples.fingerprint)
        known += file_digest(cfg.MODEL.WEIGHTS)
        self._cfg = cfg
        self.samples: Samples = self._index.samples
        self.device: str = cfg.MODEL.DEVICE
        self.options: Mapping[str, Any] = cfg.ADAPRUNER
        self.epochs = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH // len(self.samples)
        self.pretrained = bool(cfg.MODEL.WEIGHTS)
        self.config_digest = config_digest(cfg)
        self.identity = hashlib.sha256("\n".join((self.config_digest, *known)).encode()).hexdigest()
        model = cfg.MODEL.META_ARCHITECTURE
        if is_lazy(cfg):
            model = Path(cfg.ADAPRUNER.LAZY_CONFIG).stem
        self.title = f"{', '.join(cfg.DATASETS.TRAIN)} ({len(self.samples)} images), {model}"

    @property
    def signals(self) -> frozenset[str]:
        """The detector's loss keys, which a forward of a new one on two images tells, and what it
        shows of the annotated boxes."""
        return self._looked_up[0]

    @property
    def offers(self) -> frozenset[str]:
        """All that there is; features are of detectors that have a ``backbone``."""
        return frozenset((PREDICTIONS, THUMBNAILS, BOXES)) | self._looked_up[1]

    @cached_property
    def objects(self) -> Objects:
        """The annotated boxes of the samples."""
        return objects_of(self._index.dicts)

    @cached_property
    def planted(self) -> Mapping[str, np.ndarray]:
        """What is planted in the training set → (N,) bool, see :mod:`.data.planted`."""
        return planted_in(self._cfg.DATASETS.TRAIN, self.samples.keys)

    @cached_property
    def _looked_up(self) -> tuple[frozenset[str], frozenset[str]]:
        """The signals of a training, and the features of a trained model."""
        with random_states_kept():
            model = EvaluatingTrainer.build_model(self._cfg)
            known = {FEATURES: hasattr(model, "backbone"), BOX_FEATURES: has_box_features(model)}
            features = frozenset(name for name, there in known.items() if there)
            return signals_of(model, self._cfg, self._index), features

    def train(
        self,
        seed: int,
        folder: Path,
        *,
        kept: Selection | None = None,
        guide: Guide | None = None,
        budget: Budget = "epochs",
        test: Selection | None = None,
        resume: bool = True,
    ) -> Run:
        """See :class:`~adapruner_det.experiment.task.Task`. What is logged goes to
        ``folder/log.txt`` too."""
        if guide is not None and guide.signals:
            require_signals(guide, self.signals)
        cfg = self._settings(seed, Path(folder), kept, budget)
        index = self._index if kept is None else SampleIndex.from_config(cfg)
        kind = TRAIN if guide is None else kind_of(guide)
        resume = resume and _has_checkpoint(folder)
        with run_folder(cfg, run_identity(kind, cfg, index), resume), logged_to(Path(folder)):
            seed_all_rng(seed)
            EvaluatingTrainer.trust_pickle = PruningTrainer.trust_pickle = self._trust_pickle
            trainer = (
                EvaluatingTrainer(cfg, index)
                if guide is None
                else PruningTrainer(cfg, index, guide)
            )
            clock = RunClock()
            trainer.register_hooks([clock])
            trainer.resume_or_load(resume)
            if trainer.start_iter < trainer.max_iter:
                trainer.train()
            tested = cfg.clone()
            tested.DATASETS.TEST = self._tests(test)
            value = self._evaluate(tested, trainer.model)
        steps = cfg.SOLVER.MAX_ITER
        epochs = steps * cfg.SOLVER.IMS_PER_BATCH / len(index)
        return Run(self.metric, value, len(index), steps, epochs, clock.seconds, seed)

    def tidy(self, folder: Path, *, model: bool) -> None:
        """See :class:`~adapruner_det.experiment.task.Task`."""
        for path in Path(folder).glob("model_*.pth"):
            if path.name != MODEL_FILE or not model:
                path.unlink(missing_ok=True)
        if not model:  # it would name what is gone
            (Path(folder) / "last_checkpoint").unlink(missing_ok=True)

    def features(self, folder: Path) -> np.ndarray:
        """(N, D) float32: see :func:`.inference.backbone_features`, of the model in ``folder``.

        Raises:
            DataError: a folder without a finished model of this task.
        """
        return backbone_features(trained_model(self._cfg, folder), self._images())

    def box_features(self, folder: Path) -> np.ndarray:
        """(M, D) float32: see :func:`.inference.box_features`, of the model in ``folder``.

        Raises:
            DataError: a folder without a finished model of this task.
        """
        model = trained_model(self._cfg, folder)
        return box_features(model, self._images(), self.samples.boxes or ())

    def predictions(self, folder: Path) -> list[dict[str, np.ndarray]]:
        """N of what :func:`.inference.detections` gives, of the model in ``folder``.

        Raises:
            DataError: a folder without a finished model of this task.
        """
        return detections(trained_model(self._cfg, folder), self._images())

    def _settings(self, seed: int, folder: Path, kept: Selection | None, budget: Budget) -> CfgNode:
        """The configuration of one training."""
        cfg = self._cfg.clone()
        cfg.SEED, cfg.OUTPUT_DIR = seed, str(folder)
        cfg.DATASETS.TEST = ()  # Detectron2 would test within the time that is measured
        if kept is None:
            return cfg
        if kept.datasets.keys() != set(cfg.DATASETS.TRAIN):
            raise DataError(
                f"the selection is of {', '.join(kept.datasets)}, but the training set is "
                f"{', '.join(cfg.DATASETS.TRAIN)}; select from that"
            )
        cfg.DATASETS.TRAIN = tuple(register_kept(kept, digits=True))
        if budget == "epochs":
            logger.info(scale_schedule(cfg, kept))
        return cfg

    def _tests(self, test: Selection | None) -> tuple[str, ...]:
        """The data sets that a training is evaluated on."""
        return self._cfg.DATASETS.TEST if test is None else tuple(register_kept(test, digits=True))

    def _evaluate(self, cfg: CfgNode, model: nn.Module) -> float:
        """AP50 in percent on ``cfg``'s test sets, the mean of those that have an object to find."""
        found = EvaluatingTrainer.test(cfg, model)
        sets = [found] if len(cfg.DATASETS.TEST) == 1 else list(found.values())
        values = np.array([own["bbox"]["AP50"] for own in sets])
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else float("nan")

    def _images(self) -> Iterable[list[dict[str, Any]]]:
        """The samples in the order of their index, as an evaluation reads them."""
        workers = self._cfg.DATALOADER.NUM_WORKERS
        return single_images(self._index.dicts, evaluation_mapper(self._cfg), workers)


def _has_checkpoint(folder: Path) -> bool:
    """Whether a training can go on in ``folder``, which from damaged checkpoints it cannot."""
    try:
        return newest_whole(folder) is not None
    except DamagedCheckpoints as error:
        logger.warning("%s: the training starts anew.", error.fault)
        return False


def trained_model(cfg: CfgNode, folder: str | Path) -> nn.Module:
    """The detector that a finished training of ``cfg`` left in ``folder``.

    Raises:
        DataError: a folder without one, or with that of another detector.
    """
    path = Path(folder) / MODEL_FILE
    if not path.is_file():
        raise DataError(f"there is no trained model at {path}; train there first")
    model = EvaluatingTrainer.build_model(cfg)
    try:
        model.load_state_dict(load_weights(path)["model"])
    except RuntimeError as error:  # of other names or shapes
        raise DataError(f"{path} is of another detector: {one_line(error)[:200]}") from error
    return model


def make_task(
    config_file: str,
    overrides: Sequence[str] = (),
    *,
    tested: bool = True,
    trust_pickle: bool = False,
) -> DetectionTask:
    """The task that a configuration makes; it can be called in any process.

    Args:
        config_file: a yaml, or a LazyConfig.
        overrides: KEY VALUE pairs, or KEY=VALUE for a LazyConfig.
        tested, trust_pickle: as :class:`DetectionTask` has them.

    Raises:
        DataError: a configuration or data that cannot be used.
    """
    with named_as_in(config_file):
        cfg = load_config(config_file, overrides)
        return DetectionTask(cfg, tested=tested, trust_pickle=trust_pickle)


def signals_of(model: nn.Module, cfg: CfgNode, index: SampleIndex) -> frozenset[str]:
    """The signals of a detector's training, from one forward on two images with objects.

    Where that fails there are none, with a warning: a training will say more of why.
    """
    mapper = training_mapper(cfg)
    try:
        batch = two_images(index, mapper)
        with EventStorage(0), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the training says the same
            source = LossSource(model.train())
            return frozenset(source.losses(batch, lambda: None)) | offered(source)
    except Exception as error:  # of a detector that may be anybody's
        logger.warning(
            "What losses %s has could not be found out (%s: %s), so no method can ask for them.",
            type(model).__name__,
            type(error).__name__,
            one_line(error),
        )
        return frozenset()


@contextmanager
def logged_to(folder: Path) -> Iterator[None]:
    """Send what the run logs to ``folder/log.txt``, which is there, from the level INFO on.

    A trainer of Detectron2's that finds its logger at that level leaves the terminal alone.
    """
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("[%(asctime)s %(name)s] %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("adapruner_det", "detectron2", "fvcore")]
    levels = [own.level for own in loggers]
    for own in loggers:
        own.addHandler(handler)
        if not own.isEnabledFor(logging.INFO):
            own.setLevel(logging.INFO)
    try:
        yield
    finally:
        for own, level in zip(loggers, levels, strict=True):
            own.removeHandler(handler)
            own.setLevel(level)
        handler.close()
