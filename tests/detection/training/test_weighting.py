import copy

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torchvision.ops import batched_nms

from adapruner_det import AdaPruner
from adapruner_det.core import Schedule
from adapruner_det.detection.per_image import take_apart
from adapruner_det.detection.training.weighting import LossWeighting
from tests.detection.toy import DETECTORS, toy_cfg

N = 20
NAN = float("nan")


def detector(kind, *options):
    torch.manual_seed(0)
    return build_model(toy_cfg(kind, "unused", *options)).train()


def all_ones():
    """A mask that stands still and lets every loss count fully."""
    return AdaPruner(N, 0.9, Schedule(10**6, 1))


def wrap(model, pruner=None):
    wrapped = LossWeighting(model)
    wrapped.guide = pruner or all_ones()
    return wrapped.train()


def decided_pruner(seed=0):
    """A mask in its pruning phase whose logits lie on both sides of 0."""
    pruner = AdaPruner(N, 0.9, Schedule(0, 2, alpha_start=3.0))
    pruner.mask.column("logit")[:] = torch.randn(N, generator=generator(seed)).numpy()
    return pruner


def generator(seed):
    return torch.Generator().manual_seed(seed)


def batch(seed=0, counts=(3, 0, 1, 2)):
    """Images of unlike sizes, the second without an object."""
    g = generator(seed)
    sizes = [(48, 64), (64, 48), (48, 48), (64, 64)]
    found = []
    for i, (count, (height, width)) in enumerate(zip(counts, sizes, strict=False)):
        span = torch.tensor([width, height, width, height])
        corners = torch.rand(count, 4, generator=g) * torch.tensor([0.5, 0.5, 0.4, 0.4])
        corners = corners * span
        corners[:, 2:] += corners[:, :2] + 8
        truth = Instances((height, width), gt_boxes=Boxes(corners))
        truth.gt_classes = torch.randint(0, 2, (count,), generator=g)
        found.append(
            {
                "image": torch.randint(0, 256, (3, height, width), generator=g, dtype=torch.uint8),
                "height": height,
                "width": width,
                "instances": truth,
                "sample_index": (7 * (i + 1) + seed) % N,
            }
        )
    return found


def step(model, inputs, seed=0):
    """Losses and gradients of one step from a given random state."""
    model.zero_grad()
    torch.manual_seed(seed)
    with EventStorage(0):
        losses = model(copy.deepcopy(inputs))
    sum(losses.values()).backward()
    inner = getattr(model, "detector", model)
    return losses, {n: p.grad for n, p in inner.named_parameters() if p.grad is not None}


def assert_same(mine, theirs, relative):
    """Relative to a tensor's largest entry; a tensor that is zero but for rounding, such as the
    gradient of a bias ahead of a norm, is held to the largest of all tensors."""
    assert mine.keys() == theirs.keys()
    largest = max(float(value.detach().abs().max()) for value in theirs.values())
    for name, expected in theirs.items():
        worst = float((mine[name] - expected).detach().abs().max())
        scale = max(float(expected.detach().abs().max()), 1e-4 * largest)
        assert worst <= relative * scale, f"{name}: off by {worst:.2e} of {scale:.2e}"


@pytest.mark.parametrize("kind", DETECTORS)
def test_an_all_ones_mask_changes_neither_losses_nor_gradients(kind):
    losses, gradients = step(wrap(detector(kind)), batch())
    plain_losses, plain_gradients = step(detector(kind), batch())
    assert_same(losses, plain_losses, 1e-6)
    assert_same(gradients, plain_gradients, 1e-5)
    assert len(gradients) > 10


