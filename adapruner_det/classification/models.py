"""ResNets with the stem for small images, from torchvision's blocks, and a CNN for CPUs."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
import torchvision
from fvcore.common.config import CfgNode
from torch import nn

from ..errors import DataError

logger = logging.getLogger(__name__)

#: What torch.load and load_state_dict raise for a file that is torn or something else.
UNREADABLE = (RuntimeError, KeyError, IndexError, TypeError, EOFError, pickle.UnpicklingError)

RESNETS = ("resnet18", "resnet50", "wide_resnet50_2")


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
        raise DataError(f"MODEL.NAME is {name!r}; it must be small, {', '.join(RESNETS)}")
    if cfg.MODEL.WEIGHTS:
        _load_weights(model, cfg.MODEL.WEIGHTS)
    return model


def _resnet(cfg: CfgNode, in_channels: int, num_classes: int) -> nn.Module:
    name = cfg.MODEL.NAME
    weights = torchvision.models.get_model_weights(name).DEFAULT if cfg.MODEL.PRETRAINED else None
    model = torchvision.models.get_model(name, weights=weights)
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
        raise DataError(f"there are no weights at {path}; train them with tools/train_cls.py")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = model.state_dict()
        for key in ("fc.weight", "fc.bias"):
            if state[key].shape != own[key].shape:
                logger.info("%s of %s is for other classes and starts anew.", key, path)
                state[key] = own[key]
        model.load_state_dict(state)
    except UNREADABLE as error:
        raise DataError(
            f"{path} does not hold weights of this model: {error}; give the model.pt of a run "
            "with the same MODEL.NAME"
        ) from error
