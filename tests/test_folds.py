"""Folds are of one size, follow from the seed, and hold a group of near-copies whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.folds import assign_folds, near_copies
from tests.methods.evidence import samples


def alone(count):
    return np.arange(count)


# --- near_copies ---


def filmed(index):
    """Scenes of four frames, which differ by noise."""
    scene = np.random.default_rng(index // 4).integers(0, 200, (8, 8, 3))
    noise = np.random.default_rng(1000 + index).integers(0, 8, (8, 8, 3))
    return (scene + noise).astype(np.uint8)


def test_frames_of_a_scene_are_near_copies_and_other_images_are_not():
    found = near_copies(replace(samples(40), read_image=filmed))
    assert found.tolist() == [4 * (i // 4) for i in range(40)]
    assert near_copies(samples(40)).tolist() == list(range(40))


@pytest.mark.parametrize("own", [replace(samples(5), read_image=None), samples(1), samples(0)])
def test_where_nothing_is_to_be_compared_no_sample_is_a_copy(own):
    assert near_copies(own).tolist() == list(range(len(own)))


# --- assign_folds ---


@given(st.integers(2, 60), st.integers(2, 9), st.integers(0, 3))
def test_folds_differ_in_size_by_at_most_one(count, folds, seed):
    if folds > count:
        with pytest.raises(ValueError, match=f"{folds} folds of {count} samples"):
            assign_folds(alone(count), folds, seed)
        return
    sizes = np.bincount(assign_folds(alone(count), folds, seed), minlength=folds)
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1


@given(st.lists(st.integers(0, 12), min_size=6, max_size=80), st.integers(2, 6), st.integers(0, 3))
def test_groups_that_fit_stay_whole_and_no_fold_is_much_larger(group, folds, seed):
    group = np.array(group)
    found = assign_folds(group, folds, seed)
    fits = len(group) // folds
    largest = 1
    for number in np.unique(group):
        own = group == number
        if own.sum() <= fits:
            assert len(set(found[own].tolist())) == 1
        largest = max(largest, min(own.sum(), fits))
    sizes = np.bincount(found, minlength=folds)
    assert sizes.min() > 0 and sizes.max() - sizes.min() <= largest


def test_a_group_that_no_fold_can_hold_is_cut_between_frames_that_follow_each_other():
    group = np.array([*range(100, 110), *[7] * 20])
    found = assign_folds(group, 3, 0)  # folds of 10
    assert np.bincount(found).tolist() == [10, 10, 10]
    film = found[10:]
    assert len(set(film[:10])) == len(set(film[10:])) == 1 and film[0] != film[10]


def test_folds_follow_from_the_seed_and_say_nothing_of_the_order():
    assert assign_folds(alone(50), 3, 1).tolist() == assign_folds(alone(50), 3, 1).tolist()
    assert assign_folds(alone(50), 3, 1).tolist() != assign_folds(alone(50), 3, 2).tolist()
    pairs = np.arange(60) // 2
    assert assign_folds(pairs, 3, 1).tolist() != assign_folds(pairs, 3, 2).tolist()
    together = [
        assign_folds(alone(9), 3, seed)[0] == assign_folds(alone(9), 3, seed)[1]
        for seed in range(400)
    ]
    assert 0.15 < np.mean(together) < 0.35  # 2 of 8


@pytest.mark.parametrize("folds", [-1, 0, 1, 5])
def test_folds_that_cannot_be_are_refused(folds):
    with pytest.raises(ValueError, match=f"{folds} folds of 4 samples"):
        assign_folds(alone(4), folds, 0)
