import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from adapruner_det.detection.per_image import check_per_image, put_together, take_apart, unhandled
from adapruner_det.detection.per_image.rpn import PerImageRPN

from .tiny import tiny_cfg


class OtherForward(RPN):
    """A user's RPN that leaves the losses alone."""

    def forward(self, images, features, gt_instances=None):
        return "mine"


class OtherLosses(RPN):
    def losses(self, *args):
        return {"loss_rpn_cls": torch.zeros(())}


class OtherBoxLoss(FastRCNNOutputLayers):
    def box_reg_loss(self, *args):
        return torch.zeros(())


class OtherMaskForward(MaskRCNNConvUpsampleHead):
    def forward(self, x, instances):
        return {"loss_mask": torch.zeros(())}


class UnknownHead(nn.Module):
    def losses(self, predictions):
        return {"loss": predictions.mean()}


def rpn(cls=RPN):
    cfg = tiny_cfg("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml")
    return cls(cfg, {"res4": ShapeSpec(channels=4, stride=16)})


def box_head(cls):
    return cls(tiny_cfg("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"), ShapeSpec(channels=6))


def mask_head(cls):
    cfg = tiny_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    return cls(cfg, ShapeSpec(channels=6, width=7, height=7))


def test_a_subclass_that_keeps_the_losses_is_taken_apart_and_keeps_the_rest():
    module = nn.ModuleDict({"mine": rpn(OtherForward)})
    assert unhandled(module) == []
    assert take_apart(module) == ["mine (OtherForward)"]
    assert isinstance(module["mine"], OtherForward)
    assert module["mine"].losses.__func__ is PerImageRPN.losses
    assert module["mine"](None, None) == "mine"
    put_together(module)
    assert type(module["mine"]) is OtherForward


@pytest.mark.parametrize(
    ("build", "cls"),
    [(rpn, OtherLosses), (box_head, OtherBoxLoss), (mask_head, OtherMaskForward)],
)
def test_a_subclass_that_changes_a_loss_is_left_alone_and_named(build, cls):
    module = nn.ModuleDict({"plain": rpn(), "mine": build(cls)})
    for _ in range(2):
        assert unhandled(module) == [f"mine ({cls.__name__})"]
        assert take_apart(module) == ["plain (RPN)"]
        assert type(module["mine"]) is cls


def test_a_module_with_losses_of_its_own_is_named():
    assert unhandled(UnknownHead()) == ["detector (UnknownHead)"]
    assert take_apart(UnknownHead()) == []
    assert unhandled(nn.Linear(1, 1)) == []


def test_parameters_attributes_and_copies_survive():
    module = rpn()
    before = {name: id(value) for name, value in module.state_dict(keep_vars=True).items()}
    attributes = set(vars(module))
    take_apart(module)
    assert {n: id(v) for n, v in module.state_dict(keep_vars=True).items()} == before
    assert set(vars(module)) == attributes
    twin = copy.deepcopy(module)
    assert type(twin) is type(module) is PerImageRPN
    put_together(twin)
    assert type(twin) is RPN
    assert type(module) is PerImageRPN
    put_together(module)
    put_together(module)
    assert type(module) is RPN


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"loss_a": torch.zeros(3), "loss_b": torch.zeros(())}, r"'loss_b' has shape \(\)"),
        ({"loss_a": torch.zeros(2)}, r"'loss_a' has shape \(2,\), expected .*\(3,\)"),
        ({"loss_a": torch.zeros(3, 1)}, r"'loss_a' has shape \(3, 1\)"),
        ({"loss_a": 0.5}, "'loss_a' has 0.5"),
        ({}, "no losses"),
        (None, "no losses but NoneType"),
        ([{"instances": 1}], "no losses but list.*training mode"),
    ],
)
def test_what_is_not_one_value_per_image_is_refused(losses, message):
    with pytest.raises(ValueError, match=message):
        check_per_image(losses, 3)


def test_one_value_per_image_passes():
    check_per_image({"loss_a": torch.zeros(3)}, 3)
    with pytest.raises(ValueError, match="shape"):
        check_per_image({"loss_a": torch.zeros(())}, 1)
