import pytest
import torch

from adapruner_det.detection.modeling.darknet import DarknetTiny, conv_norm_leaky, scale_channels


def test_features_have_darknets_channels_and_strides():
    backbone = DarknetTiny()
    shapes = {k: (v.channels, v.stride) for k, v in backbone.output_shape().items()}
    assert shapes == {"conv5": (256, 16), "conv7": (1024, 32)}
    assert backbone.size_divisibility == 32


def test_output_matches_the_announced_shapes():
    backbone = DarknetTiny(width=0.25)
    features = backbone(torch.rand(2, 3, 64, 96))
    for name, shape in backbone.output_shape().items():
        expected = (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
        assert features[name].shape == expected


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (16, 1.0, 16),
        (1024, 0.5, 512),
        (16, 0.25, 8),  # never below 8
        (256, 0.3, 80),  # 76.8, to a multiple of 8
    ],
)
def test_scale_channels(channels, width, expected):
    assert scale_channels(channels, width) == expected


def test_pool_of_stride_one_keeps_the_last_row_and_column():
    backbone = DarknetTiny(width=0.25, norm="").eval()
    seen = []
    backbone.stages[5].register_forward_hook(lambda m, i, o: seen.append(-1 - o.abs()) or seen[0])
    backbone.stages[6].register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    backbone(torch.rand(1, 3, 96, 96))
    before, after = seen
    # All values are below 0: a zero beyond the edge would win there.
    assert torch.equal(after[..., -1, -1], before[..., -1, -1])
    assert torch.equal(after[..., -1, 0], before[..., -1, :2].amax(-1))
    assert torch.equal(after[..., 0, 0], before[..., :2, :2].amax((-1, -2)))


def test_bias_stands_in_for_a_missing_norm():
    assert conv_norm_leaky(3, 8, 3, "").bias is not None
    assert conv_norm_leaky(3, 8, 3, "BN").bias is None


def test_refuses_a_width_of_zero():
    with pytest.raises(ValueError, match="MODEL.DARKNET.WIDTH is 0"):
        DarknetTiny(width=0)
