import statistics

import numpy as np
import pytest

from adapruner_det.methods.dual import dual

from .evidence import Given, ToyEvidence, order_of


def slow(column):
    """w of one sample's probabilities."""
    column = column[:30]
    width = min(10, len(column))
    parts = [column[start : start + width] for start in range(len(column) - width + 1)]
    return statistics.fmean(
        statistics.pstdev(part) * (1 - statistics.fmean(part)) for part in parts
    )


@pytest.mark.parametrize("epochs", [2, 9, 10, 13, 30, 45])
def test_it_is_deviation_times_difficulty_in_windows_of_10(epochs):
    evidence = ToyEvidence(epochs=epochs)
    columns = evidence.signal("confidence").astype(float).T.tolist()
    expected = [-slow(column) for column in columns]
    np.testing.assert_allclose(dual(evidence, 0.5).score, expected, rtol=1e-5)


def test_the_uncertain_and_hard_stay():
    """Hard and restless, easy and restless, hard and still."""
    swing = 0.1 * (-1.0) ** np.arange(20)
    evidence = Given(confidence=np.stack([0.8 + swing, 0.2 + 0 * swing, 0.2 + swing], axis=1))
    assert order_of(dual(evidence, 0.5)) == [2, 0, 1]