@pytest.mark.parametrize("kind", DETECTORS)
def test_an_all_ones_mask_changes_nothing_over_20_steps(kind):
    def losses_of(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
        found = []
        for i in range(20):
            losses, _ = step(model, batch(seed=i), seed=i)
            optimizer.step()
            found.append({f"{name} at {i}": value.item() for name, value in losses.items()})
        return found

    wrapped, plain = losses_of(wrap(detector(kind))), losses_of(detector(kind))
    for mine, theirs in zip(wrapped, plain, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    assert plain[0] != pytest.approx(dict(zip(plain[0], plain[-1].values(), strict=True)), rel=0.01)


@pytest.mark.parametrize("kind", DETECTORS)
def test_in_float64_the_identity_holds_to_1e_9(kind, monkeypatch):
    # NMS only chooses proposals; torchvision's takes no mixed types.
    monkeypatch.setattr(
        "detectron2.modeling.proposal_generator.proposal_utils.batched_nms",
        lambda boxes, scores, *rest: batched_nms(boxes.float(), scores.float(), *rest),
    )
    losses, gradients = step(wrap(detector(kind).double()), batch())
    plain_losses, plain_gradients = step(detector(kind).double(), batch())
    for name, expected in plain_losses.items():
        assert losses[name].dtype == expected.dtype
        # Detectron2 computes this one in float32 whatever the model is.
        relative = 1e-6 if name == "loss_rpn_cls" else 1e-9
        assert_same({name: losses[name]}, {name: expected}, relative)
    assert_same(gradients, plain_gradients, 1e-9)


@pytest.mark.parametrize("kind", ["yolo_darknet", "faster_rcnn_c4"])
def test_a_step_has_the_gradient_of_the_weighted_sum_of_the_images_losses(kind):
    inputs, pruner = batch(), decided_pruner()
    ids = [x["sample_index"] for x in inputs]
    logits = torch.from_numpy(pruner.mask.column("logit").copy())[ids]
    weights = torch.sigmoid(3.0 * logits)
    assert weights.min() < 0.3 < 0.7 < weights.max()
    losses, gradients = step(wrap(detector(kind), pruner), inputs)

    apart = detector(kind)
    take_apart(apart)
    compute = getattr(apart, "losses_per_image", apart)
    torch.manual_seed(0)
    with EventStorage(0):
        per_image = compute(copy.deepcopy(inputs))
    expected = {
        k: sum(w * v for w, v in zip(weights, value, strict=True)) / 4
        for k, value in per_image.items()
    }
    sum(expected.values()).backward()
    assert_same(losses, expected, 1e-6)
    by_hand = {n: p.grad for n, p in apart.named_parameters() if p.grad is not None}
    assert_same(gradients, by_hand, 1e-5)


def test_the_step_moves_no_mask_and_leaves_no_gradient_on_it():
    model = wrap(detector("yolo_darknet"), decided_pruner())
    before = model.guide.state_dict()["mask"]["columns"]
    step(model, batch())
    after = model.guide.state_dict()["mask"]["columns"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not model.guide.weights(torch.arange(N)).requires_grad
    assert all(p is q for p, q in zip(model.parameters(), model.detector.parameters(), strict=True))


def test_the_hook_gets_each_images_loss_before_weighting():
    inputs = batch()
    model = wrap(detector("yolo_darknet"), decided_pruner())
    step(model, inputs)
    plain = detector("yolo_darknet")
    torch.manual_seed(0)
    total = sum(plain.losses_per_image(copy.deepcopy(inputs)).values())
    assert model.observed.ids.tolist() == [x["sample_index"] for x in inputs]
    assert not model.observed.losses.requires_grad
    torch.testing.assert_close(model.observed.losses, total.detach())


@pytest.mark.parametrize("kind", DETECTORS)
def test_the_state_dict_is_the_detectors_own_both_ways(kind):
    plain, wrapped = detector(kind), wrap(detector(kind))
    nn.init.constant_(next(wrapped.parameters()), 0.25)
    state = wrapped.state_dict()
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    other = wrap(detector(kind))
    other.load_state_dict(plain.state_dict(), strict=True)
    assert (next(other.parameters()) == 0.25).all()


@pytest.mark.parametrize("kind", ["yolo_darknet", "faster_rcnn_fpn"])
def test_in_evaluation_it_is_the_detector(kind):
    options = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    inputs = [{k: x[k] for k in ("image", "height", "width")} for x in batch()]
    with torch.no_grad():
        mine = wrap(detector(kind, *options)).eval()(copy.deepcopy(inputs))
        theirs = detector(kind, *options).eval()(copy.deepcopy(inputs))
    assert sum(len(x["instances"]) for x in theirs) > 0
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)
        assert torch.equal(a["instances"].scores, b["instances"].scores)


class OneWeight(nn.Module):
    """l_i = (weight · mean of image i)², a NaN image giving a NaN loss."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=dtype))

    def losses_per_image(self, batched_inputs):
        values = torch.stack([x["image"].to(self.weight).mean() for x in batched_inputs])
        return {"a": (self.weight * values) ** 2, "b": self.weight * values.abs()}


def pixels(*values):
    return [{"image": torch.full((1, 2, 2), v), "sample_index": i} for i, v in enumerate(values)]


def test_half_precision_losses_are_raised_to_float32_before_they_are_weighted():
    # 240² is a half, the sum of two of them is not.
    model = wrap(OneWeight(torch.float16))
    losses = model(pixels(240.0, 240.0))
    assert losses["a"].dtype == torch.float32
    assert losses["a"].item() == pytest.approx(240**2)
    assert torch.isfinite(model.observed.losses).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_whose_loss_is_not_finite_is_left_out_of_the_step(bad):
    model = wrap(OneWeight())
    losses = model(pixels(1.0, bad, 2.0))
    sum(losses.values()).backward()
    assert {name: value.item() for name, value in losses.items()} == {"a": 2.5, "b": 1.5}
    assert model.detector.weight.grad.item() == 2 * 2.5 + 1.5
    assert torch.isfinite(model.observed.losses).tolist() == [True, False, True]


def test_a_batch_without_any_finite_loss_moves_no_weight():
    model = wrap(OneWeight())
    losses = model(pixels(float("nan"), float("inf")))
    sum(losses.values()).backward()
    assert {name: value.item() for name, value in losses.items()} == {"a": 0.0, "b": 0.0}
    assert model.detector.weight.grad.item() == 0.0


def test_weights_that_are_not_finite_stay_for_detectron2_to_report():
    model = wrap(OneWeight())
    nn.init.constant_(model.detector.weight, float("nan"))
    losses = model(pixels(1.0, 2.0))
    assert not torch.isfinite(sum(losses.values()))


def test_training_without_a_guide_says_who_sets_it():
    with pytest.raises(RuntimeError, match="PruningTrainer"):
        LossWeighting(OneWeight()).train()(pixels(1.0))


def test_the_observation_has_the_loss_of_each_key_before_weighting():
    model = wrap(OneWeight(), decided_pruner())
    model(pixels(1.0, -3.0))
    signals = model.observed.signals
    assert {k: v.tolist() for k, v in signals.items()} == {"a": [1.0, 9.0], "b": [1.0, 3.0]}
    assert not any(value.requires_grad for value in signals.values())
    assert model.observed.losses.tolist() == [2.0, 12.0]


def test_the_keys_of_a_detector_of_detectron2_are_observed_and_sum_to_the_loss():
    inputs = batch()
    model = wrap(detector("faster_rcnn_c4"), decided_pruner())
    losses, _ = step(model, inputs)
    assert model.observed.signals.keys() == losses.keys()
    torch.testing.assert_close(sum(model.observed.signals.values()), model.observed.losses)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1.0, NAN, 2.0), [1.0, NAN, 4.0]), ((NAN, float("inf")), [NAN, NAN])],
)
def test_a_bad_image_is_nan_in_each_key(values, expected):
    model = wrap(OneWeight())
    model(pixels(*values))
    assert model.observed.signals["a"].tolist() == pytest.approx(expected, nan_ok=True)
    assert torch.isnan(model.observed.signals["b"]).tolist() == [v != v for v in expected]


def test_a_loss_of_the_wrong_shape_is_named():
    class Mean(OneWeight):
        def losses_per_image(self, batched_inputs):
            return {"a": self.weight * 1.0}

    with pytest.raises(ValueError, match="loss 'a'"):
        wrap(Mean())(pixels(1.0, 2.0))


class Curious(AdaPruner):
    """A mask of ones that asks for what is seen of boxes."""

    signals = frozenset({"confidence", "fault", "box_iou", "box_confidence"})


def test_boxes_are_looked_at_only_where_the_guide_asks():
    inputs, model = batch(), detector("yolo_darknet")
    wrapped = wrap(model)
    step(wrapped, inputs)
    assert wrapped.observed.evidence is None and wrapped.observed.boxes(np.zeros(4), 3) == {}
    plain = wrap(detector("yolo_darknet"), Curious(N, 0.9, Schedule(10**6, 1)))
    step(plain, inputs)
    found = plain.observed.boxes(np.array([3, 0, 1, 2]), 3)
    assert {name: tuple(v.shape) for name, v in found.items()} == {
        "confidence": (4,),
        "fault": (4,),
        "box_iou": (4, 3),
        "box_confidence": (4, 3),
    }
    assert torch.isfinite(found["box_iou"]).sum(1).tolist() == [3, 0, 1, 2]
    assert torch.isfinite(found["fault"]).all()


def test_which_boxes_are_left_is_not_known_where_some_are_cropped_away():
    wrapped = wrap(detector("yolo_darknet"), Curious(N, 0.9, Schedule(10**6, 1)))
    step(wrapped, batch())
    found = wrapped.observed.boxes(np.array([3, 0, 2, 2]), 3)
    assert torch.isfinite(found["box_iou"]).sum(1).tolist() == [3, 0, 0, 2]
    assert torch.isfinite(found["box_confidence"]).sum(1).tolist() == [3, 0, 0, 2]
    assert torch.isfinite(found["confidence"]).all()


def test_of_a_bad_image_nothing_is_known():
    inputs = batch()
    inputs[2]["image"] = torch.full((3, 48, 48), float("nan"))
    wrapped = wrap(detector("yolo_darknet").eval(), Curious(N, 0.9, Schedule(10**6, 1)))
    for module in wrapped.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    step(wrapped, inputs)
    assert wrapped.observed.good == [0, 1, 3]
    found = wrapped.observed.boxes(np.array([3, 0, 1, 2]), 3)
    for name in ("confidence", "fault"):
        assert torch.isnan(found[name]).tolist() == [False, False, True, False]
    assert torch.isfinite(found["box_iou"]).sum(1).tolist() == [3, 0, 0, 2]
