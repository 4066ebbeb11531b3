import numpy as np

from adapruner_det.methods.forgetting import forgetting

from .evidence import Given, ToyEvidence, order_of


def slow_events(column):
    """Of one sample, from what it was at each visit."""
    seen = [value for value in column if not np.isnan(value)]
    if 1 not in seen:
        return float("inf") if seen else float("nan")
    return sum(a == 1 and b == 0 for a, b in zip(seen, seen[1:], strict=False))


def test_it_counts_falls_from_right_to_wrong():
    evidence = ToyEvidence(count=200, epochs=9)
    choice = forgetting(evidence, 0.5)
    expected = [slow_events(column) for column in evidence.signal("correct").T]
    assert choice.columns["forgetting_events"].tolist() == expected
    ranked = np.array(expected)[order_of(choice)]
    assert (ranked[:-1] >= ranked[1:]).all() and len(set(expected)) > 3


def test_the_never_learnt_stay_first_then_the_often_forgotten():
    never, once, twice, learnt = [0, 0, 0, 0, 0], [1, 1, 0, 1, 1], [1, 0, 1, 0, 1], [0, 1, 1, 1, 1]
    evidence = Given(correct=np.array([learnt, once, never, twice]).T)
    assert order_of(forgetting(evidence, 0.5)) == [2, 3, 1, 0]


def test_a_visit_that_is_missing_joins_its_neighbours():
    nan = np.nan
    evidence = Given(correct=np.array([[1, nan, 0], [nan, 1, nan], [nan, 0, nan], [nan] * 3]).T)
    found = forgetting(evidence, 0.5)
    assert found.columns["forgetting_events"][:3].tolist() == [1, 0, np.inf]
    assert order_of(found) == [2, 0, 1, 3]


def test_which_of_equal_ones_stay_is_drawn():
    def kept(seed):
        evidence = Given(correct=np.ones((3, 100)), seed=seed)
        return frozenset(order_of(forgetting(evidence, 0.5))[:50])

    assert kept(0) == kept(0) != kept(1)
    assert 10 < sum(i < 50 for i in kept(0)) < 40
