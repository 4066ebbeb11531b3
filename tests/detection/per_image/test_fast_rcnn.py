import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransformRotated
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.rotated_fast_rcnn import RotatedFastRCNNOutputLayers
from detectron2.structures import Boxes, Instances, RotatedBoxes

from adapruner_det.detection.evidence import watching
from adapruner_det.detection.per_image import LossSource, take_apart
from adapruner_det.detection.per_image.fast_rcnn import sigmoid_losses, softmax_losses

from .tiny import NUM_CLASSES, close, random_boxes, tiny_cfg

HAS_SIGMOID = hasattr(FastRCNNOutputLayers, "sigmoid_cross_entropy_loss")


def predictor(*options, **arguments):
    cfg = tiny_cfg("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", *options)
    layers = FastRCNNOutputLayers(cfg, ShapeSpec(channels=6))
    for name, value in arguments.items():
        if name == "fed_loss_cls_weights":
            layers.register_buffer(name, value)
        else:
            setattr(layers, name, value)
    return layers


def inputs(layers, counts, dtype=torch.float64):
    """Predictions and labelled proposals; the second image has no object, hence no gt_boxes."""
    proposals = []
    for i, count in enumerate(counts):
        instances = Instances((64, 64), proposal_boxes=Boxes(random_boxes(count, 64, 64).to(dtype)))
        instances.gt_classes = torch.randint(0, NUM_CLASSES + 1, (count,))
        if i == 1:
            instances.gt_classes = torch.full((count,), NUM_CLASSES)
        else:
            instances.gt_boxes = Boxes(random_boxes(count, 64, 64).to(dtype))
        proposals.append(instances)
    total = sum(counts)
    outputs = layers.bbox_pred.out_features
    scores = torch.randn(total, NUM_CLASSES + 1, dtype=dtype, requires_grad=True)
    deltas = (torch.rand(total, outputs, dtype=dtype) * 0.3).requires_grad_()
    return (scores, deltas), proposals


def gradients(losses, predictions):
    return torch.autograd.grad(sum(v.mean() for v in losses.values()), predictions)


SETTINGS = [
    ((), {}),
    (("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True), {}),
    (("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 0.5), {}),
    (("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", 3.0), {}),
    ((), {"loss_weight": {"loss_cls": 0.5, "loss_box_reg": 2.0}}),
    (("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"), {}),
    pytest.param(
        (),
        {"use_sigmoid_ce": True},
        marks=pytest.mark.skipif(not HAS_SIGMOID, reason="this Detectron2 has softmax only"),
    ),
    pytest.param(
        (),
        {
            "use_sigmoid_ce": True,
            "use_fed_loss": True,
            "fed_loss_num_classes": NUM_CLASSES - 1,
            "fed_loss_cls_weights": torch.rand(NUM_CLASSES) + 0.1,
        },
        marks=pytest.mark.skipif(not HAS_SIGMOID, reason="this Detectron2 has softmax only"),
    ),
]


@pytest.mark.parametrize(("options", "arguments"), SETTINGS)
@pytest.mark.parametrize("counts", [(7, 4, 0, 9), (8,), (5, 3)])
def test_means_and_gradients_are_detectron2s(options, arguments, counts, storage):
    layers = predictor(*options, **arguments)
    # Detectron2's giou works in float32 only.
    dtype, relative = (torch.float32, 1e-6) if "giou" in options else (torch.float64, 1e-12)
    predictions, proposals = inputs(layers, counts, dtype)
    torch.manual_seed(1)
    expected = layers.losses(predictions, proposals)
    logged = dict(storage.latest())
    assert take_apart(layers) == ["detector (FastRCNNOutputLayers)"]
    torch.manual_seed(1)
    losses = layers.losses(predictions, proposals)

    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert value.shape == (len(counts),)
        close(value.mean(), expected[name], relative)
    for actual, wanted in zip(
        gradients(losses, predictions), gradients(expected, predictions), strict=True
    ):
        close(actual, wanted, relative)
    assert dict(storage.latest()) == logged
    assert "fast_rcnn/cls_accuracy" in logged


def test_each_value_is_detectron2s_loss_of_that_image_scaled_by_its_share_of_proposals():
    layers = predictor()
    counts = (7, 4, 9)
    (scores, deltas), proposals = inputs(layers, counts)
    pieces = zip(scores.split(counts), deltas.split(counts), proposals, strict=True)
    alone = [layers.losses((score, delta), [one]) for score, delta, one in pieces]
    take_apart(layers)
    losses = layers.losses((scores, deltas), proposals)
    share = torch.tensor(counts).double() / sum(counts) * len(counts)
    for name, value in losses.items():
        close(value, torch.stack([loss[name] for loss in alone]) * share, 1e-12)
    assert losses["loss_box_reg"][1] == 0


def test_no_proposals_at_all_give_zeros_with_gradients():
    layers = predictor()
    predictions, proposals = inputs(layers, (0, 0))
    expected = layers.losses(predictions, proposals)
    take_apart(layers)
    losses = layers.losses(predictions, proposals)
    for name, value in losses.items():
        assert value.tolist() == [0, 0]
        assert expected[name] == 0
    gradients(losses, predictions)


def test_softmax_and_sigmoid_by_hand():
    scores = torch.zeros(2, 3)
    gt_classes = torch.tensor([0, 2])
    torch.testing.assert_close(softmax_losses(scores, gt_classes), torch.log(torch.full((2,), 3.0)))
    two = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(sigmoid_losses(scores, gt_classes), torch.stack([2 * two, 2 * two]))
    only_first = sigmoid_losses(scores, gt_classes, counted=torch.tensor([0, 2]))
    torch.testing.assert_close(only_first, torch.stack([two, two]))


def rotated(channels=6):
    return RotatedFastRCNNOutputLayers(
        ShapeSpec(channels=channels),
        box2box_transform=Box2BoxTransformRotated((10.0, 10.0, 5.0, 5.0, 1.0)),
        num_classes=NUM_CLASSES,
    )


def test_rotated_boxes_are_judged_by_their_losses_and_shown_to_nobody(storage):
    layers, counts = rotated(), (7, 4, 9)
    predictions, proposals = inputs(layers, counts)
    for own in proposals:
        for name in ("proposal_boxes", "gt_boxes"):
            if own.has(name):
                boxes = own.get(name)
                middle, angles = boxes.get_centers(), torch.rand(len(boxes), 1) * 90
                sides = boxes.tensor[:, 2:] - boxes.tensor[:, :2]
                turned = torch.cat([middle, sides, angles.to(sides)], 1)
                own.remove(name)
                own.set(name, RotatedBoxes(turned))
    expected = layers.losses(predictions, proposals)
    take_apart(layers)
    with watching(True) as shown:
        losses = layers.losses(predictions, proposals)
    assert not shown
    for name, value in losses.items():
        assert value.shape == (3,)
        close(value.mean(), expected[name], 1e-6)


def test_a_detector_of_rotated_boxes_shows_nothing():
    model = build_model(tiny_cfg("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    assert LossSource(model).shows
    model.roi_heads.box_predictor = rotated(channels=32)
    source = LossSource(model)
    assert source.way == "apart" and not source.shows
