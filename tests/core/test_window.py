import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.window import RecentWindow

VALUES = st.lists(st.integers(-5, 5).map(float), max_size=12)


def test_empty():
    window = RecentWindow(4)
    assert (len(window), window.median(), window.mean()) == (0, 1.0, 1.0)
    np.testing.assert_array_equal(window.rank(np.array([3.0])), [0.0])


def test_ranks_count_ties_half():
    window = RecentWindow(8)
    window.add(np.array([1.0, 2.0, 2.0, 3.0]))
    np.testing.assert_array_equal(
        window.rank(np.array([0.0, 1.0, 2.0, 2.5, 9.0])), [0.0, 0.125, 0.5, 0.75, 1.0]
    )
    assert (window.median(), window.mean()) == (2.0, 2.0)


@given(size=st.integers(1, 15), batches=st.lists(VALUES, max_size=8))
def test_holds_the_last_values(size, batches):
    """A ring shorter than 16 is sorted after every value: nothing is stale."""
    window = RecentWindow(size)
    everything = []
    for batch in batches:
        window.add(np.array(batch))
        everything += batch
    last = np.array(everything[-size:])
    assert len(window) == len(last)
    if len(last):
        assert window.median() == np.sort(last)[len(last) // 2]
        assert window.mean() == pytest.approx(last.mean())
        expected = [((last < v).sum() + (last <= v).sum()) / (2 * len(last)) for v in (-9, 0, 5)]
        np.testing.assert_allclose(window.rank(np.array([-9.0, 0.0, 5.0])), expected)


def test_at_most_a_sixteenth_is_stale():
    window = RecentWindow(160)
    for value in range(1000):
        window.add(np.array([float(value)]))
        if value > 160:
            assert abs(window.median() - (value - 80)) <= 11


@given(first=VALUES, second=VALUES)
def test_state_round_trip(first, second):
    window, copy = RecentWindow(8), RecentWindow(8)
    window.add(np.array(first))
    copy.load_state_dict(window.state_dict())
    for each in (window, copy):
        each.add(np.array(second))
    probe = np.linspace(-6, 6, 25)
    np.testing.assert_array_equal(window.rank(probe), copy.rank(probe))
    assert (window.median(), len(window)) == (copy.median(), len(copy))
