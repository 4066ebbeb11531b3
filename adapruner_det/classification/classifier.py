"""A model in use: what stands before it, what comes out of it, and how it is kept in a folder.

Shape letters: N samples, B samples of a batch, A channels, C classes, D features, H and W pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from ..errors import DataError
from ..files import write_text
from .augment import normalise
from .batches import Batches
from .checkpoint import INPUT_FILE, MODEL_FILE, save_tensors
from .config import resolve_device
from .image_set import ImageSet
from .models import UNREADABLE, build_model, short

#: Images at a time where nothing is trained, and how many pixels they have at most unless a batch
#: in training has more.
BATCH_SIZE, PIXELS = 500, 500 * 32 * 32


class Classifier:
    """``cfg``'s model behind its normalisation, on one device.

    Args:
        cfg: the configuration.
        model: of images with A channels.
        device: where it computes.
        mean: (A,) float32, of each channel, in units of the pixels.
        std: (A,) float32; pixels become (pixel − mean) / std.

    Attributes:
        model: the module.
        features: (B, D) of the last batch, the input of the model's last layer, detached; None
            until :meth:`keep_features` is called.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, device: torch.device, mean: Tensor, std: Tensor
    ) -> None:
        self._cfg, self.device = cfg, device
        self._format = torch.channels_last if cfg.SOLVER.CHANNELS_LAST else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self._format)
        self._forward = torch.compile(self.model) if cfg.SOLVER.COMPILE else self.model
        self.mean, self.std = mean.to(device), std.to(device)
        self.features: Tensor | None = None

    def keep_features(self) -> None:
        """From now on, let :attr:`features` be what the last layer was given."""

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.features = inputs[0].detach()

        last = self.model.fc
        assert isinstance(last, nn.Linear)
        last.register_forward_pre_hook(keep)

    def normalised(self, pixels: Tensor) -> Tensor:
        """(B, A, H, W) of 0 to 255, as the model takes them."""
        return normalise(pixels, self.mean, self.std).contiguous(memory_format=self._format)

    def logits(self, images: Tensor) -> Tensor:
        """(B, C), of normalised images; bf16 under SOLVER.AMP.

        Raises:
            DataError: a model that cannot be compiled.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._cfg.SOLVER.AMP):
            try:
                return self._forward(images)
            except Exception as error:
                if not (self._cfg.SOLVER.COMPILE and type(error).__module__.startswith("torch._")):
                    raise
                raise DataError(
                    f"the model cannot be compiled: {short(error)}; set SOLVER.COMPILE False"
                ) from error

    @torch.no_grad()
    def read(self, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
        """(ids (B,), logits (B, C)) of all of ``images`` in their order, as they are.

        The model is in evaluation mode from then on.

        Raises:
            DataError: an image that does not decode, named.
        """
        self.model.eval()
        batches = Batches(images, self.device, self._cfg.DATA.WORKERS)
        fitting = min(BATCH_SIZE, PIXELS // math.prod(images.images.shape[2:]))
        size = max(fitting, self._cfg.SOLVER.BATCH_SIZE)
        for ids, pixels in batches.read(list(torch.arange(len(images)).split(size))):
            yield ids, self.logits(self.normalised(pixels))

    def accuracy(self, images: ImageSet) -> float:
        """On ``images``, in percent. Raises what :meth:`read` does."""
        labels = images.labels.to(self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for ids, logits in self.read(images):
            right += (logits.argmax(1) == labels[ids.to(self.device)]).sum()
        return 100.0 * int(right) / len(images)

    def predictions(self, images: ImageSet) -> np.ndarray:
        """(N, C) float32, the probability of each class. Raises what :meth:`read` does."""
        parts = [logits.float().softmax(1).cpu() for _, logits in self.read(images)]
        return torch.cat(parts).numpy()

    def all_features(self, images: ImageSet) -> np.ndarray:
        """(N, D) float32, the input of the last layer. Raises what :meth:`read` does."""
        self.keep_features()
        parts = []
        for _ in self.read(images):
            assert self.features is not None
            parts.append(self.features.float().cpu())
        return torch.cat(parts).numpy()

    def save(self, folder: str | Path, class_names: list[str]) -> None:
        """Write to ``folder`` what the model's input and output mean, then its weights.

        Raises:
            DataError: a disk that takes no more.
        """
        meaning = {"mean": self.mean.tolist(), "std": self.std.tolist(), "classes": class_names}
        text = json.dumps(meaning, indent=1) + "\n"
        write_text(Path(folder) / INPUT_FILE, text)
        save_tensors(self.model.state_dict(), Path(folder) / MODEL_FILE)


def load_classifier(cfg: CfgNode, folder: str | Path, images: ImageSet) -> Classifier:
    """The trained model of ``cfg`` that a run left in ``folder``, for images such as ``images``.

    Raises:
        DataError: a folder without a finished model, or with one of another kind, of images with
            other channels or of other classes.
    """
    path = Path(folder) / INPUT_FILE
    try:
        meaning: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (torch.tensor(meaning[name], dtype=torch.float32) for name in ("mean", "std"))
        classes = [str(name) for name in meaning["classes"]]
    except UNREADABLE as error:
        raise DataError(
            f"{path} does not say what a trained model expects: {short(error)}; train in "
            f"{folder} first"
        ) from error
    channels = images.images.shape[1]
    if (len(mean), classes) != (channels, list(images.class_names)):
        raise DataError(
            f"the model in {folder} is of {len(classes)} classes and {len(mean)} channel(s), which "
            f"are not the {len(images.class_names)} classes and {channels} channel(s) of "
            f"{images.name}; give the folder of a training on these data"
        )
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS, cfg.MODEL.PRETRAINED = str(Path(folder) / MODEL_FILE), False
    model = build_model(cfg, channels, len(classes))
    return Classifier(cfg, model, resolve_device(cfg), mean, std)
