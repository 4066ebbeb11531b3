import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import cut, kept_count

#: Few distinct values, so that ties are the rule.
ROWS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0, np.inf]), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=30,
)


def columns(rows):
    logit, score = np.array(rows).T
    return logit.astype(np.float32), score.astype(np.float32)


@given(rows=ROWS, data=st.data())
def test_is_the_head_of_the_sorted_order(rows, data):
    logit, score = columns(rows)
    count = data.draw(st.integers(0, len(rows)))
    order = sorted(range(len(rows)), key=lambda i: (-logit[i], score[i], i))
    assert set(np.flatnonzero(cut(logit, score, count))) == set(order[:count])


@given(rows=ROWS)
def test_smaller_counts_are_nested(rows):
    logit, score = columns(rows)
    sets = [cut(logit, score, count) for count in range(len(rows) + 1)]
    for smaller, larger in zip(sets, sets[1:], strict=False):
        assert not np.any(smaller & ~larger)


def test_ties_go_by_score_then_by_index():
    zeros = np.zeros(4)
    np.testing.assert_array_equal(cut(zeros, zeros, 2), [True, True, False, False])
    np.testing.assert_array_equal(
        cut(zeros, np.array([1.0, 0.0, 1.0, 0.0]), 3), [True, True, False, True]
    )


@pytest.mark.parametrize(
    ("num_samples", "keep_ratio", "count"),
    [(100, 0.9, 90), (1, 0.01, 1), (3, 0.01, 1), (7, 1.0, 7), (10**9, 0.3, 3 * 10**8)],
)
def test_kept_count(num_samples, keep_ratio, count):
    assert kept_count(num_samples, keep_ratio) == count


@pytest.mark.parametrize(
    ("logit", "score", "count", "message"),
    [
        ([0.0], [0.0, 1.0], 1, "must agree"),
        ([0.0], [0.0], 2, "cannot keep 2 of 1"),
        ([0.0], [0.0], -1, "cannot keep -1"),
        ([0.0, np.nan], [0.0, 0.0], 1, "sample 1 is NaN"),
        ([0.0, 0.0], [0.0, np.nan], 1, "score of sample 1 is NaN"),
    ],
)
def test_refused(logit, score, count, message):
    with pytest.raises(ValueError, match=message):
        cut(np.array(logit), np.array(score), count)
