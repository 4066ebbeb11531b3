"""One training loop: plain, or with a guide that weights its losses and hears of them.

Shape letters: N samples, B samples of a batch, C classes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import DataError
from ..methods.base import Guide
from ..random_states import random_states, restore_random_states
from ..settings import config_digest, differences, settings_text
from ..stopping import Stopped, StopRequest, how_to_go_on
from . import signals
from .augment import channel_statistics, crop_and_flip, cutout
from .batches import Batches, split_order, steps_per_epoch
from .checkpoint import load_checkpoint, save_checkpoint, write_metrics
from .classifier import Classifier
from .config import resolve_device
from .image_set import ImageSet
from .models import UNREADABLE, build_model, short

logger = logging.getLogger(__name__)

#: Seconds that saving may take at the end of every epoch; what takes longer waits until that was
#: this share of the time. A record of many classes grows to gigabytes.
PROMPT, SHARE = 0.5, 0.05


class Trainer:
    """Trains ``cfg``'s model on ``images`` for ``cfg.SOLVER.EPOCHS`` epochs, or for ``steps``.

    With a guide, its weights multiply the losses (Eq. 4) and it observes them, and the signals that
    it asks for. A sample is in one batch of an epoch, so a mask may hear of a step's losses one
    step later, and at the latest before the epoch ends, with the same outcome; so a GPU is never
    waited for in mid-step.

    SIGTERM and SIGINT end it after the step in hand, once that is saved.

    Args:
        cfg: the configuration.
        images: the N training images; a guide's ids are their places.
        guide: AdaPruner, a recorder, ...; None for plain training.
        label: what the progress bar is called.
        steps: of the whole run, over which the learning rate falls; the last epoch may be cut
            short. None takes as many as the epochs have.

    Raises:
        DataError: an unknown model, weights that are not there, a single image, or a guide that
            asks for a signal that is not among :data:`signals.SIGNALS`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        images: ImageSet,
        guide: Guide | None = None,
        label: str = "train",
        steps: int | None = None,
    ) -> None:
        if len(images) < 2:
            raise DataError(
                f"there is {len(images)} image to train on; batch normalisation needs 2 or more: "
                "keep more of them"
            )
        self._signals = frozenset() if guide is None else guide.signals
        signals.require_known(self._signals)
        self.cfg, self.guide = cfg, guide
        self.device = resolve_device(cfg)
        self.num_samples = len(images)
        self.steps_per_epoch = steps_per_epoch(len(images), cfg.SOLVER.BATCH_SIZE)
        #: Of the whole run.
        self.total_steps = steps or cfg.SOLVER.EPOCHS * self.steps_per_epoch
        self.step = 0
        self.epoch_loss = 0.0
        self._seconds = 0.0
        self._began: float | None = None
        self._saved_at, self._save_seconds = 0.0, 0.0
        torch.manual_seed(cfg.SEED)
        self._generator = torch.Generator(self.device).manual_seed(cfg.SEED)
        model = build_model(cfg, images.images.shape[1], len(images.class_names))
        self._batches = Batches(images, self.device, cfg.DATA.WORKERS)
        statistics = channel_statistics(self._batches.spread(50_000))
        self._classifier = Classifier(cfg, model, self.device, *statistics)
        if self._signals & signals.OF_FEATURES:
            self._classifier.keep_features()
        self.model = self._classifier.model
        self._optimizer = _optimizer(cfg, self.model)
        self._labels = images.labels.to(self.device)
        self._class_names = list(images.class_names)
        self._data = images.samples.datasets[images.name]
        self._stop = StopRequest()
        self._pending: tuple[Tensor, dict[str, Tensor], Any] | None = None
        self._bar = tqdm(
            total=self.total_steps,
            desc=label,
            unit="step",
            mininterval=1,
            leave=False,
            disable=None,
        )

    @property
    def epochs(self) -> float:
        """Of the whole run."""
        whole, rest = divmod(self.total_steps, self.steps_per_epoch)
        return self.total_steps / self.steps_per_epoch if rest else whole

    @property
    def seconds(self) -> float:
        """Of training so far; those before a resumed run was stopped are among them."""
        now = 0.0 if self._began is None else time.perf_counter() - self._began
        return self._seconds + now

    def train(self, *, save: bool = True) -> None:
        """Run to the last epoch, from wherever this stands.

        Args:
            save: write checkpoints to ``cfg.OUTPUT_DIR``.

        Raises:
            DataError: losses that are no longer finite, an image that does not decode, or a disk
                that takes no more.
            Stopped: a signal asked for the end.
        """
        self._bar.update(self.step - self._bar.n)
        with (
            self._stop.listening(),
            self._stop.naming_lost_workers("DATA.WORKERS", how_to_go_on(self.cfg.OUTPUT_DIR)),
            logging_redirect_tqdm(),
            contextlib.closing(self._bar),
        ):
            self._began = time.perf_counter()
            try:
                while self.step < self.total_steps:
                    self._train_epoch(save)
            finally:
                self._seconds, self._began = self.seconds, None

    def save_model(self) -> None:
        """Write the model, and what it expects of an image, to ``cfg.OUTPUT_DIR``."""
        self._classifier.save(self.cfg.OUTPUT_DIR, self._class_names)

    def evaluate(self, images: ImageSet) -> float:
        """Accuracy on ``images`` in percent, with the model as it is.

        Raises:
            DataError: an image that does not decode, named.
        """
        return self._classifier.accuracy(images)

    def _train_epoch(self, save: bool) -> None:
        """The rest of the current epoch."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        rng = np.random.default_rng([self.cfg.SEED, epoch])
        order = torch.from_numpy(rng.permutation(self.num_samples))
        period = self.cfg.SOLVER.CHECKPOINT_PERIOD
        self.model.train()
        loss_sum = torch.tensor(self.epoch_loss, device=self.device)
        batches = split_order(order, self.cfg.SOLVER.BATCH_SIZE)
        batches = batches[: self.total_steps - epoch * self.steps_per_epoch]
        # Closed at once, so that no worker outlives the loop.
        with contextlib.closing(self._batches.read(batches[done:])) as read:
            for ids, images in read:
                loss_sum += self._train_step(ids, images)
                self.step += 1
                self._bar.update()
                in_epoch = self.step < epoch * self.steps_per_epoch + len(batches)
                due = period and self.step % period == 0
                if in_epoch and (due or self._stop.signum):
                    self.epoch_loss = float(loss_sum)
                    self._require_finite(epoch, self.epoch_loss)
                    self._save_or_stop(save)
        mean_loss = float(loss_sum) / sum(map(len, batches))
        self._end_epoch(epoch, mean_loss)
        if save and self.guide is not None:
            write_metrics(self.cfg.OUTPUT_DIR, self.step, mean_loss, self.guide.scalars())
        self.epoch_loss = 0.0
        ended = self.step == self.total_steps
        self._save_or_stop(save and (ended or bool(self._stop.signum) or self._may_save()))

    def _may_save(self) -> bool:
        """Whether saving at the end of an epoch keeps to its share of the time."""
        waited = time.perf_counter() - self._saved_at
        return self._save_seconds < PROMPT or self._save_seconds < SHARE * waited

    def _save_or_stop(self, save: bool) -> None:
        """Save, and end the run where a signal has asked for it."""
        if save:
            self.save_checkpoint()
        if not self._stop.signum:
            return
        name = signal.Signals(self._stop.signum).name
        done = f"{name}: stopped after step {self.step} of {self.total_steps}"
        if save:
            logger.warning("%s, which is saved; %s", done, how_to_go_on(self.cfg.OUTPUT_DIR))
        else:
            logger.warning("%s; nothing is saved.", done)
        raise Stopped(self._stop.signum)

    def _train_step(self, ids: Tensor, images: Tensor) -> Tensor:
        """One step of the model, and the guide's one for the step before. The sum of the losses."""
        for group in self._optimizer.param_groups:
            group["lr"] = cosine(self.step, self.total_steps, self.cfg.SOLVER.LR)
        labels = self._labels[ids.to(self.device)]
        logits = self._classifier.logits(self._augmented(images)).float()
        losses = functional.cross_entropy(logits, labels, reduction="none")
        objective = losses
        if self.guide is not None:
            objective = self.guide.weights(ids).to(self.device, non_blocking=True) * losses
        objective.mean().backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        losses = losses.detach()
        if self.guide is not None:
            self._observe_pending()
            features = self._classifier.features
            measured = signals.measured(self._signals, logits, labels, features)
            self._pending = (ids, *_to_host({"loss": losses, **measured}))
        return losses.sum()

    def _end_epoch(self, epoch: int, mean_loss: float) -> None:
        self._require_finite(epoch, mean_loss)
        shown = {"epoch": f"{epoch + 1}", "loss": f"{mean_loss:.3f}"}
        said = ""
        if self.guide is not None:
            self._observe_pending()
            shown |= {name: f"{value:.3g}" for name, value in self.guide.scalars().items()}
            said = f"; {self.guide.end_epoch()}"
        logger.info("Epoch %d: loss %.4f%s", epoch + 1, mean_loss, said)
        self._bar.set_postfix(shown, refresh=False)

    def _require_finite(self, epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise DataError(
                f"the training loss is {loss} in epoch {epoch + 1}: training diverged; lower "
                f"SOLVER.LR ({self.cfg.SOLVER.LR:g})"
            )

    def _observe_pending(self) -> None:
        """Hand the guide the losses and signals that are still on their way to it."""
        if self.guide is None or self._pending is None:
            return
        ids, columns, arrived = self._pending
        self._pending = None
        if arrived is not None:
            arrived.synchronize()
        self.guide.observe(ids, columns.pop("loss"), **columns)

    def _augmented(self, images: Tensor) -> Tensor:
        node = self.cfg.AUGMENT
        images = crop_and_flip(images, node.CROP, node.FLIP, self._generator)
        return cutout(self._classifier.normalised(images), node.CUTOUT, self._generator)

    def save_checkpoint(self) -> None:
        """Write everything that changes while training; the file is whole or not there."""
        start = time.perf_counter()
        self._observe_pending()
        state = {
            "config": config_digest(self.cfg),
            "settings": settings_text(self.cfg),
            "data": self._data,
            "threads": torch.get_num_threads(),
            "step": self.step,
            "total_steps": self.total_steps,
            "seconds": self.seconds,
            "epoch_loss": self.epoch_loss,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "guide": None if self.guide is None else self.guide.state_dict(),
            "random_states": random_states(augmentation=self._generator),
        }
        save_checkpoint(state, self.cfg.OUTPUT_DIR)
        self._saved_at = time.perf_counter()
        self._save_seconds = self._saved_at - start

    def resume(self) -> bool:
        """Take over the newest whole checkpoint in ``cfg.OUTPUT_DIR``.

        Returns:
            Whether there was one; without one, the run starts from the beginning.

        Raises:
            DataError: checkpoints that cannot be read, or of another configuration or data.
        """
        found = load_checkpoint(self.cfg.OUTPUT_DIR)
        if found is None:
            logger.info(
                "There is no checkpoint in %s: starting from the beginning.", self.cfg.OUTPUT_DIR
            )
            return False
        path, state = found
        try:
            self._take_over(path, state)
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(
                f"{path} is no checkpoint of this run: {short(error)}; start anew without --resume"
            ) from error
        logger.info("Going on from step %d of %d, by %s.", self.step, self.total_steps, path)
        return True

    def _take_over(self, path: Path, state: dict[str, Any]) -> None:
        mine = (config_digest(self.cfg), self._data, self.total_steps, self.guide is None)
        other = (state["config"], state["data"], state["total_steps"], state["guide"] is None)
        if mine != other:
            how = differences(state.get("settings", ""), settings_text(self.cfg))
            raise DataError(
                f"{path} is of a run with another configuration or other data{how}; resume with "
                "what it was started with, or set another OUTPUT_DIR"
            )
        if state["threads"] != torch.get_num_threads():
            logger.warning(
                "The run was on %d thread(s) and goes on with %d: it may end otherwise in its last "
                "digits; OMP_NUM_THREADS=%d keeps them alike.",
                state["threads"],
                torch.get_num_threads(),
                state["threads"],
            )
        self.step, self.epoch_loss = int(state["step"]), float(state["epoch_loss"])
        self._seconds = float(state["seconds"])
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.guide is not None:
            self.guide.load_state_dict(state["guide"])
        restore_random_states(state["random_states"], augmentation=self._generator)


def cosine(step: int, total: int, peak: float) -> float:
    """The learning rate of ``step``, counted from 0: half a cosine from ``peak`` towards 0."""
    return 0.5 * peak * (1.0 + math.cos(math.pi * step / total))


def _optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    node = cfg.SOLVER
    return torch.optim.SGD(
        model.parameters(), node.LR, momentum=node.MOMENTUM, weight_decay=node.WEIGHT_DECAY
    )


def _to_host(columns: dict[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
    """Copies on the CPU that may still be on their way, and the event of their arrival or None."""
    if all(column.device.type != "cuda" for column in columns.values()):
        return columns, None
    hosts = {}
    for name, column in columns.items():
        host = torch.empty(column.shape, dtype=column.dtype, pin_memory=True)
        hosts[name] = host.copy_(column, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return hosts, arrived
