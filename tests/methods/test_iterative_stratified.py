import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.cut import cut, kept_count
from adapruner_det.methods.iterative_stratified import PARTS, iterative_stratified, parts
from adapruner_det.methods.stratified import stratified_score

from .evidence import Given


def several(seed, count=300, num_classes=12):
    """Classes of a long tail, of which images have several."""
    rng = np.random.default_rng(seed)
    share = 0.6 / np.arange(1, num_classes + 1)
    return [np.flatnonzero(rng.random(num_classes) < share).tolist() for _ in range(count)]


class Recorded:
    """A random generator whose draws are written down."""

    def __init__(self, rng, dealt):
        self._rng, self._dealt = rng, dealt

    def permutation(self, values):
        order = self._rng.permutation(values)
        self._dealt.append(order.tolist())
        return order

    def choice(self, values):
        return self._rng.choice(values)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=25),
    st.integers(2, 4),
    st.integers(0, 20),
)
def test_it_deals_as_the_paper_does(classes, count, seed):
    """Step by step, each count taken anew: of the class, then of the images."""
    rounds, make = [], np.random.default_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: Recorded(make(seed), rounds))
        found = parts(classes, count, seed)
    sets, dealt = [set(own) for own in classes], []
    for batch in rounds:
        left = [i for i in range(len(sets)) if i not in dealt]
        counts = {c: sum(c in sets[i] for i in left) for c in set().union(*(sets[i] for i in left))}
        rarest = min(counts, key=lambda c: (counts[c], c), default=None)
        assert sorted(batch) == [i for i in left if rarest is None or rarest in sets[i]]
        for sample in batch:
            lacks = []
            for part in range(count):
                there = [i for i in dealt if found[i] == part]
                of_class = sum(rarest in own for own in sets) / count
                of_class -= sum(rarest in sets[i] for i in there)
                lacks.append((round(of_class, 6), round(len(sets) / count - len(there), 6)))
            assert lacks[found[sample]] == max(lacks)
            dealt.append(sample)
    assert sorted(dealt) == list(range(len(sets)))


@pytest.mark.parametrize("keep_ratio", [0.8, 0.5, 0.3])
def test_each_class_keeps_its_share_nearer_than_by_the_rarest_alone(keep_ratio):
    off = {"iterative": 0.0, "rarest": 0.0, "drawn": 0.0}
    for seed in range(6):
        classes = several(seed)
        evidence = Given(classes, seed=seed)
        scores = {
            "iterative": iterative_stratified(evidence, keep_ratio).score,
            "rarest": stratified_score(evidence.samples, seed),
            "drawn": np.random.default_rng(seed).random(300),
        }
        has = np.array([[c in own for c in range(12)] for own in classes])
        for name, score in scores.items():
            kept = cut(np.zeros(300), score, kept_count(300, keep_ratio))
            off[name] += np.abs(has[kept].sum(0) - keep_ratio * has.sum(0)).mean() / 6
    assert off["iterative"] < 0.8 * off["rarest"] < 0.8 * off["drawn"]
    assert off["iterative"] < 1.3


def test_of_one_class_a_sample_each_part_has_as_many_of_each():
    classes = np.repeat([0, 1, 2], [100, 40, 20])
    part = iterative_stratified(Given(classes), 0.5).columns["part"]
    for own, each in ((0, 10), (1, 4), (2, 2)):
        assert np.bincount(part[classes == own]).tolist() == [each] * PARTS


def test_all_have_the_same_chance():
    classes = [[0], [0, 1], [1], [], [2, 2], [0, 2]] * 5
    kept = np.zeros(30)
    for seed in range(600):
        score = iterative_stratified(Given(classes, seed=seed), 0.4).score
        kept += cut(np.zeros(30), score, 12)
    assert kept / 600 == pytest.approx(0.4, abs=0.1)  # 5 standard errors


@pytest.mark.parametrize("classes", [[[]], [[3]], [[], []], [[1, 1], [1]]])
def test_few_samples_and_none_with_a_class_are_served(classes):
    score = iterative_stratified(Given(classes), 0.5).score
    assert np.isfinite(score).all() and len(score) == len(classes)
