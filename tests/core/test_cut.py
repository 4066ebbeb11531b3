import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import cut, kept_count
from adapruner_det.core.cut import ranking, ranks
from adapruner_det.core.equations import pressure

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


# --- what is cut by ------------------------------------------------------------------------------

LARGEST = np.finfo(np.float32).max


@given(rows=ROWS, data=st.data())
def test_samples_that_were_never_seen_come_after_all_others(rows, data):
    logit, loss = columns(rows)
    logit = np.where(np.isinf(logit), 2, logit)
    seen = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))))
    order = ranking(logit, loss, np.ones((), np.float32), seen, {})
    for count in range(len(rows) + 1):
        kept = cut(*order, count)
        assert np.count_nonzero(kept & (seen == 0)) == max(0, count - np.count_nonzero(seen))


def test_seen_samples_are_ranked_by_logit_then_by_pressure():
    logit = np.array([0.5, 1.0, 0.5], dtype=np.float32)
    loss = np.array([2.0, 9.0, 1.0], dtype=np.float32)
    found, score = ranking(logit, loss, np.float32(2), None, {"use_selection": False})
    np.testing.assert_array_equal(found, logit)
    np.testing.assert_array_equal(score, loss / 2)
    _, score = ranking(logit, loss, np.float32(2), np.ones(3), {})
    np.testing.assert_array_equal(score, pressure(loss / 2))
    assert score.dtype == np.float32


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_losses_have_an_order(dtype):
    loss = np.array([np.finfo(dtype).max, 0.0, 1.0], dtype=dtype)
    typical = np.array(np.finfo(dtype).tiny)
    _, score = ranking(np.zeros(3, dtype), loss, typical, np.ones(3), {})
    assert np.isfinite(score).all()


@given(rows=ROWS, data=st.data())
def test_ranks_are_the_places_in_the_order_of_the_cut(rows, data):
    logit, score = columns(rows)
    count = data.draw(st.integers(0, len(rows)))
    found = ranks(logit, score)
    assert sorted(found) == list(range(len(rows))) and found.dtype == np.int64
    np.testing.assert_array_equal(found < count, cut(logit, score, count))
