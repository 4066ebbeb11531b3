"""One training loop: plain, or with a mask over the samples.

Shape letters: N samples, B samples of a batch, C classes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..core import AdaPruner
from ..errors import DataError
from ..samples import fingerprint
from ..settings import config_digest
from ..stopping import Stopped, StopRequest
from .augment import channel_statistics, crop_and_flip, cutout, normalise
from .batches import Batches, split_order, steps_per_epoch
from .checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint, save_tensors
from .config import resolve_device
from .image_set import ImageSet
from .models import UNREADABLE, build_model, short

logger = logging.getLogger(__name__)


class Trainer:
    """Trains ``cfg``'s model on ``images`` for ``cfg.SOLVER.EPOCHS`` epochs.

    With a pruner, its weights multiply the losses (Eq. 4) and it observes them. A sample is in one
    batch of an epoch, so the mask may hear of a step's losses one step later, and at the latest
    before the epoch ends, with the same outcome; so a GPU is never waited for in mid-step.

    SIGTERM and SIGINT end it after the step in hand, once that is saved.

    Args:
        cfg: the configuration.
        images: the N training images.
        pruner: a mask over N samples, or None for plain training.
        label: what the progress bar is called.

    Raises:
        DataError: an unknown model, weights that are not there, or a single image.
    """

    def __init__(
        self, cfg: CfgNode, images: ImageSet, pruner: AdaPruner | None = None, label: str = "train"
    ) -> None:
        if len(images) < 2:
            raise DataError(
                f"there is {len(images)} image to train on; batch normalisation needs 2 or more: "
                "keep more of them"
            )
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
        self._data = fingerprint(images.keys, images.digests().tolist())
        self._stop = StopRequest()
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
        with self._stop.listening(), logging_redirect_tqdm(), contextlib.closing(self._bar):
            try:
                while self.step < self.total_steps:
                    self._train_epoch(save)
            except RuntimeError as error:  # PyTorch's, wherever the loop is when a worker ends
                if str(error).startswith("DataLoader worker"):
                    raise self._without_worker(error) from error
                raise

    def save_model(self) -> None:
        """Write the model's weights to ``cfg.OUTPUT_DIR``."""
        save_tensors(self.model.state_dict(), Path(self.cfg.OUTPUT_DIR) / MODEL_FILE)

    def _train_epoch(self, save: bool) -> None:
        """The rest of the current epoch."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        rng = np.random.default_rng([self.cfg.SEED, epoch])
        order = torch.from_numpy(rng.permutation(self.num_samples))
        period = self.cfg.SOLVER.CHECKPOINT_PERIOD
        self.model.train()
        loss_sum = torch.tensor(self.epoch_loss, device=self.device)
        batches = split_order(order, self.cfg.SOLVER.BATCH_SIZE)[done:]
        # Closed at once, so that no worker outlives the loop.
        with contextlib.closing(self._batches.read(batches)) as read:
            for ids, images in read:
                loss_sum += self._train_step(ids, images)
                self.step += 1
                self._bar.update()
                in_epoch = self.step % self.steps_per_epoch != 0
                due = period and self.step % period == 0
                if in_epoch and (due or self._stop.signum):
                    self.epoch_loss = float(loss_sum)
                    self._require_finite(epoch, self.epoch_loss)
                    self._save_or_stop(save)
        self._end_epoch(epoch, float(loss_sum) / self.num_samples)
        self.epoch_loss = 0.0
        self._save_or_stop(save)

    def _without_worker(self, error: RuntimeError) -> BaseException:
        """What to end with when a process that decodes images has ended before its time."""
        if self._stop.signum:  # it has had the signal too, and the step in hand is lost
            logger.warning("Stopped; %s", self._how_to_go_on())
            return Stopped(self._stop.signum)
        return DataError(
            f"a process that decodes images has ended: {short(error)}; if memory ran out, lower "
            f"DATA.WORKERS; {self._how_to_go_on()}"
        )

    def _save_or_stop(self, save: bool) -> None:
        """Save, and end the run where a signal has asked for it."""
        if save:
            self.save_checkpoint()
        if not self._stop.signum:
            return
        name = signal.Signals(self._stop.signum).name
        done = f"{name}: stopped after step {self.step} of {self.total_steps}"
        if save:
            logger.warning("%s, which is saved; %s", done, self._how_to_go_on())
        else:
            logger.warning("%s; nothing is saved.", done)
        raise Stopped(self._stop.signum)

    def _how_to_go_on(self) -> str:
        return (
            "the same command with --resume as its first option goes on from the checkpoint in "
            f"{self.cfg.OUTPUT_DIR}"
        )

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
        self._require_finite(epoch, mean_loss)
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

    def _require_finite(self, epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise DataError(
                f"the training loss is {loss} in epoch {epoch + 1}: training diverged; lower "
                f"SOLVER.LR ({self.cfg.SOLVER.LR:g})"
            )

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
            try:
                return self._forward(images)
            except Exception as error:
                if not (self.cfg.SOLVER.COMPILE and type(error).__module__.startswith("torch._")):
                    raise
                raise DataError(
                    f"the model cannot be compiled: {short(error)}; set SOLVER.COMPILE False"
                ) from error

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.SOLVER.AMP)

    @torch.no_grad()
    def evaluate(self, images: ImageSet) -> float:
        """Accuracy on ``images`` in percent, with the model as it is.

        Raises:
            DataError: an image that does not decode, named.
        """
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
            "threads": torch.get_num_threads(),
            "step": self.step,
            "epoch_loss": self.epoch_loss,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
            "generator": self._generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        save_checkpoint(state, self.cfg.OUTPUT_DIR)

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
        mine = (config_digest(self.cfg), self._data, self.pruner is None)
        if mine != (state["config"], state["data"], state["pruner"] is None):
            raise DataError(
                f"{path} is of a run with another configuration or other data; resume with what "
                "it was started with, or set another OUTPUT_DIR"
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
