"""Evidence of annotated boxes, against a direct computation by loops."""

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.detection.evidence import (
    BESIDE,
    LITTLE,
    MATCH,
    TOUCH,
    Predictions,
    best_of_dense,
    box_evidence,
    evidence_of,
    show,
    watching,
)
from adapruner_det.detection.per_image import LossSource, take_apart

from .per_image.tiny import random_batch, tiny_cfg
from .toy import DETECTORS
from .training.test_weighting import batch, detector


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return inter / (area - inter) if area > inter else 0.0


def by_loops(pred, scores, boxes, classes):
    """Of one image: what is overlooked, and (quality, iou, p, confirmed, against) of each box."""
    over = [[iou(p, b) for b in boxes] for p in pred]
    claimed = [max(own, default=0.0) for own in over]
    overlooked = max(
        (max(s) for s, c in zip(scores, claimed, strict=True) if c < TOUCH), default=0.0
    )
    found = []
    for place, own in enumerate(classes):
        mine = [(row[place], s, c) for row, s, c in zip(over, scores, claimed, strict=True)]
        best = ((u * s[own], -i, u, s[own]) for i, (u, s, _) in enumerate(mine))
        quality, _, at, p = max(best, default=(0.0, 0, 0.0, 0.0))
        near = [(u, s, c) for u, s, c in mine if u >= MATCH]
        confirmed = max((s[own] for _, s, _ in near), default=0.0)
        others = (s[:own] + s[own + 1 :] for u, s, c in near if u >= c)
        swapped = max((max(x, default=0.0) for x in others), default=0.0)
        moved = max((s[own] for u, s, c in mine if TOUCH <= u < BESIDE and c < MATCH), default=0.0)
        against = max((x + LITTLE) / (x + confirmed + 2 * LITTLE) for x in (swapped, moved))
        found.append((quality, at, p, confirmed, against))
    return overlooked, found


def made_up(seed, counts, num_pred=7, num_classes=3):
    """Predictions (B, M, ...) and boxes by image, many of them overlapping."""
    rng = np.random.default_rng(seed)

    def some(n):
        low = rng.uniform(0, 30, (n, 2))
        return np.concatenate([low, low + rng.uniform(5, 30, (n, 2))], 1).astype(np.float32)

    pred = np.stack([some(num_pred) for _ in counts])
    scores = rng.uniform(0, 1, (len(counts), num_pred, num_classes)).astype(np.float32)
    boxes, classes = [some(n) for n in counts], [rng.integers(0, num_classes, n) for n in counts]
    for own, found in zip(boxes, pred, strict=True):  # some boxes are predicted closely
        for i in range(min(len(own), 2, num_pred)):
            found[i] = own[i] + rng.uniform(-2, 2, 4)
    return pred, scores, boxes, classes


