"""Detectors that Detectron2 does not have: alone, with losses_per_image, and with a bad image."""

import copy
import logging
import math

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from torch import nn

from adapruner_det.detection.per_image import SERIAL
from adapruner_det.detection.training.trainer import PruningTrainer
from adapruner_det.detection.training.weighting import LossWeighting
from tests.detection.toy import DETECTORS, toy_cfg
from tests.detection.training.test_weighting import (
    assert_same,
    batch,
    decided_pruner,
    detector,
    step,
    wrap,
)

NAN = float("nan")


class CentreNet(nn.Module):
    """A user's own detector: from image features, centre and class of the first object.

    Its losses are those of the whole batch.
    """

    def __init__(self, norm=nn.Identity):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=4, padding=1), norm(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(16, 4)
        self.register_buffer("scale", torch.tensor(255.0))

    def forward(self, batched_inputs):
        if not self.training:
            return [{"centre": v} for v in self.predict(batched_inputs)]
        return {name: value.mean() for name, value in self.terms(batched_inputs).items()}

    def predict(self, batched_inputs):
        images = torch.zeros(len(batched_inputs), 3, 64, 64)
        for image, x in zip(images, batched_inputs, strict=True):
            image[:, : x["image"].shape[1], : x["image"].shape[2]] = x["image"] / self.scale
        return self.head(self.stem(images).flatten(1))

    def terms(self, batched_inputs):
        out = self.predict(batched_inputs)
        truth = [x["instances"] for x in batched_inputs]
        centre = torch.stack([_first_centre(t) for t in truth])
        label = torch.stack([t.gt_classes[0] if len(t) else torch.tensor(0) for t in truth])
        return {
            "loss_centre": (out[:, :2] - centre / 64).abs().sum(dim=1),
            "loss_class": nn.functional.cross_entropy(out[:, 2:], label, reduction="none"),
        }


def _first_centre(instances):
    return instances.gt_boxes.get_centers()[0] if len(instances) else torch.full((2,), 32.0)


class OfferingCentreNet(CentreNet):
    def losses_per_image(self, batched_inputs):
        return self.terms(batched_inputs)


@META_ARCH_REGISTRY.register()
class RegisteredCentreNet(CentreNet):
    def __init__(self, cfg):
        super().__init__()


class DistilledRCNN(GeneralizedRCNN):
    """A third party's forward that adds a loss of its own to Detectron2's."""

    def forward(self, batched_inputs):
        losses = super().forward(batched_inputs)
        if self.training:
            losses["loss_size"] = next(self.parameters()).square().mean()
        return losses


def centre_net(cls=CentreNet, norm=nn.Identity):
    torch.manual_seed(0)
    return cls(norm).train()


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_an_unknown_detector_trains_image_by_image_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        model = wrap(centre_net())
        for i in range(3):
            step(model, batch(seed=i))
    (warning,) = warnings_of(caplog)
    assert "CentreNet runs on one image at a time" in warning
    assert "batch norm" not in warning


@pytest.mark.parametrize("cls", [CentreNet, OfferingCentreNet])
def test_an_all_ones_mask_changes_nothing_where_losses_are_means_over_images(cls, caplog):
    inputs = batch()
    with caplog.at_level(logging.WARNING):
        losses, gradients = step(wrap(centre_net(cls)), inputs)
    plain_losses, plain_gradients = step(centre_net(cls), inputs)
    assert_same(losses, plain_losses, 1e-6)
    assert_same(gradients, plain_gradients, 1e-5)
    assert len(warnings_of(caplog)) == (cls is CentreNet)


@pytest.mark.parametrize("cls", [CentreNet, OfferingCentreNet])
def test_a_decided_mask_weights_each_images_own_loss(cls):
    inputs, pruner = batch(), decided_pruner()
    weights = pruner.weights(torch.tensor([x["sample_index"] for x in inputs]))
    model = wrap(centre_net(cls), pruner)
    losses, gradients = step(model, inputs)
    by_hand = centre_net()
    terms = by_hand.terms(inputs)
    expected = {name: (weights * value).mean() for name, value in terms.items()}
    sum(expected.values()).backward()
    assert_same(losses, expected, 1e-6)
    assert_same(gradients, {n: p.grad for n, p in by_hand.named_parameters()}, 1e-5)
    torch.testing.assert_close(model.observed.losses, sum(terms.values()).detach())


def test_batch_norms_of_an_unknown_detector_are_spoken_of(caplog):
    with caplog.at_level(logging.WARNING):
        wrap(centre_net(norm=nn.BatchNorm2d))
    (warning,) = warnings_of(caplog)
    assert "1 batch norms (first stem.1)" in warning


def as_distilled(kind="faster_rcnn_c4"):
    model = detector(kind)
    model.__class__ = DistilledRCNN
    return model


def test_a_loss_found_in_the_first_step_leads_to_the_serial_path_without_a_trace(caplog):
    inputs = batch()
    model = wrap(as_distilled())
    classes = [type(m) for m in as_distilled().modules()]
    with caplog.at_level(logging.WARNING):
        losses, gradients = step(model, inputs)
        step(model, inputs)
    (warning,) = warnings_of(caplog)
    assert "loss_size is one value for the whole batch" in warning
    assert [type(m) for m in model.detector.modules()] == classes

    # As if it had been serial from the beginning: losses, gradients and running averages.
    apart = wrap(as_distilled())
    apart.source.go_serial("of this test")
    expected, expected_gradients = step(apart, inputs)
    assert_same(losses, expected, 1e-6)
    assert_same(gradients, expected_gradients, 1e-5)
    step(apart, inputs)
    found = dict(model.detector.named_buffers())
    for name, value in apart.detector.named_buffers():
        if "num_batches" not in name:
            torch.testing.assert_close(found[name], value)
    assert losses.keys() == step(as_distilled(), inputs)[0].keys()


def test_an_unknown_head_leads_to_the_serial_path_by_name(caplog):
    class Head(nn.Module):
        def losses(self):
            return {}

    model = centre_net()
    model.extra = Head()
    with caplog.at_level(logging.WARNING):
        assert LossWeighting(model).source.way == SERIAL
    assert "losses of extra (Head) are those of the whole batch" in warnings_of(caplog)[0]


def test_detectors_that_are_known_are_never_run_serially(caplog):
    with caplog.at_level(logging.WARNING):
        for kind in DETECTORS:
            assert wrap(detector(kind)).source.way != SERIAL
    assert not warnings_of(caplog)


def test_a_registered_detector_prunes_by_configuration(toy, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    cfg.MODEL.META_ARCHITECTURE = "RegisteredCentreNet"
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.selection.num_kept == 7


@pytest.mark.parametrize(
    ("losses", "complaint"),
    [
        ({}, "returned no losses"),
        (None, "returned no losses but NoneType"),
        ({"loss_x": torch.ones(4, 2)}, r"loss 'loss_x'.* shape \(4, 2\)"),
        ({"loss_x": torch.ones(7)}, r"loss 'loss_x'.* shape \(7,\)"),
    ],
)
@pytest.mark.parametrize("offers", [True, False])
def test_no_losses_and_losses_of_unknown_shape_are_said_to_be_so(losses, complaint, offers):
    model = centre_net(OfferingCentreNet if offers else CentreNet)
    setattr(model, "losses_per_image" if offers else "terms", lambda _: losses)
    if not offers:
        model.forward = lambda _: losses
    with pytest.raises(ValueError, match=complaint):
        wrap(model)(batch())


# One bad image --------------------------------------------------------------------------------


def spoiled(inputs, place, value=NAN):
    """The batch with an image whose pixels are ``value``."""
    inputs = copy.deepcopy(inputs)
    inputs[place]["image"] = torch.full_like(inputs[place]["image"], 1, dtype=torch.float32) * value
    return inputs


FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN")
BAD = {
    "offered losses, batch norm": lambda: detector("yolo_darknet"),
    "apart, batch norm": lambda: detector("faster_rcnn_fpn"),
    "apart, frozen": lambda: detector("faster_rcnn_c4", *FROZEN),
    "serial": centre_net,
    "serial, batch norm": lambda: centre_net(norm=nn.BatchNorm2d),
    "offered losses": lambda: centre_net(OfferingCentreNet),
}


@pytest.mark.parametrize("build", BAD.values(), ids=BAD)
def test_the_step_with_a_nan_image_is_the_step_without_it(build):
    inputs, place = batch(), 2
    ids = [x["sample_index"] for x in inputs]
    pruner = decided_pruner()
    model, without = wrap(build(), pruner), wrap(build(), pruner)
    torch.manual_seed(0)
    rest = [x for i, x in enumerate(inputs) if i != place]
    losses, gradients = step(model, spoiled(inputs, place))
    expected, expected_gradients = step(without, rest)

    assert model.observed.ids.tolist() == ids
    finite = torch.isfinite(model.observed.losses).tolist()
    assert finite == [True, True, False, True]
    assert losses.keys() == expected.keys()
    assert all(math.isfinite(value.detach()) for value in losses.values())
    assert gradients.keys() == expected_gradients.keys()
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert_same(losses, expected, 1e-6)
    assert_same(gradients, expected_gradients, 1e-5)
    for name, value in without.detector.named_buffers():
        found = dict(model.detector.named_buffers())[name]
        assert torch.isfinite(found).all(), name
        if "num_batches" not in name:
            torch.testing.assert_close(found, value, msg=name)


def test_losses_that_are_infinite_without_a_bad_pixel_are_left_out_too():
    inputs = batch()
    model = wrap(centre_net(OfferingCentreNet))
    own = model.detector.losses_per_image

    def overflowing(batched_inputs):
        bad = [float("inf") if x is second else 1.0 for x in batched_inputs]
        return {k: v * torch.tensor(bad) for k, v in own(batched_inputs).items()}

    model.detector.losses_per_image = overflowing
    second = inputs[1]
    sum(model(inputs).values()).backward()
    mine = {n: p.grad for n, p in model.detector.named_parameters()}
    _, expected = step(wrap(centre_net(OfferingCentreNet)), [inputs[0], *inputs[2:]])
    assert_same(mine, expected, 1e-6)


def test_detectron2s_own_error_stays_where_no_image_is_good():
    model = wrap(detector("faster_rcnn_c4", *FROZEN))
    inputs = batch()
    for place in range(4):
        inputs = spoiled(inputs, place)
    with pytest.raises(FloatingPointError, match="diverged"):
        step(model, inputs)


def test_where_processes_share_batch_norms_the_whole_batch_is_left_out(monkeypatch):
    model = wrap(centre_net(OfferingCentreNet, norm=nn.SyncBatchNorm))
    calls = []

    def losses_per_image(batched_inputs):
        calls.append(len(batched_inputs))
        return {"loss_a": torch.tensor([1.0, NAN, 1.0, 1.0])}

    model.detector.losses_per_image = losses_per_image
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    losses = model(batch())
    assert calls == [4]
    assert losses["loss_a"].item() == 0.0
    assert torch.isfinite(model.observed.losses).tolist() == [True, False, True, True]
