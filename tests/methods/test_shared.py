import numpy as np
import pytest
import threadpoolctl

from adapruner_det.errors import DataError
from adapruner_det.methods import shared

from .evidence import Given, samples

NAN = np.nan


def test_means_and_deviations_are_over_the_visits():
    values = np.array([[1.0, NAN, NAN], [3.0, 5.0, NAN], [NAN, 8.0, NAN]], dtype=np.float32)
    mean, spread = shared.mean_and_spread(values)
    np.testing.assert_array_equal(mean, [2.0, 6.5, NAN])
    np.testing.assert_array_equal(spread, [1.0, 1.5, NAN])


def test_the_last_visit_is_the_last_within_the_epochs():
    values = np.array([[1.0, NAN, NAN], [NAN, 5.0, NAN], [3.0, 8.0, 9.0]])
    np.testing.assert_array_equal(shared.last_visit(values, 2), [1.0, 5.0, NAN])
    np.testing.assert_array_equal(shared.last_visit(values, 9), [3.0, 8.0, 9.0])


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(2, [[0, 1]]), (3, [[0, 1, 2]]), (5, [[0, 1, 2], [1, 2, 3], [2, 3, 4]])],
)
def test_windows_slide_and_shrink(epochs, expected):
    found = shared.windows(np.arange(epochs)[:, None], 3)
    assert [window.ravel().tolist() for window in found] == expected


def test_a_place_is_where_a_sample_stands_in_the_order():
    assert shared.places(np.array([2, 0, 3, 1])).tolist() == [1, 3, 0, 2]


def test_what_has_no_score_is_behind_all():
    assert shared.kept_last(np.array([1.0, NAN, -np.inf])).tolist() == [1.0, np.inf, -np.inf]


def test_classes_are_taken_in_turn_and_in_proportion():
    classes = np.array([9] * 6 + [2] * 2)
    order = np.argsort(shared.by_class(classes, np.array([3, 1, 0, 2, 4, 5, 1, 0]), 0)).tolist()
    assert [i for i in order if i < 6] == [2, 1, 3, 0, 4, 5]
    assert [i for i in order if i > 5] == [7, 6] and sum(i > 5 for i in order[:4]) == 1


def test_which_class_comes_first_is_drawn():
    firsts = [np.argmin(shared.by_class(np.arange(4), np.zeros(4, int), s)) for s in range(400)]
    assert np.bincount(firsts) / 400 == pytest.approx(0.25, abs=0.1)


def test_rows_get_unit_length_and_zeros_stay():
    found = shared.unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])
    assert found.dtype == np.float32


@pytest.mark.parametrize(("source", "whose"), [("model", "model's"), ("thumbnails", "thumbnail")])
def test_features_that_are_not_finite_are_the_samples(source, whose):
    rows = np.ones((4, 3))
    rows[2, 1] = NAN
    evidence = Given(features=rows, thumbnails=rows)
    with pytest.raises(DataError, match=f"'x' needs finite features, and .*{whose}.* toy/0002"):
        shared.finite_features(evidence, "x", source)


def test_the_class_of_each_is_its_one():
    assert shared.class_of_each(samples(4), "x").tolist() == [0, 1, 2, 0]


def test_clusters_of_clear_groups_are_the_groups():
    rows = np.random.default_rng(0).normal(size=(60, 4)) + 50 * np.eye(4)[np.arange(60) % 3]
    own, centres = shared.clusters(rows, 3, seed=2**40)
    for group in range(3):
        (cluster,) = set(own[group::3])
        np.testing.assert_allclose(centres[cluster], rows[group::3].mean(axis=0))


def test_clusters_of_copies_and_of_few_samples_are_quiet(recwarn):
    own, centres = shared.clusters(np.ones((5, 2)), 9, seed=0)
    assert len(own) == 5 and centres.shape == (5, 2) and not recwarn.list


def test_clusters_are_found_on_one_thread(monkeypatch):
    """Sums of several threads differ in their last bits, and with them what is selected."""
    limits, real = [], threadpoolctl.threadpool_limits
    monkeypatch.setattr(
        threadpoolctl, "threadpool_limits", lambda *given: (limits.append(given), real(*given))[1]
    )
    shared.clusters(np.random.default_rng(0).normal(size=(20, 3)), 2, seed=0)
    assert limits[0] == (1,)
