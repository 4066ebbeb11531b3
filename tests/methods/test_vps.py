import numpy as np
import pytest

from adapruner_det.methods.vps import vps

from .evidence import Given, ToyBoxes, order_of

NAN = np.nan


def slow_variance(values):
    seen = [float(v) for v in values if not np.isnan(v)]
    if not seen:
        return NAN
    mean = sum(seen) / len(seen)
    return sum((v - mean) ** 2 for v in seen) / len(seen)


def test_it_is_the_mean_over_boxes_of_two_variances():
    evidence = ToyBoxes(count=70, epochs=8, seed=1)
    iou, confidence = (evidence.signal(name) for name in ("box_iou", "box_confidence"))
    iou[::2, 4], confidence[::2, 4] = NAN, NAN
    own = Given(evidence.samples.classes, box_iou=iou, box_confidence=confidence)
    expected = []
    for i, size in enumerate(evidence.samples.sizes):
        boxes = [
            slow_variance(iou[:, i, g]) + slow_variance(confidence[:, i, g]) for g in range(size)
        ]
        expected.append(sum(boxes) / size if size else 0.0)
    choice = vps(own, 0.5)
    assert -choice.score == pytest.approx(expected, abs=1e-6)
    assert order_of(choice)[-1] == 69  # which has no box


def test_many_boxes_are_no_merit():
    iou = np.full((2, 2, 3), NAN)
    iou[:, 0], iou[:, 1, 0] = [[0.2] * 3, [0.8] * 3], [0.1, 0.9]
    own = Given([[0] * 3, [0]], box_iou=iou, box_confidence=iou)
    assert order_of(vps(own, 0.5)) == [1, 0]


def test_both_variances_count_and_the_unseen_come_last():
    still, moving = [0.5, 0.5], [0.2, 0.8]
    iou = np.array([still, still, moving, [NAN, NAN]]).T[..., None]
    confidence = np.array([still, moving, moving, [NAN, NAN]]).T[..., None]
    choice = vps(Given([[0]] * 4, box_iou=iou, box_confidence=confidence), 0.5)
    assert order_of(choice) == [2, 1, 0, 3]
    assert choice.columns["iou_variance"][:3] == pytest.approx([0, 0, 0.09], abs=1e-7)
    assert choice.columns["confidence_variance"][:3] == pytest.approx([0, 0.09, 0.09], abs=1e-7)


def test_no_boxes_at_all_leave_a_score():
    none = np.zeros((2, 3, 0))
    assert (vps(Given([[], [], []], box_iou=none, box_confidence=none), 0.5).score == 0).all()
