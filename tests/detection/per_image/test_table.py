import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from adapruner_det.detection.per_image import (
    check_per_image,
    put_together,
    register_head,
    table,
    take_apart,
    unhandled,
)
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


# Heads of other people -------------------------------------------------------------------------


class Area(nn.Module):
    """A head as a third party writes it: a scalar of the whole batch."""

    def losses(self, values):
        return {"loss_area": self.by_image(values).mean()}

    def by_image(self, values):
        return values.square()


class AreaByImage(Area):
    def losses(self, values):
        return {"loss_area": self.by_image(values)}


@pytest.fixture(autouse=True)
def heads_restored(monkeypatch):
    """What a test registers is gone after it."""
    for known in ("_HEADS", "_per_image", "_original"):
        monkeypatch.setattr(table, known, dict(getattr(table, known)))


def test_a_registered_head_is_taken_apart_and_put_together():
    module = nn.ModuleDict({"mine": Area()})
    assert unhandled(module) == ["mine (Area)"]
    assert register_head(Area)(AreaByImage) is AreaByImage
    assert unhandled(module) == []  # though it was looked up before
    assert take_apart(module) == ["mine (Area)"]
    values = torch.tensor([1.0, 3.0])
    assert module["mine"].losses(values)["loss_area"].tolist() == [1.0, 9.0]
    put_together(module)
    assert type(module["mine"]) is Area


def test_a_subclass_of_a_registered_head_follows_unless_it_changes_a_named_method():
    class Cube(Area):
        def by_image(self, values):
            return values**3

    register_head(Area, methods=("losses",))(AreaByImage)
    cube = Cube()
    assert take_apart(cube) == ["detector (Cube)"]
    assert cube.losses(torch.tensor([2.0]))["loss_area"].tolist() == [8.0]
    register_head(Area, methods=("losses", "by_image"))(AreaByImage)
    assert unhandled(Cube()) == ["detector (Cube)"]


def test_of_two_registered_heads_the_nearest_counts():
    class Doubled(Area):
        def losses(self, values):
            return {"loss_area": 2 * self.by_image(values).mean()}

    class DoubledByImage(Doubled):
        def losses(self, values):
            return {"loss_area": 2 * self.by_image(values)}

    class Own(Doubled):
        pass

    register_head(Area)(AreaByImage)
    register_head(Doubled)(DoubledByImage)
    for cls in (Doubled, Own):
        head = cls()
        take_apart(head)
        assert head.losses(torch.tensor([2.0]))["loss_area"].tolist() == [8.0]

    class Mine(RPN):
        def losses(self, *args):
            return {"loss_rpn_cls": torch.ones(())}

    class MineByImage(Mine):
        def losses(self, *args):
            return {"loss_rpn_cls": torch.ones(3)}

    register_head(Mine)(MineByImage)  # a head that Detectron2's own table knew as changed
    module = nn.ModuleDict({"plain": rpn(), "mine": rpn(Mine)})
    assert take_apart(module) == ["plain (RPN)", "mine (Mine)"]
    assert type(module["plain"]) is PerImageRPN
    assert module["mine"].losses()["loss_rpn_cls"].shape == (3,)


def test_the_same_head_is_registered_once_but_a_module_may_be_read_anew():
    class Another(Area):
        def losses(self, values):
            return {}

    def read():
        class Counterpart(Area):
            def losses(self, values):
                return {"loss_area": values}

        return register_head(Area)(Counterpart)

    read()
    second, head = read(), Area()
    take_apart(head)
    assert type(head) is second
    with pytest.raises(ValueError, match=r"Area is taken apart by .*Counterpart already"):
        register_head(Area)(Another)


class NoSubclass(nn.Module):
    def losses(self, values):
        return {}


class Nothing(Area):
    pass


class WithInit(AreaByImage):
    def __init__(self):
        super().__init__()

    losses = AreaByImage.losses


@pytest.mark.parametrize(
    ("per_image", "methods", "complaint"),
    [
        (NoSubclass, ("losses",), "NoSubclass must be a subclass of .*Area"),
        (Area, ("losses",), "must be a subclass"),
        (Nothing, ("losses",), r"Nothing defines none of the methods \['losses'\]"),
        (AreaByImage, ("loses",), r"defines none of the methods \['loses'\]"),
        (AreaByImage, (), r"defines none of the methods \[\]"),
        (WithInit, ("losses",), "WithInit.__init__ would never run"),
    ],
)
def test_a_class_that_cannot_stand_in_for_the_head_is_refused(per_image, methods, complaint):
    with pytest.raises(ValueError, match=complaint):
        register_head(Area, methods=methods)(per_image)
    assert unhandled(Area()) == ["detector (Area)"]


def test_the_door_is_in_the_public_face():
    import adapruner_det

    assert adapruner_det.register_head is register_head
