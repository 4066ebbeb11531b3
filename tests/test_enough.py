import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.enough import (
    ENOUGH_STEPS,
    STILL_FALLS,
    late_fall,
    still_falling,
    too_few_steps,
)


def test_it_is_the_part_of_the_fall_that_came_in_the_last_quarter():
    losses = np.array([9.5, 8.0, 7.0, 6.0, 5.0, 3.0, 2.0, 1.0])
    assert late_fall(losses) == pytest.approx((4 - 1.5) / (9.5 - 1.5))
    assert late_fall(np.full(12, 0.3)) == 0.0
    assert late_fall(np.array([1.0, 1.0, 1.0, 2.0])) == 0.0
    assert late_fall(np.array([4.0, 1.0, 1.0, 2.0])) == -0.5


@given(st.lists(st.floats(0.01, 10), min_size=4, max_size=40), st.floats(0.1, 10))
def test_the_unit_of_the_loss_does_not_matter(losses, scale):
    losses = np.array(losses)
    assert late_fall(scale * losses) == pytest.approx(late_fall(losses), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_run_of_few_epochs_has_no_quarters(count):
    assert np.isnan(late_fall(np.ones(count)))


def test_a_loss_that_still_falls_is_told_from_one_that_is_flat():
    flat = 0.1 + np.exp(-np.arange(40) / 3)
    steep = np.exp(-np.arange(40) / 15)
    assert still_falling(flat) == "" and still_falling([]) == ""
    assert still_falling(steep).startswith("11% of the loss's fall came in the last quarter")
    just = np.array([1.0, 0.5, STILL_FALLS, 0.0])
    assert still_falling(just - [0, 0, 1e-6, 0]) == "" != still_falling(just + [0, 0, 1e-6, 0])


def test_few_steps_are_said():
    assert too_few_steps(ENOUGH_STEPS) == ""
    assert too_few_steps(ENOUGH_STEPS - 1).startswith(f"{ENOUGH_STEPS - 1} steps on the kept part")


def test_no_more_than_all_of_a_fall_came_late():
    assert still_falling([1.0, 2.0, 3.0, 0.5]).startswith("100% of the loss's fall")
