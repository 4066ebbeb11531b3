import numpy as np
import pytest

from adapruner_det.methods.k_center import farthest_first, k_center

from .evidence import Given, ToyEvidence, order_of


def slow_order(rows, first):
    order = [first]
    while len(order) < len(rows):
        left = [i for i in range(len(rows)) if i not in order]
        gaps = {i: min(np.linalg.norm(rows[i] - rows[j]) for j in order) for i in left}
        order.append(max(left, key=gaps.__getitem__))
    return order


@pytest.mark.parametrize("seed", range(4))
def test_next_is_the_farthest_from_its_nearest(seed):
    evidence = ToyEvidence(seed=seed)
    found = order_of(k_center(evidence, 0.5))
    assert found == slow_order(list(evidence.features().astype(float)), found[0])


def test_the_first_is_drawn():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    firsts = {order_of(k_center(Given(features=rows, seed=s), 0.5))[0] for s in range(20)}
    assert len(firsts) > 10


def test_one_of_each_group_before_a_second_of_any():
    centres = np.array([[0, 0], [100, 0], [0, 100], [300, 300]])
    near = np.random.default_rng(0).normal(size=(40, 2)) + np.repeat(centres, 10, axis=0)
    order = farthest_first(near.astype(np.float32), 3)
    assert {i // 10 for i in order[:4].tolist()} == {0, 1, 2, 3}


def test_copies_come_last():
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    order = farthest_first(np.concatenate([rows, rows]) + np.float32(30), 0)
    assert {i % 20 for i in order[:20].tolist()} == set(range(20))
    assert sorted(order) == list(range(40))
