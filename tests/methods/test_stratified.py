from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.cut import cut, kept_count
from adapruner_det.methods.stratified import rarest_class, stratified, stratified_score

from .evidence import Given


def kept_of(classes, keep_ratio, seed=0):
    choice = stratified(Given(classes, seed=seed), keep_ratio)
    return cut(np.zeros(len(classes)), choice.score, kept_count(len(classes), keep_ratio))


@given(st.integers(1, 6), st.integers(1, 20), st.floats(0.01, 1.0), st.integers(0, 99))
def test_classes_of_one_size_keep_alike_many_or_one_more(num_classes, size, keep_ratio, seed):
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(num_classes), size))
    kept = kept_of(classes, keep_ratio, seed)
    counts = [int(kept[classes == own].sum()) for own in range(num_classes)]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("keep_ratio", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_each_class_keeps_the_share(keep_ratio, seed):
    classes = np.repeat([0, 1, 7], [500, 100, 30])
    kept = kept_of(classes, keep_ratio, seed)
    for own, size in ((0, 500), (1, 100), (7, 30)):
        assert abs(kept[classes == own].sum() - keep_ratio * size) <= 2


@pytest.mark.parametrize(
    ("classes", "count"), [([0] * 5 + [1] * 5 + [2] * 5, 7), ([0, 1, 0, 1], 1), ([0, 1, 2, 2], 3)]
)
def test_inside_a_class_and_among_classes_all_have_the_same_chance(classes, count):
    ratio = count / len(classes)
    share = np.mean([kept_of(np.array(classes), ratio, seed) for seed in range(1500)], axis=0)
    assert share == pytest.approx(ratio, abs=0.06)  # 4.6 standard errors or more


def test_a_sample_of_several_classes_is_of_the_rarest():
    classes = [[0, 0], [0, 1], [0], [], [2, 1], [0, 2, 1], [1]]
    samples = replace(Given([0] * 7).samples, classes=classes)
    assert rarest_class(samples).tolist() == [0, 0, 0, -1, 2, 2, 1]


@given(st.integers(0, 99))
def test_detections_are_drawn_from_every_stratum(seed):
    rng = np.random.default_rng(seed)
    classes = [rng.integers(0, 4, rng.integers(0, 6)).tolist() for _ in range(200)]
    samples = replace(Given([0] * 200).samples, classes=classes)
    kept = cut(np.zeros(200), stratified_score(samples, seed), 120)
    own = rarest_class(samples)
    for stratum in np.unique(own):
        assert abs(kept[own == stratum].sum() - 0.6 * (own == stratum).sum()) <= 2
