import math

import numpy as np
import pytest

from adapruner_det.methods.tdds import tdds

from .evidence import Given, ToyEvidence, order_of


def slow(rows):
    """Of one sample's probabilities, epoch by epoch."""
    change = []
    for before, after in zip(rows, rows[1:], strict=False):
        divergence = sum(q * math.log(q / p) for p, q in zip(before, after, strict=True))
        change.append(abs(divergence))
    width = min(9, len(change))
    windows = [change[start : start + width] for start in range(len(change) - width + 1)]
    total = 0.0
    for number, window in enumerate(windows):
        mean = sum(window) / len(window)
        norm = math.sqrt(sum((value - mean) ** 2 for value in window))
        total += 0.9 * 0.1 ** (len(windows) - 1 - number) * norm
    return total


@pytest.mark.parametrize("epochs", [3, 9, 10, 11, 24])
def test_it_is_the_weighted_sum_over_windows_of_10_epochs(epochs):
    evidence = ToyEvidence(epochs=epochs)
    p = evidence.signal("probabilities").astype(float)
    expected = [-slow(p[:, i].tolist()) for i in range(60)]
    np.testing.assert_allclose(tdds(evidence, 0.5).score, expected, rtol=1e-4)


def test_what_jumps_late_stays_before_what_jumped_early():
    def path(jump):
        first = np.where(np.arange(30) < jump, 0.2, 0.8) if jump else np.full(30, 0.5)
        return np.stack([first, 1 - first], axis=1)

    evidence = Given(probabilities=np.stack([path(0), path(5), path(25)], axis=1))
    assert order_of(tdds(evidence, 0.5)) == [2, 1, 0]


def test_a_probability_of_zero_is_no_obstacle():
    p = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    assert np.isfinite(tdds(Given(probabilities=p), 0.5).score).all()


def test_a_missing_visit_counts_from_the_one_before():
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 9)
    with_gap = np.insert(rows, 4, np.nan, axis=0)
    found = tdds(Given(probabilities=np.stack([with_gap, with_gap], axis=1)), 0.5)
    assert found.score == pytest.approx(-slow(rows.tolist()), rel=1e-5)
