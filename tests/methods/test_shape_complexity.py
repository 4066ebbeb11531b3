import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.methods.shape_complexity import complexity, shape_complexity

from .evidence import Given, ToyBoxes, order_of


def slow_shape(box):
    """The perimeter by that of the circle of the same area."""
    width, height = float(box[2]) - float(box[0]), float(box[3]) - float(box[1])
    radius = np.sqrt(width * height / np.pi)
    return (width + height + width + height) / (2 * np.pi * radius)


def test_it_is_a_sum_of_shares_of_the_class():
    evidence = ToyBoxes(seed=1)
    samples = evidence.samples
    shapes = [[slow_shape(box) for box in own] for own in samples.boxes]
    total = {}
    for own, classes in zip(shapes, samples.classes, strict=True):
        for s, c in zip(own, classes, strict=True):
            total[c] = total.get(c, 0.0) + s
    expected = [
        sum(s / total[c] for s, c in zip(own, classes, strict=True))
        for own, classes in zip(shapes, samples.classes, strict=True)
    ]
    choice = shape_complexity(evidence, 0.5)
    assert choice.columns["shape_complexity"] == pytest.approx(expected)
    assert sum(expected) == pytest.approx(3.0)  # one for each class
    assert (np.diff(np.array(expected)[order_of(choice)]) <= 1e-12).all()


@given(st.floats(1, 50), st.floats(1, 50), st.floats(0.1, 100))
def test_neither_scale_nor_turning_matters_and_a_square_is_least(width, height, scale):
    one = complexity(np.array([[0, 0, width, height]]))
    same = [[3, 4, 3 + scale * width, 4 + scale * height], [0, 0, height, width]]
    assert complexity(np.array(same)) == pytest.approx(np.repeat(one, 2))
    assert (
        one >= complexity(np.array([[0.0, 0, 1, 1]])) - 1e-12 and one >= 2 / np.sqrt(np.pi) - 1e-9
    )


def test_a_box_without_area_has_nothing_and_takes_nothing():
    boxes = [[[1, 1, 1, 5]], [[0, 0, 3, 4]]]
    worth = shape_complexity(Given([[0], [0]], boxes=boxes), 0.5).columns["shape_complexity"]
    assert worth.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("classes", "boxes"),
    [
        ([[]], [[]]),
        ([[0]], [[[0, 0, 3, 4]]]),
        ([[0], [0]], [[[1, 1, 1, 5]], [[2, 2, 2, 2]]]),  # no area at all
        ([[0], []], [[[0, 0, 3, 4]], []]),
    ],
)
def test_few_boxes_and_boxes_without_area_are_served(classes, boxes):
    choice = shape_complexity(Given(classes, boxes=boxes), 0.5)
    assert np.isfinite(choice.columns["shape_complexity"]).all()
    assert sorted(order_of(choice)) == list(range(len(classes)))
    assert order_of(choice)[0] == 0 or not any(map(len, classes)) or len(classes[1])
