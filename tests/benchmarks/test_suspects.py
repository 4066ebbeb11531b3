"""How much of a kind of fault the first fifth of a list holds."""

import numpy as np
import pytest

from benchmarks.planted_boxes import KINDS
from benchmarks.suspects import first_fifth

# 30% planted, so that 3% of each is a tenth as many of them beside 1.3 times as many clean ones.
KIND = np.repeat([*KINDS, "clean"], [100, 100, 100, 700])


@pytest.fixture
def scores():
    return np.random.default_rng(0).permutation(len(KIND)) / len(KIND)


def test_all_of_a_kind_at_the_head_is_five_times_chance(scores):
    for kind in KINDS:
        assert first_fifth(scores + (kind == KIND), KIND, kind) == 5.0


def test_none_of_a_kind_at_the_foot(scores):
    for kind in KINDS:
        assert first_fifth(scores - (kind == KIND), KIND, kind) == 0.0


def test_a_list_without_order_is_near_chance():
    rng = np.random.default_rng(1)
    many = [first_fifth(rng.random(len(KIND)), KIND, KINDS[0]) for _ in range(200)]
    assert np.mean(many) == pytest.approx(1.0, abs=0.05)


def test_equal_scores_lie_in_the_middle_of_the_list():
    assert first_fifth(np.zeros(len(KIND)), KIND, KINDS[0]) == 0.0


def test_against_a_list_in_which_each_image_is_as_often_as_it_weighs(scores):
    scores = scores + 0.2 * (KIND == KINDS[0])
    times = np.where(KIND == "clean", 13, 3)  # 91% and 9%, in 700·13 and 300·3 of 10,000
    long, kinds = np.repeat(scores, times), np.repeat(KIND, times)
    head = np.argsort(-long, kind="stable")[: len(long) // 5]
    found = (kinds[head] == KINDS[0]).sum() / (kinds == KINDS[0]).sum() / 0.2
    assert found == pytest.approx(first_fifth(scores, KIND, KINDS[0]), abs=5 / 100)
    assert 1.5 < found < 4.0
