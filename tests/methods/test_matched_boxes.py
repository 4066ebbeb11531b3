import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.cut import cut, kept_count
from adapruner_det.methods.matched_boxes import STRATUM, matched_boxes, strata

from .evidence import Given


def kept_of(counts, keep_ratio, seed=0):
    choice = matched_boxes(Given([[0] * int(n) for n in counts], seed=seed), keep_ratio)
    return cut(np.zeros(len(counts)), choice.score, kept_count(len(counts), keep_ratio)), choice


def slow_strata(counts, fewest):
    """From the least count on: a stratum closes once it has enough, and so do all above it."""
    found, groups = [0] * len(counts), [[]]
    for own in sorted(set(counts)):
        left = [c for c in counts if c >= own]
        if len(groups[-1]) >= fewest and len(left) >= fewest:
            groups.append([])
        groups[-1] += [i for i, c in enumerate(counts) if c == own]
    for number, group in enumerate(groups):
        for i in group:
            found[i] = number
    return found


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 12))
def test_strata_are_of_neighbouring_counts_and_large_enough(counts, fewest):
    found = strata(np.array(counts), fewest)
    assert found.tolist() == slow_strata(counts, fewest)
    assert np.bincount(found).min() >= min(fewest, len(counts))
    assert (np.diff(found[np.argsort(counts, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("keep_ratio", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_each_number_of_boxes_keeps_its_share(keep_ratio, seed):
    """So the kept have as many boxes an image as all; a plain draw varies more."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.exponential(6.0, 400))
    kept, choice = kept_of(counts, keep_ratio, seed)
    assert choice.columns["boxes"].tolist() == counts.tolist()
    for own in np.unique(stratum := choice.columns["stratum"]):
        members = stratum == own
        assert members.sum() >= STRATUM
        assert abs(kept[members].sum() - keep_ratio * members.sum()) <= 2
    drawn = [counts[rng.permutation(400)[: kept.sum()]].mean() for _ in range(200)]
    assert abs(counts[kept].mean() - counts.mean()) < np.std(drawn)


def test_all_have_the_same_chance():
    counts = np.repeat([0, 1, 2, 9, 40], [12, 11, 3, 2, 12])
    share = np.mean([kept_of(counts, 0.4, seed)[0] for seed in range(1000)], axis=0)
    assert share == pytest.approx(0.4, abs=0.08)  # 5 standard errors


@pytest.mark.parametrize("counts", [[3], [0], [0, 0], [2] * 30, [1, 2]])
def test_few_samples_or_all_alike_are_drawn(counts):
    kept, _ = kept_of(np.array(counts), 0.5)
    assert kept.sum() == kept_count(len(counts), 0.5)
