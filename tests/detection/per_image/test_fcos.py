import copy
import inspect

import pytest
import torch
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import Boxes

from adapruner_det.detection.per_image import take_apart
from adapruner_det.detection.per_image.fcos import centerness_losses

from .tiny import NUM_CLASSES, close, random_boxes, tiny_lazy_detector

LEVELS = (40, 10)
R = sum(LEVELS)
# FCOS.label_anchors gives Boxes in v0.6, tensors in main.
GIVES_BOXES = "m.tensor" in inspect.getsource(FCOS.compute_ctrness_targets)


def fcos():
    return tiny_lazy_detector("COCO-Detection/fcos_R_50_FPN_1x.py")


def arguments(num_images, dtype=torch.float64):
    """What FCOS.losses gets; the second image is all background."""
    squares = [random_boxes(n, 64, 64).to(dtype) for n in LEVELS]
    anchors = [Boxes(torch.cat([x[:, :2], x[:, :2] + 8], dim=1)) for x in squares]
    logits = [torch.randn(num_images, n, NUM_CLASSES, dtype=dtype) for n in LEVELS]
    deltas = [torch.rand(num_images, n, 4, dtype=dtype) for n in LEVELS]
    centerness = [torch.randn(num_images, n, 1, dtype=dtype) for n in LEVELS]
    labels = [torch.randint(0, NUM_CLASSES + 1, (R,)) for _ in range(num_images)]
    if num_images > 1:
        labels[1][:] = NUM_CLASSES
    # Boxes around every point, as FCOS's labels are.
    centers = torch.cat([x.tensor for x in anchors])
    boxes = [centers + torch.rand(R, 4) * torch.tensor([-9, -9, 9, 9]) for _ in labels]
    if GIVES_BOXES:
        boxes = [Boxes(x.to(dtype)) for x in boxes]
    for x in (*logits, *deltas, *centerness):
        x.requires_grad_()
    return anchors, logits, labels, deltas, boxes, centerness


@pytest.mark.parametrize("num_images", [1, 3])
def test_twelve_steps_of_the_moving_normalizer(num_images, storage):
    model = fcos()
    apart = copy.deepcopy(model)
    assert take_apart(apart) == ["detector (FCOS)"]
    for _ in range(12):
        args = arguments(num_images)
        expected = model.losses(*args)
        logged = dict(storage.latest())
        losses = apart.losses(*args)
        assert losses.keys() == expected.keys()
        for name, value in losses.items():
            assert value.shape == (num_images,)
            # Boxes keep float32 inside.
            close(value.mean(), expected[name], 1e-6)
        assert apart.loss_normalizer == model.loss_normalizer
        assert dict(storage.latest()) == logged
    assert model.loss_normalizer < 299
    leaves = [*args[1], *args[3], *args[5]]
    ours = torch.autograd.grad(sum(v.mean() for v in losses.values()), leaves)
    theirs = torch.autograd.grad(sum(expected.values()), leaves)
    for actual, wanted in zip(ours, theirs, strict=True):
        close(actual, wanted, 1e-6)


def test_each_value_is_detectron2s_loss_of_that_image_alone():
    model = fcos()
    anchors, logits, labels, deltas, boxes, centerness = arguments(3)
    alone = []
    for i in range(3):
        one = slice(i, i + 1)
        predictions = ([x[one] for x in level] for level in (logits, deltas, centerness))
        logit, delta, center = predictions
        losses = model.losses(anchors, logit, labels[one], delta, boxes[one], center)
        alone.append({name: v * model.loss_normalizer for name, v in losses.items()})
    take_apart(model)
    losses = model.losses(anchors, logits, labels, deltas, boxes, centerness)
    for name, value in losses.items():
        expected = torch.stack([one[name] for one in alone]) * 3 / model.loss_normalizer
        close(value, expected, 1e-6)
    assert losses["loss_fcos_loc"][1] == losses["loss_fcos_ctr"][1] == 0


def test_centerness_ignores_what_is_not_positive():
    logits = torch.zeros(2, 3)
    targets = torch.tensor([[0.5, float("nan"), 0.5], [float("nan")] * 3])
    losses = centerness_losses(logits, targets, (torch.tensor([0, 0]), torch.tensor([0, 2])))
    torch.testing.assert_close(losses, torch.tensor([2.0, 0.0]) * torch.log(torch.tensor(2.0)))
