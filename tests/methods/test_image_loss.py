import numpy as np
import pytest

from adapruner_det.methods.image_loss import image_loss

from .evidence import Given, ToyEvidence, order_of


def test_it_is_the_mean_over_all_epochs():
    evidence = ToyEvidence()
    expected = [sum(column) / len(column) for column in evidence.signal("loss").T]
    choice = image_loss(evidence, 0.5)
    assert choice.columns["mean_loss"] == pytest.approx(expected, rel=1e-5)
    assert order_of(choice) == sorted(range(60), key=lambda i: -expected[i])


def test_over_the_epochs_that_it_was_seen_in_and_the_unseen_last():
    nan = np.nan
    evidence = Given(loss=np.array([[1, 3, nan], [nan, nan, nan], [nan, 1.5, nan], [9, 0, 0]]).T)
    choice = image_loss(evidence, 0.5)
    assert choice.columns["mean_loss"].tolist() == [2.0, 0.0, 1.5, 3.0]
    assert choice.columns["times_seen"].tolist() == [2, 0, 1, 3]
    assert order_of(choice) == [3, 0, 2, 1]