def evidence(pred, scores, boxes, classes, crowds=None):
    crowds = np.zeros(len(boxes), bool) if crowds is None else np.array(crowds)
    image = np.repeat(np.arange(len(boxes)), [len(own) for own in boxes])
    return box_evidence(
        torch.from_numpy(pred),
        torch.from_numpy(scores),
        torch.from_numpy(np.concatenate(boxes)),
        torch.from_numpy(np.concatenate(classes)).long(),
        torch.from_numpy(image),
        torch.from_numpy(crowds),
    )


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=3),
    st.integers(0, 7),
    st.integers(1, 4),
)
def test_it_is_what_loops_find(seed, images, num_pred, num_classes):
    counts, crowds = zip(*images, strict=True)
    pred, scores, boxes, classes = made_up(seed, counts, num_pred, num_classes)
    found = evidence(pred, scores, boxes, classes, crowds)
    signals, of_boxes = found.signals(), found.of_boxes(4)
    by_hand = [
        by_loops(p, s.tolist(), b, c.tolist())
        for p, s, b, c in zip(pred, scores, boxes, classes, strict=True)
    ]
    confirmed = [row[3] for _, rows in by_hand for row in rows]
    said = {i: by_hand[i][0] for i, crowd in enumerate(crowds) if not crowd}
    for i, (overlooked, rows) in enumerate(by_hand):
        overlooked = 0.0 if crowds[i] else overlooked
        others = np.mean([own for j, own in said.items() if j != i] or [0.0])
        usual = np.mean(confirmed) / 4 if confirmed else 1.0
        usual = max(usual, 7 / 8 * others + overlooked / 8)
        confidence = np.mean([row[0] for row in rows]) if rows else 1 - overlooked
        fault = max([overlooked / (overlooked + usual + LITTLE), *(row[4] for row in rows)])
        assert float(signals["confidence"][i]) == pytest.approx(confidence, abs=1e-5)
        assert float(signals["fault"][i]) == pytest.approx(fault, abs=1e-5)
        own = torch.stack([of_boxes[name][i] for name in ("box_iou", "box_confidence")], 1)
        assert own[: counts[i]].tolist() == [pytest.approx(row[1:3]) for row in rows]
        assert torch.isnan(own[counts[i] :]).all()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_neither_scale_nor_empty_places_matter_nor_mates_to_the_confidence(seed, scale):
    pred, scores, boxes, classes = made_up(seed, [3, 2])
    found = evidence(pred, scores, boxes, classes).signals()
    places = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 3), np.float32)
    other = evidence(
        np.concatenate([pred, places[0]], 1) * np.float32(scale),
        np.concatenate([scores, places[1]], 1),
        [own * np.float32(scale) for own in boxes],
        classes,
    ).signals()
    alone = evidence(pred[1:], scores[1:], boxes[1:], classes[1:]).signals()
    for name, values in found.items():
        assert torch.allclose(values, other[name], atol=1e-4)
        assert 0 <= values.min() and values.max() <= 1
    assert torch.allclose(found["confidence"][1:], alone["confidence"], atol=1e-6)


BOX, AWAY = [10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 60.0]
HALF_OFF = [19.0, 19.0, 39.0, 39.0]  # IoU 0.18 with BOX


@pytest.mark.parametrize(
    ("pred", "scores", "low", "high"),
    [
        pytest.param([BOX], [[0.9, 0.0]], 0.0, 0.05, id="agreed"),
        pytest.param([BOX], [[0.0, 0.9]], 0.95, 1.0, id="swapped"),
        pytest.param([HALF_OFF], [[0.9, 0.0]], 0.95, 1.0, id="moved"),
        pytest.param([BOX], [[0.0, 0.0]], 0.5, 0.5, id="unseen"),
        pytest.param([BOX], [[0.02, 0.2]], 0.75, 1.0, id="swapped early in a training"),
        pytest.param([HALF_OFF, BOX], [[0.9, 0.0], [0.9, 0.0]], 0.45, 0.5, id="also confirmed"),
    ],
)
def test_each_kind_of_fault_shows(pred, scores, low, high):
    found = evidence(
        np.array([pred], np.float32),
        np.array([scores], np.float32),
        [np.array([BOX], np.float32)],
        [np.array([0])],
    )
    assert low <= float(found.signals()["fault"][0]) <= high


@pytest.mark.parametrize("mates", [0, 1, 3, 7, 15])
def test_a_missing_box_shows_as_well_in_a_small_batch(mates):
    scores = np.zeros((1 + mates, 2, 2), np.float32)
    scores[:, 0, 0], scores[0, 1, 1] = 0.9, 0.8
    found = evidence(
        np.tile(np.float32([BOX, AWAY]), (1 + mates, 1, 1)),
        scores,
        [np.array([BOX], np.float32)] * (1 + mates),
        [np.array([0])] * (1 + mates),
    )
    assert float(found.signals()["fault"][0]) == pytest.approx(0.8 / (0.8 + 0.9 / 4 + LITTLE))


