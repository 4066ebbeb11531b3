import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.structures import Boxes

from adapruner_det.detection.per_image import take_apart

from .tiny import close, random_boxes, tiny_cfg

LEVELS = (40, 10)
R = sum(LEVELS)


def rpn(*options):
    cfg = tiny_cfg("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml", *options)
    return RPN(cfg, {"res4": ShapeSpec(channels=4, stride=16)})


def arguments(num_images, dtype=torch.float64):
    """What RPN.losses gets: images with few, no, and many positive anchors."""
    anchors = [Boxes(random_boxes(n, 64, 64).to(dtype)) for n in LEVELS]
    logits = [torch.randn(num_images, n, dtype=dtype, requires_grad=True) for n in LEVELS]
    deltas = [(torch.rand(num_images, n, 4, dtype=dtype) * 0.2).requires_grad_() for n in LEVELS]
    labels = [torch.randint(-1, 2 if i != 1 else 1, (R,)) for i in range(num_images)]
    boxes = [random_boxes(R, 64, 64).to(dtype) for _ in range(num_images)]
    return anchors, logits, labels, deltas, boxes


def only(args, i):
    anchors, logits, labels, deltas, boxes = args
    one = slice(i, i + 1)
    return anchors, [x[one] for x in logits], labels[one], [x[one] for x in deltas], boxes[one]


def gradients(losses, args):
    total = sum(value.mean() for value in losses.values())
    return torch.autograd.grad(total, [*args[1], *args[3]])


OPTIONS = [
    (),
    ("MODEL.RPN.SMOOTH_L1_BETA", 0.2),
    ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", 2.5),
    ("MODEL.RPN.LOSS_WEIGHT", 0.5),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("num_images", [1, 3])
def test_means_and_gradients_are_detectron2s(options, num_images, storage):
    module = rpn(*options)
    # Detectron2's giou works in float32 only, and so does its objectness loss, whatever comes in.
    dtype, relative = (torch.float32, 1e-6) if "giou" in options else (torch.float64, 1e-12)
    args = arguments(num_images, dtype)
    expected = module.losses(*args)
    logged = dict(storage.latest())
    assert take_apart(module) == ["detector (RPN)"]
    losses = module.losses(*args)

    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert value.shape == (num_images,)
        close(value.mean(), expected[name], 1e-6 if name == "loss_rpn_cls" else relative)
    for actual, wanted in zip(gradients(losses, args), gradients(expected, args), strict=True):
        close(actual, wanted, 1e-6)
    assert dict(storage.latest()) == logged
    assert logged.keys() == {"rpn/num_pos_anchors", "rpn/num_neg_anchors"}


def test_each_value_is_detectron2s_loss_of_that_image_alone():
    module = rpn()
    args = arguments(3)
    alone = [module.losses(*only(args, i)) for i in range(3)]
    take_apart(module)
    losses = module.losses(*args)
    for name, value in losses.items():
        close(value, torch.stack([loss[name] for loss in alone]), 1e-6)
    assert losses["loss_rpn_loc"][1] == 0


def test_float32():
    module = rpn()
    args = arguments(3, torch.float32)
    expected = module.losses(*args)
    take_apart(module)
    for name, value in module.losses(*args).items():
        assert value.dtype == torch.float32
        close(value.mean(), expected[name], 1e-6)
