import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from adapruner_det.detection.training.forward_state import (
    ForwardState,
    dense_detectors,
    loss_normalizers,
    set_loss_normalizers,
)
from tests.detection.per_image.tiny import random_batch, tiny_cfg, tiny_lazy_detector


def network():
    return nn.Sequential(
        nn.BatchNorm1d(3),
        nn.BatchNorm1d(3).eval(),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Dropout(),
    )


def test_what_a_forward_moved_is_put_back():
    model = network()
    state = ForwardState(model)
    model(torch.randn(8, 3))
    expected = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    images, before = torch.randn(8, 3), state.now()
    first = model(images)
    model(torch.full((8, 3), float("nan")))
    assert not torch.isfinite(model[0].running_mean).any()
    state.restore(before)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in expected.items())
    assert torch.equal(model(images), first)  # the same dropout
    assert not torch.equal(model(images), first)


def test_synchronised_norms_count_in_training_mode_and_none_is_no_matter():
    assert not ForwardState(network()).synchronised()
    assert ForwardState(nn.SyncBatchNorm(3)).synchronised()
    assert ForwardState(nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3))).synchronised()
    assert not ForwardState(nn.Sequential(nn.SyncBatchNorm(3).eval())).synchronised()
    nothing = ForwardState(nn.Linear(2, 2))
    nothing.restore(nothing.now())


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml")),
        lambda: tiny_lazy_detector("COCO-Detection/fcos_R_50_FPN_1x.py"),
    ],
    ids=["RetinaNet", "FCOS"],
)
def test_the_moving_average_that_losses_are_divided_by_is_put_back(build):
    model, batch = build(), random_batch((3, 1, 2))
    state, dense = ForwardState(model), dense_detectors(model)
    nothing = state.now()
    with EventStorage():
        model(batch)
        moved, once = loss_normalizers(dense), state.now()
        model(batch)
    assert moved[""] != loss_normalizers(dense)[""]
    state.restore(once)
    assert loss_normalizers(dense) == moved
    state.restore(nothing)
    assert loss_normalizers(dense) == {}
    set_loss_normalizers(dense, moved)
    assert loss_normalizers(dense) == moved
