import numpy as np

from adapruner_det.methods.most_boxes import most_boxes

from .evidence import Given, order_of


def test_more_boxes_come_first():
    counts = np.random.default_rng(0).integers(0, 9, 80)
    order = order_of(most_boxes(Given([[0] * int(n) for n in counts]), 0.5))
    assert [counts[i] for i in order] == sorted(counts, reverse=True)


def test_which_of_equal_ones_stay_is_drawn():
    def kept(seed):
        return frozenset(order_of(most_boxes(Given([[0]] * 100, seed=seed), 0.5))[:50])

    assert kept(0) == kept(0) != kept(1)
    assert 10 < sum(i < 50 for i in kept(0)) < 40
