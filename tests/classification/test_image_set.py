from dataclasses import replace

import numpy as np
import pytest
import torch

from adapruner_det.classification.image_set import draw, from_arrays, split_off, with_wrong_labels
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from tests.classification.tiny import CLASSES, tiny_set


def test_keys_are_sorted_and_a_subset_keeps_image_label_and_key_together():
    images = tiny_set()
    assert list(images.keys) == sorted(images.keys) and images.keys[7] == "tiny_train/000007"
    part = images.subset(torch.tensor([20, 3, 7]))
    assert part.keys == [images.keys[i] for i in (3, 7, 20)]
    assert torch.equal(part.images, images.images[[3, 7, 20]])
    assert torch.equal(part.labels, images.labels[[3, 7, 20]])


def test_grey_arrays_get_a_channel():
    images = from_arrays("x", np.zeros((2, 4, 5), np.uint8), np.array([0, 1]), ["a", "b"])
    assert images.images.shape == (2, 1, 4, 5)


def test_a_label_out_of_range_is_named():
    images = tiny_set()
    images.labels[5] = 3
    with pytest.raises(DataError, match=r"label of tiny_train/000005 is 3, outside 0 to 2"):
        images.checked()


def test_a_class_with_no_sample_is_named():
    images = tiny_set()
    with pytest.raises(DataError, match="no image of green"):
        replace(images, class_names=[*CLASSES, "green"]).checked()


def test_an_empty_set_and_unequal_numbers_are_refused():
    images = tiny_set()
    with pytest.raises(DataError, match="has no image"):
        images.subset(torch.tensor([], dtype=torch.int64)).checked()
    with pytest.raises(DataError, match="36 images and 35 labels"):
        replace(images, labels=images.labels[1:]).checked()


def test_digests_tell_a_changed_pixel_and_a_changed_label():
    images = tiny_set()
    before = images.digests()
    images.images[4, 0, 0, 0] ^= 1
    images.labels[9] = (images.labels[9] + 1) % 3
    assert np.flatnonzero(before != images.digests()).tolist() == [4, 9]


def test_exactly_the_kept_samples_remain_and_other_data_are_refused():
    images = tiny_set()
    digests = images.digests()
    fingerprints = images.fingerprints(digests)
    selection = random_selection(list(images.keys), digests, fingerprints, 0.5, seed=1)
    assert set(images.kept(selection).keys) == selection.kept_keys
    images.labels[2] = (images.labels[2] + 1) % 3
    with pytest.raises(DataError, match=r"1 of 36 samples differ, first tiny_train/000002"):
        images.kept(selection)


def test_wrong_labels_are_exactly_so_many_and_all_wrong():
    images = tiny_set()
    noisy, wrong = with_wrong_labels(images, 0.25, seed=0)
    assert torch.equal(torch.nonzero(noisy.labels != images.labels).flatten(), wrong)
    assert len(wrong) == 9 and noisy.labels.max() <= 2
    again, _ = with_wrong_labels(images, 0.25, seed=0)
    other, _ = with_wrong_labels(images, 0.25, seed=1)
    assert torch.equal(noisy.labels, again.labels) and not torch.equal(noisy.labels, other.labels)


def test_a_hold_out_and_the_rest_make_the_whole():
    images = tiny_set()
    rest, held = split_off(images, 0.25, seed=3)
    assert (len(rest), len(held)) == (27, 9)
    assert sorted([*rest.keys, *held.keys]) == list(images.keys)


def test_draws_are_distinct_and_nested():
    few, many = draw(100, 10, seed=5), draw(100, 30, seed=5)
    assert len(set(many.tolist())) == 30 and set(few.tolist()) < set(many.tolist())
