"""One training loop: plain, or with a mask over the samples.

Shape letters: N samples, B samples of a batch, C classes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ..core import AdaPruner
from ..errors import DataError
from ..selection import fingerprint
from .augment import channel_statistics, crop_and_flip, cutout, normalise
from .batches import Batches, split_order, steps_per_epoch
from .config import config_digest, resolve_device
from .image_set import ImageSet
from .models import UNREADABLE, build_model

logger = logging.getLogger(__name__)

CHECKPOINT_FILE, MODEL_FILE = "checkpoint.pt", "model.pt"


class Trainer:
    """Trains ``cfg``'s model on ``images`` for ``cfg.SOLVER.EPOCHS`` epochs.

    With a pruner, its weights multiply the losses (Eq. 4) and it observes them. A sample is in one
    batch of an epoch, so the mask may hear of a step's losses one step later, and at the latest
    before the epoch ends, with the same outcome; so a GPU is never waited for in mid-step.

    Args:
        cfg: the configuration.
        images: the N training images.
        pruner: a mask over N samples, or None for plain training.
        label: what the progress bar is called.

    Raises:
        DataError: an unknown model, or weights that are not there.
    """

    def __init__(
        self, cfg: CfgNode, images: ImageSet, pruner: AdaPruner | None = None, label: str = "train"
    ) -> None:
        self.cfg, self.pruner = cfg, pruner
        self.device = resolve_device(cfg)
        self.num_samples = len(images)
        self.steps_per_epoch = steps_per_epoch(len(images), cfg.SOLVER.BATCH_SIZE)
        self.step = 0
        self.epoch_loss = 0.0
        torch.manual_seed(cfg.SEED)
        self._generator = torch.Generator(self.device).manual_seed(cfg.SEED)
        self._format = torch.channels_last if cfg.SOLVER.CHANNELS_LAST else torch.contiguous_format
        model = build_model(cfg, images.images.shape[1], len(images.class_names))
        self.model = model.to(self.device, memory_format=self._format)
        self._forward = torch.compile(self.model) if cfg.SOLVER.COMPILE else self.model
        self._optimizer = _optimizer(cfg, self.model)
        self._batches = Batches(images, self.device, cfg.DATA.WORKERS)
        self._labels = images.labels.to(self.device)
        self._data = fingerprint(images.keys, images.labels.tolist())
        self._mean, self._std = channel_statistics(self._batches.sample(50_000))
        self._pending: tuple[Tensor, Tensor, Any] | None = None
        self._bar = tqdm(
            total=self.total_steps,
            desc=label,
            unit="step",
            mininterval=1,
            leave=False,
            disable=None,
        )

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return self.cfg.SOLVER.EPOCHS * self.steps_per_epoch

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's state is saved."""
        return Path(self.cfg.OUTPUT_DIR) / CHECKPOINT_FILE

    def train(self, *, save: bool = True) -> None:
        """Run to the last epoch, from wherever this stands.

        Args:
            save: write checkpoints, and the model's weights at the end, to ``cfg.OUTPUT_DIR``.

        Raises:
            DataError: losses that are no longer finite, or an image that does not decode.
        """
        self._bar.update(self.step - self._bar.n)
        while self.step < self.total_steps:
            self._train_epoch(save)
        self._bar.close()
        if save:
            _save(self.model.state_dict(), Path(self.cfg.OUTPUT_DIR) / MODEL_FILE)

    def _train_epoch(self, save: bool) -> None:
        """The rest of the current epoch."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        rng = np.random.default_rng([self.cfg.SEED, epoch])
        order = torch.from_numpy(rng.permutation(self.num_samples))
        period = self.cfg.SOLVER.CHECKPOINT_PERIOD
        self.model.train()
        loss_sum = torch.tensor(self.epoch_loss, device=self.device)
        for ids, images in self._batches.read(
            split_order(order, self.cfg.SOLVER.BATCH_SIZE)[done:]
        ):
            loss_sum += self._train_step(ids, images)
            self.step += 1
            self._bar.update()
            if save and period and self.step % period == 0 and self.step % self.steps_per_epoch:
                self.epoch_loss = float(loss_sum)
                self.save_checkpoint()
        self._end_epoch(epoch, float(loss_sum) / self.num_samples)
        self.epoch_loss = 0.0
        if save:
            self.save_checkpoint()

    def _train_step(self, ids: Tensor, images: Tensor) -> Tensor:
        """One step of the model, and the mask's one for the step before. The sum of the losses."""
        for group in self._optimizer.param_groups:
            group["lr"] = cosine(self.step, self.total_steps, self.cfg.SOLVER.LR)
        losses = functional.cross_entropy(
            self._logits(self._augmented(images)).float(),
            self._labels[ids.to(self.device)],
            reduction="none",
        )
        objective = losses
        if self.pruner is not None:
            objective = self.pruner.weights(ids).to(self.device, non_blocking=True) * losses
        objective.mean().backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        losses = losses.detach()
        if self.pruner is not None:
            self._observe_pending()
            self._pending = (ids, *_to_host(losses))
        return losses.sum()

    def _end_epoch(self, epoch: int, mean_loss: float) -> None:
        if not math.isfinite(mean_loss):
            raise DataError(
                f"the training loss is {mean_loss} in epoch {epoch + 1}: training diverged; lower "
                f"SOLVER.LR ({self.cfg.SOLVER.LR:g})"
            )
        shown = {"epoch": epoch + 1, "loss": f"{mean_loss:.3f}"}
        mask = ""
        if self.pruner is not None:
            self._observe_pending()
            status = self.pruner.end_epoch()
            shown["ratio"] = f"{status.ratio:.3f}"
            mask = (
                f", soft ratio {status.ratio:.4f} of {self.pruner.keep_ratio:.4f}, "
                f"α {status.alpha:.2f}, {100 * status.binary_share:.1f}% binary"
            )
        logger.info("Epoch %d: loss %.4f%s", epoch + 1, mean_loss, mask)
        self._bar.set_postfix(shown, refresh=False)

    def _observe_pending(self) -> None:
        """Hand the mask the losses that are still on their way to it."""
        if self._pending is None:
            return
        ids, losses, arrived = self._pending
        self._pending = None
        if arrived is not None:
            arrived.synchronize()
        self.pruner.observe(ids, losses)

    def _augmented(self, images: Tensor) -> Tensor:
        node = self.cfg.AUGMENT
        images = crop_and_flip(images, node.CROP, node.FLIP, self._generator)
        return cutout(self._normalised(images), node.CUTOUT, self._generator)

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self._mean, self._std).contiguous(memory_format=self._format)

    def _logits(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._forward(images)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.SOLVER.AMP)

    @torch.no_grad()
    def evaluate(self, images: ImageSet) -> float:
        """Accuracy on ``images`` in percent, with the model as it is."""
        self.model.eval()
        batches = Batches(images, self.device, self.cfg.DATA.WORKERS)
        labels = images.labels.to(self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for ids, pixels in batches.read(list(torch.arange(len(images)).split(500))):
            predicted = self._logits(self._normalised(pixels)).argmax(1)
            right += (predicted == labels[ids.to(self.device)]).sum()
        return 100.0 * int(right) / len(images)

    def save_checkpoint(self) -> None:
        """Write everything that changes while training; the file is whole or not there."""
        self._observe_pending()
        state = {
            "config": config_digest(self.cfg),
            "data": self._data,
            "step": self.step,
            "epoch_loss": self.epoch_loss,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        _save(state, self.checkpoint_path)

    def resume(self) -> None:
        """Take over the checkpoint in ``cfg.OUTPUT_DIR``; without one, start from the beginning.

        Raises:
            DataError: a checkpoint that cannot be read, or of another configuration.
        """
        path = self.checkpoint_path
        if not path.is_file():
            logger.info("There is no checkpoint at %s: starting from the beginning.", path)
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise DataError(f"{path} cannot be read: {error}; remove it to start anew") from error
        mine = (config_digest(self.cfg), self._data, self.pruner is None)
        if mine != (state["config"], state["data"], state["pruner"] is None):
            raise DataError(
                f"{path} is of a run with another configuration or other data; resume with what "
                "it was started with, or set another OUTPUT_DIR"
            )
        self.step, self.epoch_loss = int(state["step"]), float(state["epoch_loss"])
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        self._generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def cosine(step: int, total: int, peak: float) -> float:
    """The learning rate of ``step``, counted from 0: half a cosine from ``peak`` towards 0."""
    return 0.5 * peak * (1.0 + math.cos(math.pi * step / total))


def _optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    node = cfg.SOLVER
    return torch.optim.SGD(
        model.parameters(), node.LR, momentum=node.MOMENTUM, weight_decay=node.WEIGHT_DECAY
    )


def _to_host(losses: Tensor) -> tuple[Tensor, Any]:
    """A copy on the CPU that may still be on its way, and the event of its arrival or None."""
    if losses.device.type != "cuda":
        return losses, None
    host = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
    host.copy_(losses, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return host, arrived


def _save(state: dict[str, Any], path: Path) -> None:
    """Write beside ``path`` and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)
