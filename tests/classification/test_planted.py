from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.classification.image_set import from_arrays
from adapruner_det.classification.planted import SOURCES, with_twins, with_wrong_labels
from adapruner_det.errors import DataError

from .tiny import tiny_set


def test_wrong_labels_are_exactly_so_many_and_all_wrong():
    images = tiny_set()
    noisy, wrong = with_wrong_labels(images, 0.25, seed=0)
    assert torch.equal(torch.nonzero(noisy.labels != images.labels).flatten(), wrong)
    assert len(wrong) == 9 and noisy.labels.max() <= 2
    again, _ = with_wrong_labels(images, 0.25, seed=0)
    other, _ = with_wrong_labels(images, 0.25, seed=1)
    assert torch.equal(noisy.labels, again.labels) and not torch.equal(noisy.labels, other.labels)


def test_one_class_has_no_wrong_labels():
    images = replace(tiny_set(), labels=torch.zeros(36, dtype=torch.int64), class_names=["a"])
    with pytest.raises(DataError, match="needs two classes"):
        with_wrong_labels(images, 0.1, seed=0)
    assert not len(with_wrong_labels(images, 0.0, seed=0)[1])


@settings(max_examples=25)
@given(st.floats(0.05, 0.8), st.integers(0, 5))
def test_twins_are_near_copies_of_few_others(share, seed):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    images = from_arrays("noise", pixels, np.arange(60) % 3, ["a", "b", "c"])
    found, copies = with_twins(images, share, seed)
    assert len(copies) == round(share * 60) and torch.equal(copies, copies.unique())
    same = (found.images == images.images).flatten(1).all(1)
    rest = torch.ones(60, dtype=torch.bool)
    rest[copies] = False
    assert same[rest].all() and torch.equal(found.labels[rest], images.labels[rest])
    origins = set()
    for copy in copies.tolist():
        far = (found.images[copy].float() - images.images[rest].float()).abs().flatten(1).mean(1)
        origin = int(torch.nonzero(rest).flatten()[far.argmin()])
        assert far.min() < 30 and found.labels[copy] == images.labels[origin]
        origins.add(origin)
    assert len(origins) <= round(SOURCES * 60)


def test_twins_are_drawn_by_the_seed_and_change_the_digests():
    images = tiny_set(60)
    found, copies = with_twins(images, 0.5, 1)
    again, same = with_twins(images, 0.5, 1)
    assert torch.equal(found.images, again.images) and torch.equal(copies, same)
    assert not torch.equal(copies, with_twins(images, 0.5, 2)[1])
    changed = found.samples.digests != images.samples.digests
    assert np.array_equal(np.flatnonzero(changed), copies.numpy())
    assert with_twins(images, 0.0, 1)[0] is images


@pytest.mark.parametrize("plant", [with_wrong_labels, with_twins])
def test_what_is_planted_is_not_what_an_epoch_begins_with(plant):
    """An epoch's order is drawn from the same small numbers: the run's seed and the epoch."""
    planted = plant(tiny_set(600), 0.25, seed=0)[1].numpy()
    for epoch in range(5):
        first = np.random.default_rng([0, epoch]).permutation(600)[:150]
        assert 15 < np.isin(first, planted).sum() < 60  # 37.5 on average


def test_twins_need_sources_and_images_in_memory():
    with pytest.raises(DataError, match="leaves too few to be copied"):
        with_twins(tiny_set(60), 0.95, 0)

    class Unread:
        shape = (60, 3, 8, 8)

    with pytest.raises(DataError, match="fit in DATA.MEMORY_MB"):
        with_twins(replace(tiny_set(60), images=Unread()), 0.5, 0)
