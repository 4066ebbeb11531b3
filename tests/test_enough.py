import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.enough import late_fall


def test_it_is_the_fall_from_the_third_quarter_to_the_last():
    assert late_fall(np.array([9.0, 8.0, 7.0, 6.0, 5.0, 3.0, 2.0, 1.0])) == pytest.approx(
        1 - 1.5 / 4
    )
    assert late_fall(np.full(12, 0.3)) == 0.0
    assert late_fall(np.array([1.0, 1.0, 1.0, 2.0])) == -1.0
    assert late_fall(np.zeros(8)) == 0.0


@given(st.lists(st.floats(0.01, 10), min_size=4, max_size=40), st.floats(0.1, 10))
def test_the_unit_of_the_loss_does_not_matter(losses, scale):
    losses = np.array(losses)
    assert late_fall(scale * losses) == pytest.approx(late_fall(losses), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_run_of_few_epochs_has_no_quarters(count):
    assert np.isnan(late_fall(np.ones(count)))
