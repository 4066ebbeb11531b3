"""Classification as a grid sees it: one configuration, its data, and trainings of its model.

Shape letters: N samples, D features, C classes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from ..errors import DamagedCheckpoints
from ..experiment.task import Budget, Run
from ..files import file_digest
from ..methods.base import FEATURES, PREDICTIONS, THUMBNAILS, Guide
from ..selection import Selection
from ..settings import config_digest
from .batches import steps_per_epoch
from .checkpoint import MODEL_FILE
from .classifier import load_classifier
from .config import load_config
from .data import Data, load_data
from .run import LIBRARIES, train
from .signals import SIGNALS

logger = logging.getLogger(__name__)


class ClassificationTask:
    """A :class:`~adapruner_det.experiment.task.Task`; the data are read once.

    Args:
        cfg: the configuration; SEED, ADAPRUNER.KEEP_RATIO and OUTPUT_DIR have no effect.
        data: what it names.
    """

    name = "classification"
    metric = "accuracy"
    libraries: tuple[str, ...] = LIBRARIES
    signals = frozenset(SIGNALS)
    offers = frozenset((FEATURES, PREDICTIONS, THUMBNAILS))

    def __init__(self, cfg: CfgNode, data: Data) -> None:
        cfg = cfg.clone()
        cfg.SEED, cfg.ADAPRUNER.KEEP_RATIO, cfg.OUTPUT_DIR = 0, 1.0, ""
        self._cfg, self.data = cfg, data
        self.samples = data.train.samples
        self.device: str = cfg.DEVICE
        self.options: Mapping[str, Any] = cfg.ADAPRUNER
        self.epochs: int = cfg.SOLVER.EPOCHS
        self.pretrained = bool(cfg.MODEL.WEIGHTS or cfg.MODEL.PRETRAINED)
        self.config_digest = config_digest(cfg)
        parts = [self.config_digest, self.samples.fingerprint, data.test.samples.fingerprint]
        parts += file_digest(cfg.MODEL.WEIGHTS)
        self.identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.title = f"{data.train.name} ({len(data.train)} images), {cfg.MODEL.NAME}"

    @property
    def planted(self) -> Mapping[str, np.ndarray]:
        """What is planted in the training set → (N,) bool; the samples are in their order."""
        given = {"wrong labels": self.data.wrong, "twins": self.data.twins}
        places = np.arange(len(self.samples))
        return {name: np.isin(places, own.numpy()) for name, own in given.items() if len(own)}

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
        """See :class:`~adapruner_det.experiment.task.Task`.

        With the budget ``steps``, the learning rate falls over the steps that all samples have.
        """
        cfg = self._cfg.clone()
        cfg.SEED, cfg.OUTPUT_DIR = seed, str(folder)
        steps = None
        if budget == "steps":
            steps = self.epochs * steps_per_epoch(len(self.samples), cfg.SOLVER.BATCH_SIZE)
        data = self.data if test is None else replace(self.data, test=self.data.train.kept(test))
        run = partial(train, cfg, data, kept, guide=guide, steps=steps)
        try:
            result = run(resume=resume)
        except DamagedCheckpoints as error:
            logger.warning("%s: the training starts anew.", error.fault)
            result = run(resume=False)
        return Run(
            metric=self.metric,
            value=result.accuracy,
            images=result.images,
            steps=result.steps,
            epochs=result.epochs,
            seconds=result.seconds,
            seed=result.seed,
        )

    def tidy(self, folder: Path, *, model: bool) -> None:
        """See :class:`~adapruner_det.experiment.task.Task`."""
        names = ("checkpoint*.pt",) if model else ("checkpoint*.pt", MODEL_FILE)
        for path in [path for name in names for path in Path(folder).rglob(name)]:
            path.unlink(missing_ok=True)

    def features(self, folder: Path) -> np.ndarray:
        """(N, D) float32: the input of the last layer of the model in ``folder``, in evaluation
        mode and without augmentation.

        Raises:
            DataError: a folder without a finished model of this task.
        """
        images = self.data.train
        return load_classifier(self._cfg, folder, images).all_features(images)

    def predictions(self, folder: Path) -> np.ndarray:
        """(N, C) float32: the probabilities that the model in ``folder`` gives, likewise.

        Raises:
            DataError: a folder without a finished model of this task.
        """
        images = self.data.train
        return load_classifier(self._cfg, folder, images).predictions(images)


def make_task(config_file: str = "", overrides: Sequence[str] = ()) -> ClassificationTask:
    """The task that a configuration makes.

    Args:
        config_file: a yaml; empty takes the defaults.
        overrides: KEY VALUE pairs.

    Raises:
        DataError: a configuration or data that cannot be used.
    """
    cfg = load_config(config_file, overrides)
    return ClassificationTask(cfg, load_data(cfg))
