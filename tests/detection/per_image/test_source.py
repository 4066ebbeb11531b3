"""Each way to the losses by image is taken where it is the first that fits."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from adapruner_det.detection.per_image import APART, OFFERED, SERIAL, LossSource

from .tiny import random_batch, tiny_cfg


class Plain(nn.Module):
    """loss = mean of w·x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def forward(self, batched_inputs):
        return {"loss": (self.w * torch.tensor([x["x"] for x in batched_inputs])).mean()}


class Offering(Plain):
    def losses_per_image(self, batched_inputs):
        return {"loss": self.w * torch.tensor([x["x"] for x in batched_inputs])}


class WithOwnLoss(nn.Module):
    """A known detector inside a forward that adds a loss of the whole batch."""

    def __init__(self):
        super().__init__()
        self.inner = build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))

    def forward(self, batched_inputs):
        return {**self.inner(batched_inputs), "loss_own": self.inner.head.cls_score.weight.norm()}


def never():
    raise AssertionError("nothing was to be taken back")


def retinanet():
    return build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).train()


@pytest.mark.parametrize(
    ("build", "way", "warned"),
    [
        (Offering, OFFERED, None),
        (retinanet, APART, None),
        (Plain, SERIAL, "Plain runs on one image at a time, because it has none of"),
        (nn.Sequential, SERIAL, "none of Detectron2's heads"),
    ],
)
def test_the_way_is_the_first_that_fits(build, way, warned, caplog):
    detector = build()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert LossSource(detector).way == way
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == (warned is not None)
    assert warned is None or warned in messages[0]


@pytest.mark.parametrize("cls", [Offering, Plain])
def test_losses_are_those_of_each_image_and_carry_gradients(cls):
    detector = cls()
    losses = LossSource(detector).losses([{"x": 1.0}, {"x": 3.0}], never)
    assert losses["loss"].tolist() == [2.0, 6.0]
    losses["loss"][1].backward()
    assert detector.w.grad.item() == 3.0


def test_a_method_of_ones_own_comes_before_heads_that_are_known():
    detector = retinanet()
    detector.losses_per_image = lambda batched_inputs: {"loss": torch.ones(len(batched_inputs))}
    source = LossSource(detector)
    assert source.way == OFFERED
    assert source.losses(random_batch(), never)["loss"].tolist() == [1.0] * 3


def test_a_scalar_that_shows_in_the_first_step_has_it_taken_back_and_done_serially(caplog):
    detector, taken_back = WithOwnLoss().train(), []
    classes = [type(m) for m in detector.modules()]
    caplog.clear()
    source = LossSource(detector)
    assert source.way == APART
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            losses = source.losses(random_batch(), lambda: taken_back.append(source.way))
    assert {name: len(value) for name, value in losses.items()} == {
        "loss_cls": 3,
        "loss_box_reg": 3,
        "loss_own": 3,
    }
    assert taken_back == [SERIAL]
    assert [type(m) for m in detector.modules()] == classes
    (message,) = [r.getMessage() for r in caplog.records]
    assert "because loss_own is one value for the whole batch" in message


@pytest.mark.parametrize(
    ("given", "raised"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_losses_have_at_least_single_precision(given, raised):
    detector = Offering().to(given)
    detector.losses_per_image = lambda inputs: {"loss": detector.w.expand(len(inputs))}
    assert LossSource(detector).losses([{}, {}], never)["loss"].dtype == raised


def test_what_is_not_one_value_per_image_is_refused_by_name():
    detector = Offering()
    detector.losses_per_image = lambda inputs: {"loss": detector.w}
    with pytest.raises(ValueError, match="loss 'loss'"):
        LossSource(detector).losses([{}, {}], never)
