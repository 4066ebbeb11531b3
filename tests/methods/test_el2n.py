import numpy as np
import pytest

from adapruner_det.methods.el2n import el2n

from .evidence import Given, ToyEvidence, order_of


@pytest.mark.parametrize(("epochs", "taken"), [(30, 20), (20, 20), (19, 19), (1, 1)])
def test_it_is_the_error_at_epoch_20_or_at_the_last(epochs, taken):
    evidence = ToyEvidence(epochs=epochs)
    error = np.empty(60)
    for i, own in enumerate(evidence.samples.classes):
        p = evidence.signal("probabilities")[taken - 1, i].astype(float)
        error[i] = sum((p[c] - (c == own[0])) ** 2 for c in range(3)) ** 0.5
    np.testing.assert_allclose(el2n(evidence, 0.5).score, -error, rtol=1e-4)


def test_the_hard_stay():
    assert order_of(el2n(Given(error_norm=[[0.1, 1.4, 0.0, 0.7]]), 0.5)) == [1, 3, 0, 2]


def test_a_sample_that_missed_the_epoch_has_its_value_before():
    error = np.tile([0.5, 0.6, 0.4, 0.3], (25, 1))
    error[17, 3], error[18:20, 3], error[20:, 3] = 0.55, np.nan, 0.0
    assert order_of(el2n(Given(error_norm=error), 0.5)) == [1, 3, 0, 2]
