"""Detectron2's focal loss works in float32, whatever comes in."""

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss

from adapruner_det.detection.per_image.focal import focal_losses

from .tiny import close


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 0.0)])
def test_each_image_is_fvcore_on_its_counted_anchors(alpha, gamma):
    num_classes = 3
    logits = torch.randn(4, 50, num_classes, requires_grad=True)
    labels = torch.randint(-1, num_classes + 1, (4, 50))
    labels[1] = num_classes
    labels[2] = -1
    expected = []
    for logit, label in zip(logits, labels, strict=True):
        target = torch.eye(num_classes + 1)[label[label >= 0], :num_classes]
        expected.append(sigmoid_focal_loss(logit[label >= 0], target, alpha, gamma, "sum"))
    expected = torch.stack(expected)

    positive = ((labels >= 0) & (labels < num_classes)).nonzero(as_tuple=True)
    losses = focal_losses(logits, labels, positive, alpha, gamma)
    close(losses, expected, 1e-6)
    assert losses[2] == 0
    (actual,) = torch.autograd.grad(losses.sum(), logits)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    close(actual, wanted, 1e-6)


def test_half_precision_sums_in_float32():
    logits = torch.zeros(1, 1000, 1, dtype=torch.bfloat16)
    labels = torch.ones(1, 1000, dtype=torch.int64)
    nothing = (labels == 0).nonzero(as_tuple=True)
    losses = focal_losses(logits, labels, nothing, -1.0, 0.0)
    assert losses.dtype == torch.float32
    assert losses.item() == pytest.approx(693, rel=1e-2)
