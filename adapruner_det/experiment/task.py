"""What a grid asks of a task: detection and classification each offer one.

Shape letters: N samples, K kept, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..methods.base import Guide
from ..samples import Samples
from ..selection import Selection

#: A part is trained on for as many epochs, or as many steps, as all samples are.
Budget = Literal["epochs", "steps"]


@dataclass(frozen=True)
class Run:
    """One training and its evaluation after the last step.

    Attributes:
        metric: what ``value`` is, such as ``AP50`` or ``accuracy``.
        value: on the task's test set, in percent.
        images: how many were trained on.
        steps: of training.
        epochs: how often an image was seen.
        seconds: of training, without the evaluation; those before a resume count.
        seed: of the run.
    """

    metric: str
    value: float
    images: int
    steps: int
    epochs: float
    seconds: float
    seed: int


class Task(Protocol):
    """A model, its training set and its test set.

    A task is made from a configuration anew in every process, by a function that can be pickled.

    Attributes:
        name: ``detection`` or ``classification``.
        title: the data and the model in a few words, for tables.
        metric: what :class:`Run` measures.
        samples: the training set.
        identity: of configuration and data, hexadecimal; what it does not cover is an argument of
            :meth:`train`. Another seed or another keep ratio is no other task.
        config_digest: of the configuration alone.
        libraries: those whose versions decide the outcome, besides torch and numpy.
        device: that it trains on where there is one: ``cpu``, ``cuda`` or ``cuda:<number>``.
        options: the node ADAPRUNER of the configuration; KEEP_RATIO in it has no effect.
        epochs: that a training on all samples has.
        pretrained: whether trainings begin with weights that were trained before.
        signals: what a guide may ask for besides the loss.
        offers: of ``features``, ``predictions``, ``thumbnails``, ``boxes`` and ``box_features``
            those that can be had.

    Where there are any, a task has besides ``objects``, a :class:`~.report.changes.Objects` with
    boxes, and ``planted``, what was planted in the data, such as ``wrong labels`` → (N,) bool. One
    that offers ``box_features`` has a method of that name, which is called as :meth:`features` is
    and gives (M, D) float32, a row a box.
    """

    name: str
    title: str
    metric: str
    samples: Samples
    identity: str
    config_digest: str
    libraries: tuple[str, ...]
    device: str
    options: Mapping[str, Any]
    epochs: int
    pretrained: bool

    @property
    def signals(self) -> frozenset[str]: ...

    @property
    def offers(self) -> frozenset[str]: ...

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
        """Train on what ``kept`` keeps, or on all, and evaluate the last step.

        Args:
            seed: of the initial weights, the order and the augmentation.
            folder: for checkpoints, logs and the model; of this run alone.
            kept: the samples to train on; None trains on all.
            guide: weights the losses and hears of them; None trains as usual.
            budget: how long a part is trained on.
            test: training samples to evaluate on in place of the test set: those that it keeps.
            resume: go on from the checkpoint in ``folder``, where there is a whole one; a training
                that had ended is evaluated, and ``guide`` has the state that it ended with.

        Raises:
            DataError: a guide that asks for a signal that is not among :attr:`signals`, or what
                training raises.
        """

    def tidy(self, folder: Path, *, model: bool) -> None:
        """Remove the checkpoints of a training in ``folder`` that is done with.

        Args:
            folder: of a finished :meth:`train`.
            model: whether its final model stays.
        """

    def features(self, folder: Path) -> np.ndarray:
        """(N, D) float32 of the model that :meth:`train` left in ``folder``, on all samples."""

    def predictions(self, folder: Path) -> Any:
        """Of that model: (N, C) probabilities, or the detections of each image."""
