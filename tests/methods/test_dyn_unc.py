import statistics

import numpy as np
import pytest

from adapruner_det.methods.dyn_unc import dyn_unc

from .evidence import Given, ToyEvidence, order_of


def slow(column):
    """Of one sample's probabilities."""
    width = min(10, len(column))
    parts = [column[start : start + width] for start in range(len(column) - width + 1)]
    return statistics.fmean(statistics.pstdev(part) for part in parts)


@pytest.mark.parametrize("epochs", [2, 9, 10, 11, 35])
def test_it_is_the_mean_deviation_in_windows_of_10(epochs):
    evidence = ToyEvidence(epochs=epochs)
    columns = evidence.signal("confidence").astype(float).T.tolist()
    expected = [-slow(column) for column in columns]
    np.testing.assert_allclose(dyn_unc(evidence, 0.5).score, expected, rtol=1e-5)


def test_what_moves_stays_and_what_drifts_slowly_goes():
    """Still, up and down, and once from 0 to 1 over many epochs."""
    time = np.arange(60)
    still, restless, slow_drift = np.full(60, 0.5), 0.5 + 0.3 * (-1.0) ** time, time / 59
    evidence = Given(confidence=np.stack([still, slow_drift, restless], axis=1))
    assert order_of(dyn_unc(evidence, 0.5)) == [2, 1, 0]
