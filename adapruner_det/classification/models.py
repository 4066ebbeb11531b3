"""ResNets with the stem for small images, from torchvision's blocks, and a CNN for CPUs."""

from __future__ import annotations

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
import torchvision
from fvcore.common.config import CfgNode
from torch import nn

from ..errors import DataError, one_line
from ..whole_zip import is_whole_zip

logger = logging.getLogger(__name__)

#: What torch.load and load_state_dict raise for a file that is torn or something else.
UNREADABLE = (
    *(RuntimeError, KeyError, IndexError, TypeError, AttributeError, ValueError, EOFError),
    *(OSError, pickle.UnpicklingError),
)

RESNETS = ("resnet18", "resnet50", "wide_resnet50_2")

#: What MODEL.NAME may be.
NAMES = ("small", *RESNETS)


class SmallNet(nn.Sequential):
    """Three strided 3×3 convolutions, their mean over the image, one linear layer.

    Args:
        in_channels: of the images.
        num_classes: of the logits.
        width: channels of the first layer; each further one has twice as many.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 16) -> None:
        layers: list[nn.Module] = []
        for i in range(3):
            channels = width * 2**i
            layers += [
                nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(in_channels, num_classes)


def build_model(cfg: CfgNode, in_channels: int, num_classes: int) -> nn.Module:
    """The model that ``cfg.MODEL`` names, with the weights that it names.

    Raises:
        DataError: an unknown model, or weights that do not belong to it.
    """
    name = cfg.MODEL.NAME
    if name == "small":
        model: nn.Module = SmallNet(in_channels, num_classes, cfg.MODEL.WIDTH)
    elif name in RESNETS:
        model = _resnet(cfg, in_channels, num_classes)
    else:
        raise DataError(f"MODEL.NAME is {name!r}; it must be one of {', '.join(NAMES)}")
    if cfg.MODEL.WEIGHTS:
        _load_weights(model, cfg.MODEL.WEIGHTS)
    return model


def _resnet(cfg: CfgNode, in_channels: int, num_classes: int) -> nn.Module:
    name = cfg.MODEL.NAME
    weights = torchvision.models.get_model_weights(name).DEFAULT if cfg.MODEL.PRETRAINED else None
    try:
        model = torchvision.models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise DataError(
            f"{weights.url} cannot be fetched: {short(error)}; put it into "
            f"{torch.hub.get_dir()}/checkpoints, or set MODEL.PRETRAINED False"
        ) from error
    if cfg.MODEL.STEM == "cifar":
        model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif in_channels != 3:
        raise DataError(
            f"MODEL.STEM 'imagenet' takes 3 channels, the images have {in_channels}; use 'cifar'"
        )
    model.fc = nn.Linear(model.fc.in_features, num_classes)
    return model


def _load_weights(model: nn.Module, path: str) -> None:
    """Load a state dict that a run wrote; a head (``fc``) of another size is left as it is."""
    if not Path(path).is_file():
        raise DataError(f"there are no weights at {path}; train them with adapruner train-cls")
    try:
        state = load_tensors(path)
        own = model.state_dict()
        for key in ("fc.weight", "fc.bias"):
            if state[key].shape != own[key].shape:
                logger.info("%s of %s is for other classes and starts anew.", key, path)
                state[key] = own[key]
        model.load_state_dict(state)
    except UNREADABLE as error:
        raise DataError(
            f"{path} does not hold weights of this model: {short(error)}; give the model.pt of a "
            "run with the same MODEL.NAME"
        ) from error
    if not all(bool(torch.isfinite(p).all()) for p in model.state_dict().values()):
        raise DataError(f"{path} holds weights that are NaN or infinite; give those of another run")


def load_tensors(path: str | Path) -> Any:
    """What ``torch.save`` wrote, if it is whole and holds tensors and plain Python alone.

    Raises:
        DataError: any other file, with the reason but without its name.
    """
    if zipfile.is_zipfile(path) and not is_whole_zip(path):
        raise DataError("it is damaged")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError("it holds Python objects, which are not read, or is damaged") from error
    except UNREADABLE as error:
        raise DataError(short(error)) from error


def short(error: BaseException) -> str:
    """The beginning of a library's message, on one line."""
    text = one_line(error) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."