def test_an_object_that_one_image_lacks_shows_and_one_that_all_lack_does_not():
    for lacking, low, high in (([0.8], 0.7, 1.0), ([0.8] * 4, 0.45, 0.55)):
        scores = np.zeros((4, 2, 2), np.float32)
        scores[:, 0, 0] = 0.9
        scores[: len(lacking), 1, 1] = lacking
        found = evidence(
            np.tile(np.float32([BOX, AWAY]), (4, 1, 1)),
            scores,
            [np.array([BOX], np.float32)] * 4,
            [np.array([0])] * 4,
        )
        fault = found.signals()["fault"]
        assert low <= float(fault[0]) <= high
        assert float(fault[3]) < 0.6


def test_what_is_seen_in_an_image_with_crowds_is_not_overlooked_and_does_not_count_for_others():
    """A right detection in a crowd touches no annotation, for the mapper leaves crowds out."""
    scores = np.zeros((4, 2, 2), np.float32)
    scores[:, 0, 0] = 0.9
    scores[:, 1, 1] = [0.9, 0.9, 0.9, 0.3]
    pred = np.tile(np.float32([BOX, AWAY]), (4, 1, 1))
    own = [np.array([BOX], np.float32)] * 4, [np.array([0])] * 4
    found = evidence(pred, scores, *own, [True, True, True, False]).signals()
    assert found["fault"][:3].max() < 0.1
    alone = evidence(pred[3:], scores[3:], *(part[3:] for part in own)).signals()
    assert torch.allclose(found["fault"][3:], alone["fault"])
    nobody = evidence(pred, scores, *own, [True] * 4).signals()
    assert nobody["fault"].max() < 0.1 and torch.isfinite(nobody["confidence"]).all()


def test_a_batch_tells_which_of_its_images_have_crowds():
    inputs = [{**own, "has_crowd": i == 1} for i, own in enumerate(batch())]
    del inputs[2]["has_crowd"]  # as where another loader has read them
    boxes = torch.tensor([[900.0, 900, 950, 950]]).repeat(len(inputs), 1, 1)
    found = evidence_of(Predictions(boxes, torch.full((len(inputs), 1, 2), 0.5)), inputs)
    assert torch.isnan(found.overlooked).tolist() == [i == 1 for i in range(len(inputs))]


def test_the_faulty_box_of_many_is_not_averaged_away():
    boxes = np.array([[30.0 * i, 0, 30.0 * i + 20, 20] for i in range(20)], np.float32)
    scores = np.tile(np.float32([0.95, 0.01]), (20, 1))
    good = evidence(boxes[None], scores[None], [boxes], [np.zeros(20, int)]).signals()
    scores[7] = [0.02, 0.9]
    bad = evidence(boxes[None], scores[None], [boxes], [np.zeros(20, int)]).signals()
    assert float(good["fault"]) < 0.1 and float(bad["fault"]) > 0.9
    assert float(good["confidence"] - bad["confidence"]) == pytest.approx(0.93 / 20, abs=1e-5)


def test_nothing_is_computed_unless_somebody_looks():
    def never():
        raise AssertionError("nobody looks")

    show(never)
    with watching(False) as found:
        show(never)
    assert not found
    learnt = torch.ones(1, requires_grad=True)
    with watching(True) as found:
        show(lambda: Predictions(2 * learnt, 3 * learnt))
    assert not found[0].boxes.requires_grad and not found[0].scores.requires_grad
    with watching(True) as outer:
        with watching(True) as inner:
            show(lambda: Predictions(torch.ones(1), torch.ones(1)))
        show(lambda: Predictions(torch.zeros(1), torch.zeros(1)))
    assert len(inner) == 1 and len(outer) == 1 and not float(outer[0].boxes)


def test_of_a_dense_head_the_surest_are_taken():
    class Shift:
        @staticmethod
        def apply_deltas(deltas, anchors):
            return anchors + deltas

    scores = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0))
    anchors = torch.arange(200.0).view(50, 4)
    deltas = torch.rand(2, 50, 4, generator=torch.Generator().manual_seed(1))
    found = best_of_dense(Shift, anchors, scores, deltas, most=5)
    for i in range(2):
        best = scores[i].amax(1).argsort(descending=True)[:5]
        assert torch.equal(found.scores[i], scores[i, best])
        assert torch.equal(found.boxes[i], anchors[best] + deltas[i, best])


