import pytest
import torch
from detectron2.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    _dense_box_regression_loss,
)
from detectron2.structures import Boxes

from adapruner_det.detection.per_image.box_regression import box_losses, dense_box_losses

from .tiny import close, random_boxes

TRANSFORMS = {
    "corners": Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
    "linear": Box2BoxTransformLinear(normalize_by_size=True),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("loss_type", "beta", "dtype"),
    [
        ("smooth_l1", 0.0, torch.float64),
        ("smooth_l1", 0.3, torch.float64),
        # Detectron2 decodes boxes in float32 only.
        ("giou", 0.0, torch.float32),
        ("diou", 0.0, torch.float32),
        ("ciou", 0.0, torch.float32),
    ],
)
def test_each_image_is_detectron2_on_that_image_alone(transform, loss_type, beta, dtype):
    transform = TRANSFORMS[transform]
    relative = 1e-12 if dtype == torch.float64 else 1e-6
    levels = [random_boxes(40, 64, 64).to(dtype), random_boxes(10, 64, 64).to(dtype)]
    anchors = [Boxes(level) for level in levels]
    deltas = [
        (torch.rand(3, len(level), 4, dtype=dtype) * 0.2).requires_grad_() for level in levels
    ]
    gt_boxes = [random_boxes(50, 64, 64).to(dtype) for _ in range(3)]
    foreground = torch.rand(3, 50) < 0.3
    foreground[1] = False

    def detectron2(images):
        return _dense_box_regression_loss(
            anchors,
            transform,
            [level[images] for level in deltas],
            [gt_boxes[i] for i in images],
            foreground[images],
            loss_type,
            beta,
        )

    sums = dense_box_losses(
        transform, anchors, deltas, gt_boxes, foreground.nonzero(as_tuple=True), loss_type, beta
    )
    close(sums, torch.stack([detectron2([i]) for i in range(3)]), relative)
    assert sums[0] > 0 == sums[1]
    for actual, expected in zip(
        torch.autograd.grad(sums.sum(), deltas),
        torch.autograd.grad(detectron2([0, 1, 2]), deltas),
        strict=True,
    ):
        close(actual, expected, relative)


def test_an_unknown_type_is_named():
    boxes = random_boxes(2, 64, 64)
    with pytest.raises(ValueError, match="'l3'.*smooth_l1.*BBOX_REG_LOSS_TYPE"):
        box_losses(TRANSFORMS["corners"], boxes, boxes, boxes, "l3")
