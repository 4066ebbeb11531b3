"""The serial path against each image's own forward, on small modules and on Detectron2's."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from adapruner_det.detection.per_image.serial import (
    batch_norms,
    describe_cost,
    has_scalars,
    names_of_scalars,
    serial_losses,
)

from .tiny import close, random_batch, tiny_cfg, train_step


class Square(nn.Module):
    """loss_a = mean over images of (w·x)²; loss_b, their largest, only where an x exceeds 1."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def forward(self, batched_inputs):
        values = self.w * torch.tensor([x["x"] for x in batched_inputs])
        losses = {"loss_a": (values**2).mean()}
        if max(x["x"] for x in batched_inputs) > 1:
            losses["loss_b"] = values.max()[None]
        return losses


class Returns(nn.Module):
    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def forward(self, batched_inputs):
        return self.losses


def test_each_image_has_the_loss_of_a_batch_of_one_and_0_for_a_key_it_lacks():
    losses = serial_losses(Square(), [{"x": 1.0}, {"x": 3.0}, {"x": 0.5}])
    assert {name: value.tolist() for name, value in losses.items()} == {
        "loss_a": [4.0, 36.0, 1.0],
        "loss_b": [0.0, 6.0, 0.0],
    }


def test_gradients_flow_to_each_image_by_its_weight():
    detector = Square()
    losses = serial_losses(detector, [{"x": 1.0}, {"x": 3.0}])
    (losses["loss_a"] * torch.tensor([0.5, 0.25])).sum().backward()
    assert detector.w.grad.item() == 0.5 * 2 * 2.0 * 1 + 0.25 * 2 * 2.0 * 9


@pytest.mark.parametrize("name", ["retinanet_R_50_FPN_1x", "faster_rcnn_R_50_C4_1x"])
def test_a_detectron2_detector_gives_what_it_gives_for_each_image_alone(name):
    options = ("MODEL.RESNETS.NORM", "FrozenBN")
    detector = build_model(tiny_cfg(f"COCO-Detection/{name}.yaml", *options)).train()
    batch = random_batch()
    alone = copy.deepcopy(detector)
    torch.manual_seed(0)
    losses = serial_losses(detector, copy.deepcopy(batch))
    torch.manual_seed(0)
    expected = [alone([x]) for x in copy.deepcopy(batch)]
    for key, value in losses.items():
        close(value, torch.stack([e[key] for e in expected]), 1e-6)
    # A batch of one is Detectron2's own step: gradients too.
    wanted, wanted_gradients, _, _ = train_step(copy.deepcopy(alone), batch[:1])
    torch.manual_seed(0)
    losses = serial_losses(alone, copy.deepcopy(batch[:1]))
    sum(value.mean() for value in losses.values()).backward()
    for key, parameter in alone.named_parameters():
        close(parameter.grad, wanted_gradients[key], 1e-5)
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in wanted.items()}


@pytest.mark.parametrize(
    ("losses", "complaint"),
    [
        ({}, "no losses"),
        (None, "no losses but NoneType"),
        ([], "no losses but list"),
        ({"loss_a": torch.ones(3)}, r"loss 'loss_a' of one image has shape \(3,\)"),
        ({"loss_a": 1.0}, r"loss 'loss_a' of one image has 1.0"),
    ],
)
def test_losses_of_unknown_kind_are_named(losses, complaint):
    with pytest.raises(ValueError, match=complaint):
        serial_losses(Returns(losses), [{}, {}])


def test_scalars_among_losses_are_found_by_name():
    losses = {"a": torch.ones(2), "b": torch.tensor(1.0), "c": torch.ones(1), "d": torch.ones(())}
    assert has_scalars(losses)
    assert names_of_scalars(losses) == "b, d"
    assert not has_scalars({"a": torch.ones(1)})
    assert not has_scalars(None)


def norms():
    return nn.Sequential(
        nn.BatchNorm1d(3), FrozenBatchNorm2d(3), nn.Linear(3, 3), nn.SyncBatchNorm(3)
    )


def test_batch_norms_are_found_by_name_whatever_their_kind_frozen_ones_are_not():
    assert list(batch_norms(norms())) == ["0", "3"]
    assert batch_norms(Square()) == {}


def test_the_warning_names_cause_cost_cure_and_what_batch_norms_do():
    text = describe_cost(Square(), "its head is unknown")
    assert "Square runs on one image at a time, because its head is unknown." in text
    assert "batch size 1 for each image" in text
    assert "losses_per_image" in text
    assert "batch norm" not in text
    text = describe_cost(norms(), "its head is unknown")
    assert "2 batch norms (first 0) take mean and variance from one image" in text


def test_batch_norms_that_stand_still_are_no_matter_for_the_warning():
    still = norms()
    still[0].eval()
    assert "1 batch norms (first 3) take" in describe_cost(still, "of this test")
    assert "batch norm" not in describe_cost(norms().eval(), "of this test")
