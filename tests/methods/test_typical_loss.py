import numpy as np
import pytest

from adapruner_det.methods.typical_loss import typical_loss, typical_of

from .evidence import Given, order_of


def slow_typical(mean, sizes):
    """Interpolated medians of groups of 32 or more neighbouring sizes, for sizes between them."""
    groups = [[]]
    for size in sorted(set(sizes)):
        left = [s for s in sizes if s >= size]
        if len(groups[-1]) >= 32 and len(left) >= 32:
            groups.append([])
        groups[-1] += [i for i, s in enumerate(sizes) if s == size]
    knots = [(np.median([sizes[i] for i in g]), np.median([mean[i] for i in g])) for g in groups]
    return np.interp(sizes, *np.transpose(knots)), knots


def test_it_is_the_loss_beside_that_of_images_with_as_many_boxes():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 300)
    loss = rng.exponential(0.5 + sizes, (4, 300)).astype(np.float32)
    choice = typical_loss(Given([[0] * int(n) for n in sizes], loss=loss), 0.5)
    mean = loss.astype(float).mean(axis=0)
    expected, knots = slow_typical(mean, sizes)
    assert len(knots) == 5
    np.testing.assert_allclose(choice.columns["typical_loss"], expected, rtol=1e-6)
    assert order_of(choice) == np.lexsort((np.arange(300), -mean / expected)).tolist()


def test_more_samples_than_the_mask_remembers_all_count():
    """The running median is of the last 4,096; of a finished training all are at hand."""
    mean = np.repeat([1.0, 9.0], [3001, 3000])
    assert typical_of(mean, np.ones(len(mean), int)).tolist() == [1.0] * len(mean)


def test_a_crowded_image_with_as_much_loss_a_box_is_not_hard():
    sizes = np.array([1] * 40 + [2] * 40 + [30])
    choice = typical_loss(Given([[0] * n for n in sizes], loss=[sizes * 0.5]), 0.5)
    np.testing.assert_allclose(choice.score, -1.0)


@pytest.mark.parametrize("classes", [[[0]], [[]], [[0], [1, 1], []]])
def test_few_samples_are_served(classes):
    loss = np.zeros((2, len(classes)))
    assert np.isfinite(typical_loss(Given(classes, loss=loss), 0.5).score).all()


def test_what_was_never_seen_goes_first_and_moves_no_median():
    loss = np.ones((3, 9))
    loss[:, 2:7] = np.nan
    choice = typical_loss(Given([[0]] * 9, loss=loss), 0.5)
    assert order_of(choice)[-5:] == [2, 3, 4, 5, 6]
    assert (choice.columns["typical_loss"] == 1.0).all()
    assert np.isinf(typical_loss(Given([[0]] * 2, loss=[[np.nan] * 2]), 0.5).score).all()