SHOWING = {
    **{kind: lambda kind=kind: detector(kind) for kind in DETECTORS},
    "retinanet": lambda: build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).train(),
    "cascade": lambda: build_model(tiny_cfg("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml")).train(),
}


@pytest.mark.parametrize("name", SHOWING)
def test_looking_changes_neither_losses_nor_random_numbers(name):
    torch.manual_seed(0)
    model = SHOWING[name]()
    inputs = batch() if name in DETECTORS else random_batch()
    source, runs = LossSource(model), []
    start = copy.deepcopy(model.state_dict())
    assert source.shows
    for source.look in (False, True):
        model.load_state_dict(start)
        vars(model).pop("loss_normalizer", None)
        torch.manual_seed(1)
        with EventStorage(0):
            losses = source.losses(copy.deepcopy(inputs), lambda: None)
        runs.append(({k: v.detach() for k, v in losses.items()}, torch.rand(1)))
        assert (source.evidence is not None) == source.look
    assert all(torch.equal(runs[0][0][key], runs[1][0][key]) for key in runs[0][0])
    assert torch.equal(runs[0][1], runs[1][1])
    counts = [len(x["instances"]) for x in inputs]
    found = source.evidence
    assert torch.bincount(found.image, minlength=len(inputs)).tolist() == counts
    signals = found.signals()
    for values in signals.values():
        assert values.shape == (len(inputs),) and not values.requires_grad
        assert torch.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1


def test_yolo_predicts_in_pixels_of_the_given_images():
    """They reach as far as the images do, whatever size the network sees them in."""
    model = detector("yolo_darknet")
    inputs = batch()[:1]
    height, width = inputs[0]["image"].shape[1:]
    with EventStorage(0), watching(True) as shown:
        model.losses_per_image(copy.deepcopy(inputs))
    boxes = shown[-1].boxes[0]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = max(height, width)
    assert float(centre.min()) >= 0 and float(centre.max()) <= side
    assert float(centre.max()) > 0.8 * side  # cells reach as far as the image does
    assert evidence_of(shown[-1], inputs).iou.max() > 0


def test_a_detector_run_on_one_image_at_a_time_shows_nothing():
    class Plain(torch.nn.Linear):
        def forward(self, batched_inputs):
            return {"loss": self.weight.sum()}

    source = LossSource(Plain(1, 1))
    source.look = True
    source.losses([{}, {}], lambda: None)
    assert not source.shows and source.evidence is None


def test_of_a_cascade_the_last_stage_counts():
    class TwoStages(torch.nn.Linear):
        def losses_per_image(self, batched_inputs):
            for shift in (5.0, 0.0):
                boxes = torch.stack(
                    [x["instances"].gt_boxes.tensor + shift for x in batched_inputs]
                )
                show(lambda boxes=boxes: Predictions(boxes, torch.full((1, len(boxes[0]), 2), 0.5)))
            return {"loss": self.weight.sum() * torch.ones(len(batched_inputs))}

    source = LossSource(TwoStages(1, 1))
    source.look = True
    source.losses(batch(counts=(3,)), lambda: None)
    assert source.evidence.iou.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_of_regions_the_box_of_the_best_class_is_shown():
    head = FastRCNNOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=2,
    )
    take_apart(head)
    regions = Instances((64, 64), proposal_boxes=Boxes([[0.0, 0.0, 10.0, 10.0]] * 2))
    # Of the first region class 1 is best, of the second class 0; each class moves to the right by
    # a width of its own.
    scores = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.0, -1.0]])
    deltas = torch.tensor([[0.1, 0, 0, 0, 0.5, 0, 0, 0]] * 2)
    with EventStorage(0), watching(True) as shown:
        show(lambda: head._predictions(scores, deltas, [regions]))
    assert shown[0].boxes[0, :, 0].tolist() == pytest.approx([5.0, 1.0])
    assert torch.allclose(shown[0].scores[0], scores.softmax(1)[:, :2])
