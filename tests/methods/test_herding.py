import numpy as np
import pytest

from adapruner_det.methods.herding import herding, herding_order

from .evidence import Given, ToyEvidence, order_of


def slow_order(rows):
    """Every mean is computed anew."""
    goal = sum(rows) / len(rows)
    left, kept, order = list(range(len(rows))), [], []
    while left:
        means = {i: sum(kept + [rows[i]]) / (len(kept) + 1) for i in left}
        best = min(left, key=lambda i: np.linalg.norm(goal - means[i]))
        left.remove(best)
        kept.append(rows[best])
        order.append(best)
    return order


@pytest.mark.parametrize("seed", range(4))
def test_each_class_is_taken_in_the_order_of_its_mean(seed):
    evidence = ToyEvidence(seed=seed)
    features, found = evidence.features().astype(float), order_of(herding(evidence, 0.5))
    for own in range(3):
        members = np.arange(own, 60, 3)
        expected = members[slow_order(list(features[members]))].tolist()
        assert [i for i in found if i % 3 == own] == expected


def test_it_is_the_same_far_from_the_origin():
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    assert herding_order(rows).tolist() == slow_order(list(rows.astype(float)))
    assert herding_order(rows + np.float32(64)).tolist()[:5] == slow_order(list(rows))[:5]


def test_the_middle_first_then_what_holds_the_balance():
    """0 is the mean; then a pair of opposite ones before the far pair."""
    features = [[-5.0], [5.0], [0.1], [1.0], [-1.1]]
    order = order_of(herding(Given([0] * 5, features=features), 0.5))
    assert order[0] == 2 and set(order[1:3]) == {3, 4}


def test_every_cut_takes_from_each_class_in_proportion():
    classes = np.repeat([0, 1], [80, 20])
    features = np.random.default_rng(0).normal(size=(100, 3))
    order = order_of(herding(Given(classes, features=features), 0.5))
    for count in (10, 25, 50, 90):
        assert abs(sum(i >= 80 for i in order[:count]) - count / 5) <= 1


def test_copies_are_all_taken_and_once():
    features = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 5, axis=0)
    assert sorted(herding_order(features.astype(np.float32))) == list(range(20))
