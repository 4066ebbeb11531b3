import numpy as np
import pytest

from adapruner_det.values import is_number


@pytest.mark.parametrize(
    "value", [0, -3, 2.5, 10**300, np.int8(4), np.uint64(2**63), np.float16(0.5), np.float64(1e308)]
)
def test_numbers_of_python_and_numpy_are_numbers(value):
    assert is_number(value) and is_number(value, finite=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32(np.nan)])
def test_what_is_not_finite_is_one_only_where_that_is_asked_for(value):
    assert not is_number(value) and is_number(value, finite=False)


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, 1j, np.complex64(1), [1], np.array([1]), 10**400]
)
def test_nothing_else_is(value):
    assert not is_number(value) and not is_number(value, finite=False)
