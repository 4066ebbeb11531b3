import math

import numpy as np
import pytest

from adapruner_det.methods import d2 as module
from adapruner_det.methods.d2 import d2

from .evidence import Given, ToyEvidence, order_of


def slow_order(rows, area):
    """All as the paper says it, with lists."""
    rows = [row / math.sqrt(sum(row**2)) for row in rows]
    count, low, high = len(rows), min(area), max(area)
    hard = [(high - own) / (high - low) for own in area]
    gaps = [[math.dist(a, b) for b in rows] for a in rows]
    near = [sorted((j for j in range(count) if j != i), key=gaps[i].__getitem__)[:5]
            for i in range(count)]  # fmt: skip
    value = [hard[i] + sum(math.exp(-gaps[i][j]) * hard[j] for j in near[i]) for i in range(count)]
    left, order = list(range(count)), []
    while left:
        best = max(left, key=value.__getitem__)
        left.remove(best)
        order.append(best)
        for j in near[best]:
            value[j] -= math.exp(-0.1 * gaps[best][j]) * value[best]
    return order


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_order_of_the_messages(seed):
    evidence = ToyEvidence(seed=seed)
    area = evidence.signal("margin").astype(float).mean(0).tolist()
    expected = slow_order(list(evidence.features().astype(float)), area)
    assert order_of(d2(evidence, 0.5)) == expected


def test_the_hard_stay_but_not_beside_each_other():
    """Two groups of like images, one harder: each gives one before either gives a second."""
    angles = np.concatenate([np.linspace(0, 0.01, 6), np.linspace(2, 2.01, 6)])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    margin = np.concatenate([np.full(6, -1.0), np.full(6, -0.8), [9.0]])
    features = np.concatenate([features, [[-1.0, 0.2]]])
    order = order_of(d2(Given(features=features, margin=[margin]), 0.5))
    assert order[0] < 6 and 6 <= order[1] < 12


def test_one_difficulty_for_all_and_few_samples_are_no_obstacle():
    rows = np.random.default_rng(0).normal(size=(4, 3))
    choice = d2(Given(features=rows, margin=[[1.0] * 4]), 0.5)
    assert sorted(choice.score) == [0, 1, 2, 3]


def test_it_says_how_neighbours_were_found(monkeypatch):
    assert d2(ToyEvidence(), 0.5).parameters == {"neighbour_search": "exact"}
    monkeypatch.setattr(module, "search_for", lambda count: f"other of {count}")
    assert d2(ToyEvidence(), 0.5).parameters == {"neighbour_search": "other of 60"}
