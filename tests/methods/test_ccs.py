import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.cut import kept_count
from adapruner_det.methods.ccs import ccs, hardest_part

from .evidence import Given, ToyEvidence, order_of


def slow_budgets(values, count):
    """Stratum → how many of it are kept, by the paper's loop over what is left."""
    low, high = min(values), max(values)
    strata = {}
    for i, value in enumerate(values):
        number = 0 if high == low else min(int((value - low) / (high - low) * 50), 49)
        strata.setdefault(number, []).append(i)
    sizes, budgets = {number: len(own) for number, own in strata.items()}, {}
    while sizes:
        smallest = min(sorted(sizes), key=sizes.__getitem__)
        budgets[smallest] = min(sizes[smallest], count // len(sizes))
        count -= budgets[smallest]
        del sizes[smallest]
    return {number: (strata[number], budgets[number]) for number in strata}


@pytest.mark.parametrize("keep_ratio", [0.7, 0.5, 0.3, 0.2, 0.1, 0.05])
def test_each_stratum_keeps_its_budget_and_the_hardest_are_gone(keep_ratio):
    evidence = ToyEvidence(count=300)
    area = evidence.signal("margin").astype(np.float64).mean(0)
    kept = ccs(evidence, keep_ratio).kept
    beta = {0.7: 0, 0.5: 0, 0.3: 0.1, 0.2: 0.1, 0.1: 0.3, 0.05: 0.3}[keep_ratio]
    order = np.argsort(area)
    gone, rest = order[: round(300 * beta)], order[round(300 * beta) :]
    assert not kept[gone].any()
    budgets = slow_budgets(area[rest].tolist(), kept_count(300, keep_ratio))
    for members, budget in budgets.values():
        assert kept[rest[members]].sum() == budget
    assert len({budget for _, budget in budgets.values()}) > 1


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    st.floats(0.001, 1.0),
    st.integers(0, 99),
)
def test_it_keeps_exactly_the_rounded_part(margins, keep_ratio, seed):
    choice = ccs(Given(margin=[margins], seed=seed), keep_ratio)
    assert choice.kept.sum() == kept_count(len(margins), keep_ratio)
    assert set(order_of(choice)[: choice.kept.sum()]) == set(np.flatnonzero(choice.kept))


def test_a_small_stratum_stays_whole_and_the_rest_is_shared():
    """3 easy ones, 40 in the middle, 40 hard: 30 kept are 3, 13 and 14."""
    margins = [9.0] * 3 + [5.0] * 40 + [0.0] * 40
    kept = ccs(Given(margin=[margins]), 30 / 83).kept
    assert [kept[:3].sum(), sorted([kept[3:43].sum(), kept[43:].sum()])] == [3, [13, 14]]


def test_inside_a_stratum_all_have_the_same_chance():
    evidence = [Given(margin=[[0.0] * 10 + [1.0] * 30], seed=seed) for seed in range(500)]
    share = np.mean([ccs(own, 0.5).kept for own in evidence], axis=0)
    assert share[:10] == pytest.approx(1.0) and share[10:] == pytest.approx(1 / 3, abs=0.1)


def test_cuts_of_an_outcome_leave_out_the_hardest_too():
    evidence = ToyEvidence(count=200)
    area = evidence.signal("margin").astype(np.float64).mean(0)
    order = order_of(ccs(evidence, 0.1))
    assert order[-60:] == np.argsort(area)[:60][::-1].tolist()


@pytest.mark.parametrize(
    ("dropped", "part"),
    [(0.0, 0), (0.3, 0), (0.5, 0), (0.6, 0.05), (0.7, 0.1), (0.75, 0.1), (0.85, 0.2), (0.95, 0.3)],
)
def test_the_hardest_part_grows_with_the_cut(dropped, part):
    assert hardest_part(dropped) == pytest.approx(part)
