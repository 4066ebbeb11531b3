"""Select with one model, train another on what is kept: a task made of two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..methods.base import Guide
from ..samples import Samples
from ..selection import Selection
from .task import Budget, Run, Task


class Transfer:
    """A :class:`~.task.Task` whose selections come from ``chooser`` and whose results from
    ``learner``.

    Args:
        chooser: what methods are shown, and trained under a guide.
        learner: what is trained on all samples and on the kept ones, and evaluated.

    Raises:
        DataError: two tasks of different samples.
    """

    def __init__(self, chooser: Task, learner: Task) -> None:
        _require_same_samples(chooser, learner)
        self.chooser, self.learner = chooser, learner
        self.name = learner.name
        self.title = f"{learner.title}, selected by {_model(chooser)}"
        self.metric = learner.metric
        self.samples: Samples = chooser.samples
        both = f"{chooser.identity} {learner.identity}"
        self.identity = hashlib.sha256(both.encode()).hexdigest()
        self.config_digest = chooser.config_digest
        self.libraries = tuple(dict.fromkeys((*chooser.libraries, *learner.libraries)))
        self.device = learner.device
        self.options: Mapping[str, Any] = chooser.options
        self.epochs = learner.epochs
        self.pretrained = learner.pretrained

    @property
    def signals(self) -> frozenset[str]:
        """Those of the model that selects."""
        return self.chooser.signals

    @property
    def offers(self) -> frozenset[str]:
        """Those of the model that selects."""
        return self.chooser.offers

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
        """See :class:`~.task.Task`: under a guide the model that selects, without one the other."""
        task = self.learner if guide is None else self.chooser
        return task.train(
            seed, folder, kept=kept, guide=guide, budget=budget, test=test, resume=resume
        )

    def tidy(self, folder: Path, *, model: bool) -> None:
        """Of either model: where one has nothing, nothing is removed."""
        self.chooser.tidy(folder, model=model)
        self.learner.tidy(folder, model=model)

    def features(self, folder: Path) -> np.ndarray:
        """Of the model that selects."""
        return self.chooser.features(folder)

    def predictions(self, folder: Path) -> Any:
        """Of the model that selects."""
        return self.chooser.predictions(folder)


def chooser_of(task: Task) -> Task:
    """What selections of ``task`` come from: the task itself unless it is made of two."""
    return task.chooser if isinstance(task, Transfer) else task


def learner_of(task: Task) -> Task:
    """What is trained on the kept samples: the task itself unless it is made of two."""
    return task.learner if isinstance(task, Transfer) else task


def _model(task: Task) -> str:
    """The model's name, which stands last in a title."""
    return task.title.rpartition(", ")[2]


def _require_same_samples(chooser: Task, learner: Task) -> None:
    if chooser.name != learner.name:
        raise DataError(
            f"a selection by a model for {chooser.name} cannot be trained on by one for "
            f"{learner.name}: give two configurations of one kind"
        )
    if chooser.samples.fingerprint != learner.samples.fingerprint:
        raise DataError(
            f"the model that selects has {len(chooser.samples)} samples and the one that is "
            f"trained has {len(learner.samples)}, and they are not the same: both configurations "
            "must name the same training set, drawn and filtered alike"
        )
