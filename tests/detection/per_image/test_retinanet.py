import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes

from adapruner_det.detection.per_image import take_apart

from .tiny import NUM_CLASSES, close, random_boxes, tiny_cfg

LEVELS = (40, 10)
R = sum(LEVELS)
OPTIONS = [
    ("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.0),
    ("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.3),
    ("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou"),
]


def retinanet(*options):
    return build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml", *options))


def arguments(num_images, dtype):
    """What RetinaNet.losses gets; the second image is all background."""
    anchors = [Boxes(random_boxes(n, 64, 64).to(dtype)) for n in LEVELS]
    logits = [
        torch.randn(num_images, n, NUM_CLASSES, dtype=dtype, requires_grad=True) for n in LEVELS
    ]
    deltas = [(torch.rand(num_images, n, 4, dtype=dtype) * 0.2).requires_grad_() for n in LEVELS]
    labels = [torch.randint(-1, NUM_CLASSES + 1, (R,)) for _ in range(num_images)]
    if num_images > 1:
        labels[1][:] = NUM_CLASSES
    boxes = [random_boxes(R, 64, 64).to(dtype) for _ in range(num_images)]
    return anchors, logits, labels, deltas, boxes


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("num_images", [1, 3])
def test_twelve_steps_of_the_moving_normalizer(options, num_images, storage):
    model = retinanet(*options)
    apart = copy.deepcopy(model)
    assert take_apart(apart) == ["detector (RetinaNet)"]
    # Detectron2's giou and focal loss work in float32 only.
    dtype, relative = (torch.float32, 1e-6) if "giou" in options else (torch.float64, 1e-12)
    for _ in range(12):
        args = arguments(num_images, dtype)
        expected = model.losses(*args)
        logged = dict(storage.latest())
        losses = apart.losses(*args)
        assert losses.keys() == expected.keys()
        for name, value in losses.items():
            assert value.shape == (num_images,)
            close(value.mean(), expected[name], 1e-6 if name == "loss_cls" else relative)
        assert apart.loss_normalizer == model.loss_normalizer
        assert dict(storage.latest()) == logged
    assert model.loss_normalizer < 99  # it has moved
    leaves = [*args[1], *args[3]]
    ours = torch.autograd.grad(sum(v.mean() for v in losses.values()), leaves)
    theirs = torch.autograd.grad(sum(expected.values()), leaves)
    for actual, wanted in zip(ours, theirs, strict=True):
        close(actual, wanted, 1e-6)


def test_each_value_is_detectron2s_loss_of_that_image_alone():
    model = retinanet()
    anchors, logits, labels, deltas, boxes = arguments(3, torch.float64)
    alone = []
    for i in range(3):
        one = slice(i, i + 1)
        losses = model.losses(
            anchors, [x[one] for x in logits], labels[one], [x[one] for x in deltas], boxes[one]
        )
        alone.append({name: v * model.loss_normalizer for name, v in losses.items()})
    take_apart(model)
    losses = model.losses(anchors, logits, labels, deltas, boxes)
    for name, value in losses.items():
        expected = torch.stack([one[name] for one in alone]) * 3 / model.loss_normalizer
        close(value, expected, 1e-6)
    assert losses["loss_box_reg"][1] == 0
