import numpy as np
import pytest

from adapruner_det.methods.balanced_boxes import balanced_boxes

from .evidence import Given, ToyBoxes, order_of


def test_it_is_the_sum_of_one_over_the_count_of_the_class():
    evidence = ToyBoxes(seed=3)
    classes = evidence.samples.classes
    everything = [c for own in classes for c in own]
    expected = [sum(1 / everything.count(c) for c in own) for own in classes]
    choice = balanced_boxes(evidence, 0.5)
    assert choice.columns["worth"] == pytest.approx(expected)
    assert sum(expected) == pytest.approx(len(set(everything)))
    ranked = np.array(expected)[order_of(choice)]
    assert (np.diff(ranked) < 1e-9).all()


def test_a_rare_class_counts_for_many_boxes_of_a_common_one():
    classes = [[0] * 5, [1], [0], []]
    assert order_of(balanced_boxes(Given(classes), 0.5)) == [1, 0, 2, 3]


@pytest.mark.parametrize("classes", [[[0]], [[]], [[], []], [[4], [4]]])
def test_one_image_none_with_boxes_or_all_alike(classes):
    assert sorted(order_of(balanced_boxes(Given(classes), 0.5))) == list(range(len(classes)))


def test_which_of_equal_ones_stay_is_drawn():
    first = {order_of(balanced_boxes(Given([[0]] * 9, seed=seed), 0.5))[0] for seed in range(9)}
    assert len(first) > 2
