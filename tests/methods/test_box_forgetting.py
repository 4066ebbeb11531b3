import numpy as np
import pytest

from adapruner_det.methods.box_forgetting import CONFIDENT, OVERLAP, box_forgetting

from .evidence import Given, ToyBoxes, order_of

NAN = np.nan


def slow_events(iou, confidence):
    """Of one box, visit by visit."""
    states = [
        u >= OVERLAP and p >= CONFIDENT
        for u, p in zip(iou, confidence, strict=True)
        if not np.isnan(u)
    ]
    if not states:
        return NAN
    if not any(states):
        return len(iou)
    return sum(a and not b for a, b in zip(states, states[1:], strict=False))


def test_it_is_the_mean_of_what_loops_count():
    evidence = ToyBoxes(count=80, epochs=9, seed=2)
    iou, confidence = (evidence.signal(name) for name in ("box_iou", "box_confidence"))
    confidence[:] = np.where(np.isnan(confidence), NAN, confidence**4)
    iou[::3, 5], confidence[::3, 5] = NAN, NAN
    own = Given(evidence.samples.classes, box_iou=iou, box_confidence=confidence)
    choice = box_forgetting(own, 0.5)
    expected = []
    for i, size in enumerate(evidence.samples.sizes):
        events = [slow_events(iou[:, i, g], confidence[:, i, g]) for g in range(size)]
        expected.append(sum(events) / size if size else 0.0)
    assert choice.columns["forgetting_events"] == pytest.approx(expected)
    ranked = np.array(expected)[order_of(choice)]
    assert (np.diff(ranked) <= 1e-12).all() and len(set(expected)) > 5


def of(*boxes, confidence=0.9):
    """(E, 1, G) of one image, from each box's IoU by epoch."""
    iou = np.array(boxes, dtype=float).T[:, None]
    own = Given([[0] * len(boxes)], box_iou=iou, box_confidence=np.full(iou.shape, confidence))
    return box_forgetting(own, 0.5).columns["forgetting_events"][0]


@pytest.mark.parametrize(
    ("boxes", "confidence", "events"),
    [
        ([[0.5, 0.5, 0.5]], 0.05, 0),
        ([[0.5, 0.49, 0.5]], 0.05, 1),
        ([[0.9, 0.9, 0.9]], 0.04, 3),  # never learnt: nothing is sure of its class
        ([[0.1, 0.2, 0.4]], 0.9, 3),
        ([[0.9, 0.1, 0.9, 0.1]], 0.9, 2),
        ([[0.9, NAN, 0.1]], 0.9, 1),
        ([[0.9, 0.9, 0.9], [0.9, 0.1, 0.9]], 0.9, 0.5),
        ([[0.1, 0.1, 0.1, 0.1], [0.9] * 4], 0.9, 2),
    ],
)
def test_one_image(boxes, confidence, events):
    assert of(*boxes, confidence=confidence) == events


def test_images_without_boxes_go_before_what_was_learnt_and_after_what_was_not_seen():
    iou = np.full((3, 4, 1), NAN)
    iou[:, 0, 0], iou[:, 1, 0] = [0.9, 0.1, 0.9], 0.9
    own = Given([[0], [0], [], [0]], box_iou=iou, box_confidence=iou)
    assert order_of(box_forgetting(own, 0.5))[0] == 0
    assert order_of(box_forgetting(own, 0.5))[-1] == 3


def test_which_of_equal_ones_stay_is_drawn():
    ones = np.ones((2, 40, 1))
    kept = [
        order_of(box_forgetting(Given([[0]] * 40, seed, box_iou=ones, box_confidence=ones), 0.5))
        for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2] and kept[0] != sorted(kept[0])


def test_no_boxes_at_all_is_a_draw():
    none = np.zeros((2, 3, 0))
    own = Given([[], [], []], box_iou=none, box_confidence=none)
    assert sorted(order_of(box_forgetting(own, 0.5))) == [0, 1, 2]
