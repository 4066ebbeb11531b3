from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.methods import glister as module
from adapruner_det.methods.base import get_method
from adapruner_det.methods.glister import glister, glister_order

from .evidence import Given, ToyEvidence, order_of, samples

SMALL = 1e-6


def likelihood(logits, labels):
    """Σ log p of the labels."""
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return sum(log_p[i, y] for i, y in enumerate(labels))


def slow_order(p, h, labels, held, picks, step):
    """With a whole last layer, moved for each sample by its own small step."""
    count, (num_classes, width) = len(p), (p.shape[1], h.shape[1])
    gradients = []
    for i in range(count):
        error = p[i].copy()
        error[labels[i]] -= 1
        gradients.append(np.outer(error, h[i]))
    start = np.log(p)  # logits, up to a constant
    order = []
    while len(order) < count:
        layer = np.zeros((num_classes, width))
        if order:
            layer -= step * sum(gradients[i] for i in order) / len(order)
        gain = {}
        for i in set(range(count)) - set(order):
            others = [v for v in held if v != i]
            moved = [start[others] + h[others] @ (layer - s * gradients[i]).T for s in (0, SMALL)]
            before, after = (likelihood(own, labels[others]) for own in moved)
            gain[i] = (after - before) / SMALL
        order += sorted(gain, key=lambda i: -gain[i])[:picks]
    return order


@pytest.mark.parametrize("picks", [1, 4, 32])
@pytest.mark.parametrize("step", [0.1, 3.0])
def test_next_is_what_raises_the_held_out_likelihood_most(picks, step, monkeypatch):
    monkeypatch.setattr(module, "PICKS", picks)
    monkeypatch.setattr(module, "STEP", step)
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet(np.ones(3), 24), rng.integers(0, 3, 24)
    h = np.hstack([rng.normal(size=(24, 4)), np.ones((24, 1))])
    held = np.array([2, 3, 7, 19])
    expected = slow_order(p, h, labels, held, picks, step)
    assert glister_order(p, h, labels, held).tolist() == expected


def test_the_method_holds_out_a_tenth_by_seed():
    evidence = ToyEvidence(seed=5)
    held = np.sort(np.random.default_rng(5).choice(60, 6, replace=False))
    p, h = evidence.predictions().astype(float), evidence.features().astype(float)
    labels = np.arange(60) % 3
    order = glister_order(p, np.hstack([h, np.ones((60, 1))]), labels, held)
    assert order_of(glister(evidence, 0.5)) == order.tolist()


def test_what_is_wrong_goes_where_the_held_out_are_right():
    """Two groups that the model knows by half; one sample of each has the other's label."""
    labels = np.repeat([0, 1], 50)
    labels[[10, 70]] = 1 - labels[[10, 70]]
    h = 10 * np.eye(2)[np.repeat([0, 1], 50)]
    p = np.full((100, 2), 0.4)
    p[np.arange(100), np.repeat([0, 1], 50)] = 0.6
    order = order_of(glister(Given(labels, features=h, predictions=p), 0.5))
    assert set(order[-2:]) == {10, 70}


@pytest.mark.parametrize("predictions", [np.ones((6, 2)) / 2, np.ones(6)])
def test_predictions_must_be_of_every_class(predictions):
    evidence = Given([0, 1, 2] * 2, features=np.ones((6, 2)), predictions=predictions)
    with pytest.raises(DataError, match="'glister' needs the probability of each class"):
        glister(evidence, 0.5)


def test_a_probability_of_zero_is_no_obstacle():
    p = np.eye(2)[[0, 1] * 10]
    rows = np.random.default_rng(0).normal(size=(20, 3))
    order = order_of(glister(Given([0, 1] * 10, features=rows, predictions=p), 0.5))
    assert sorted(order) == list(range(20))


def test_boxes_are_no_probabilities():
    class Boxes(Given):
        def predictions(self):
            return [{"boxes": [[0, 0, 1, 1]] * i} for i in range(6)]

    with pytest.raises(DataError, match="'glister' needs the probability of each class"):
        glister(Boxes([0, 1, 2] * 2, features=np.ones((6, 2))), 0.5)


def test_a_detector_is_refused_before_it_is_trained():
    check = get_method("glister").check
    plain = samples(4)
    check({}, plain, 5, 0.5)
    with pytest.raises(DataError, match="'glister' needs the probability of each class"):
        check({}, replace(plain, boxes=[np.zeros((1, 4))] * 4), 5, 0.5)
