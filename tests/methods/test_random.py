import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from adapruner_det.samples import Samples


def samples(count, **known):
    keys = sorted(f"toy/{i}" for i in range(count))
    digests = np.arange(count, dtype=np.uint64)
    return Samples(keys, digests, {"toy": "f" * 64}, [[0]] * count, **known)


def draw(count, keep_ratio, seed=0):
    return random_selection(samples(count), keep_ratio, seed)


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(0, 2**31))
def test_it_keeps_exactly_the_rounded_part(count, keep_ratio, seed):
    assert draw(count, keep_ratio, seed).num_kept == max(1, round(keep_ratio * count))


def test_the_same_seed_draws_the_same_and_another_one_does_not():
    assert draw(200, 0.5, seed=3).kept_keys == draw(200, 0.5, seed=3).kept_keys
    assert draw(200, 0.5, seed=3).kept_keys != draw(200, 0.5, seed=4).kept_keys


def test_it_draws_what_release_0_1_drew():
    score = np.random.default_rng(5).random(10)
    keys = samples(10).keys
    assert draw(10, 0.3, seed=5).kept_keys == {keys[i] for i in np.argsort(score)[:3]}


def test_cuts_of_one_seed_are_nested():
    assert draw(200, 0.3).kept_keys < draw(200, 0.6).kept_keys
    assert draw(200, 0.6).cut(0.3).kept_keys == draw(200, 0.3).kept_keys


def test_every_sample_is_kept_as_often_as_the_ratio_says():
    kept = np.mean([draw(50, 0.7, seed).columns["kept"] for seed in range(400)], axis=0)
    assert kept == pytest.approx(0.7, abs=0.12)  # 5 standard errors of 400 draws


def test_it_says_what_it_is_of():
    selection = draw(10, 0.8, seed=5)
    assert (selection.method, selection.keep_ratio, selection.seed) == ("random", 0.8, 5)
    assert selection.datasets == {"toy": "f" * 64}


@pytest.mark.parametrize("keep_ratio", [0.0, -0.5, 1.01, float("nan")])
def test_a_keep_ratio_outside_0_to_1_is_refused(keep_ratio):
    with pytest.raises(DataError, match=r"\(0, 1\]"):
        draw(10, keep_ratio)
