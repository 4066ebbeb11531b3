"""The backbone of YOLOv3-Tiny, as in darknet's cfg/yolov3-tiny.cfg (Redmon and Farhadi, 2018).

Shape letters: B images, H and W the input's height and width.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

LEAKY_SLOPE = 0.1
_CHANNELS = (16, 32, 64, 128, 256, 512, 1024)


def scale_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 and at least 8."""
    return max(8, 8 * round(channels * width / 8))


def conv_norm_leaky(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    """A convolution that keeps the resolution, its norm (`detectron2.layers.get_norm`) and a
    leaky ReLU of slope 0.1. Without a norm the convolution has a bias."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    )
    nn.init.kaiming_normal_(conv.weight, a=LEAKY_SLOPE, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class DarknetTiny(Backbone):
    """Seven 3x3 convolutions of 16 to 1024 channels with max-pools in between.

    Args:
        in_channels: channels of the image.
        width: multiplies every layer's channels, see :func:`scale_channels`.
        norm: the name of a norm, see `detectron2.layers.get_norm`.

    The features are "conv5" (stride 16, 256·width channels) and "conv7" (stride 32, 1024·width).
    No stage can be frozen: MODEL.BACKBONE.FREEZE_AT is not read.
    """

    def __init__(self, in_channels: int = 3, width: float = 1.0, norm: str = "BN") -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"MODEL.DARKNET.WIDTH is {width}; give a number above 0, such as 0.5")
        self.width = width
        channels = [scale_channels(c, width) for c in _CHANNELS]
        inputs = [in_channels, *channels[:-1]]
        self.stages = nn.ModuleList(
            conv_norm_leaky(i, o, 3, norm) for i, o in zip(inputs, channels, strict=True)
        )
        self._out_features = ["conv5", "conv7"]
        self._out_feature_channels = {"conv5": channels[4], "conv7": channels[6]}
        self._out_feature_strides = {"conv5": 16, "conv7": 32}

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, in_channels, H, W), H and W multiples of 32, to the features by name."""
        for conv in self.stages[:4]:
            x = F.max_pool2d(conv(x), 2)
        conv5 = self.stages[4](x)
        x = self.stages[5](F.max_pool2d(conv5, 2))
        # Darknet's sixth pool has stride 1; what lies beyond the right and lower edge never wins.
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, stride=1)
        return {"conv5": conv5, "conv7": self.stages[6](x)}


@BACKBONE_REGISTRY.register()
def build_darknet_tiny_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DarknetTiny:
    """:class:`DarknetTiny` from cfg.MODEL.DARKNET."""
    return DarknetTiny(input_shape.channels, cfg.MODEL.DARKNET.WIDTH, cfg.MODEL.DARKNET.NORM)
