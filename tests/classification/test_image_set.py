import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapruner_det.classification.folder import load_folder
from adapruner_det.classification.image_set import draw, from_arrays, shrunk, split_off
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from adapruner_det.selection import Selection
from tests.classification.tiny import CLASSES, tiny_pixels, tiny_set, write_folder


def test_keys_are_sorted_and_a_subset_keeps_image_label_and_key_together():
    images = tiny_set()
    assert list(images.keys) == sorted(images.keys) and images.keys[7] == "tiny_train/000007"
    part = images.subset(torch.tensor([20, 3, 7]))
    assert part.keys == [images.keys[i] for i in (3, 7, 20)]
    assert torch.equal(part.images, images.images[[3, 7, 20]])
    assert torch.equal(part.labels, images.labels[[3, 7, 20]])


def test_the_keys_of_more_than_a_million_images_are_sorted_too():
    pixels = np.zeros((1_000_001, 1, 1), np.uint8)
    keys = from_arrays("x", pixels, np.zeros(len(pixels)), ["a"]).keys
    assert (keys[0], keys[-1]) == ("x/0000000", "x/1000000") and keys == sorted(keys)


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


def changed(images, pixel=None, label=None):
    """A set like ``images`` with another pixel in one image, another label of one, or both."""
    pixels, labels = images.images.clone(), images.labels.clone()
    if pixel is not None:
        pixels[pixel, 0, 0, 0] ^= 1
    if label is not None:
        labels[label] = (labels[label] + 1) % 3
    return replace(images, images=pixels, labels=labels)


def test_the_samples_are_what_the_set_is():
    images = tiny_set()
    samples = images.samples
    assert samples.keys == images.keys and len(samples) == 36
    assert list(samples.datasets) == ["tiny_train"]
    assert samples.classes == [[label] for label in images.labels.tolist()]
    assert list(samples.class_names) == CLASSES and samples.sizes.tolist() == [1] * 36
    assert (samples.digest_of, samples.excluded) == ("pixels", {})
    assert images.samples is samples  # digests are made once
    left_out = {"tiny_train/x": "is broken"}
    of_files = replace(images, contents=["0"] * 36, excluded=left_out).samples
    assert (of_files.digest_of, of_files.excluded) == ("bytes", left_out)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_samples_is_rgb(tmp_path, channels):
    pixels, labels = tiny_pixels(5)
    images = from_arrays("x", pixels[..., :channels], labels, CLASSES)
    for i in (0, 3):
        expected = np.repeat(pixels[i, ..., :1], 3, 2) if channels == 1 else pixels[i]
        assert np.array_equal(images.samples.image(i), expected)
        assert images.samples.image(i).dtype == np.uint8


def test_an_image_of_the_samples_is_read_from_its_file(tmp_path):
    write_folder(tmp_path)
    unread, _ = load_folder(tmp_path, 10, memory_mb=0)
    read, _ = load_folder(tmp_path, 10)
    assert torch.is_tensor(read.images) and not torch.is_tensor(unread.images)
    found = unread.samples.image(7)
    assert np.array_equal(found, read.images[7].permute(1, 2, 0).numpy())
    assert np.array_equal(found, read.samples.image(7)) and found.shape == (10, 10, 3)


def test_digests_tell_a_changed_pixel_and_a_changed_label():
    before, after = tiny_set().samples, changed(tiny_set(), pixel=4, label=9).samples
    assert np.flatnonzero(before.digests != after.digests).tolist() == [4, 9]
    assert before.fingerprint != after.fingerprint


def test_exactly_the_kept_samples_remain_and_other_data_are_refused():
    images = tiny_set()
    selection = random_selection(images.samples, 0.5, seed=1)
    assert set(images.kept(selection).keys) == selection.kept_keys
    with pytest.raises(DataError, match=r"1 of 36 samples differ, first tiny_train/000002"):
        changed(images, label=2).kept(selection)


def old_selection(images, name, ids, digests=None):
    """As version 0.1 wrote it, of the data set ``name``."""
    keys = sorted(f"{name}/{i}" for i in ids)
    digests = np.arange(len(keys), dtype=np.uint64) if digests is None else digests
    columns = {"key": np.array(keys), "digest": digests, "kept": np.arange(len(keys)) % 3 > 0}
    columns["score"] = np.zeros(len(keys))
    return Selection("adapruner", 0.67, 0, {name: "x"}, columns)


def of_files(images, name="folder_train"):
    """The same set, as if it lay in files."""
    names = ["cafe\N{COMBINING ACUTE ACCENT}", "zz"]
    ids = [f"a\\{names[i % 2] if i > 33 else ''}{i:02d}.png" for i in range(len(images))]
    keys = sorted(f"{name}/{unicodedata.normalize('NFC', i)}" for i in ids)
    contents = [f"{i:016x}" for i in range(len(images))]
    return replace(images, name=name, keys=keys, contents=contents), ids


def test_a_selection_of_version_0_1_is_known_by_its_image_ids(caplog):
    images, ids = of_files(tiny_set())
    selection = old_selection(images, "k00_train", ids)
    kept = images.kept(selection)
    old = {unicodedata.normalize("NFC", k.partition("/")[2]) for k in selection.kept_keys}
    assert {key.partition("/")[2] for key in kept.keys} == old
    assert caplog.text.count("found by their names alone") == 1
    for other in (ids[1:], [*ids, "a\\new.png"], [*ids[1:], "a\\new.png"]):
        with pytest.raises(DataError, match="made from other data: [12] of 3[567] samples differ"):
            images.kept(old_selection(images, "k00_train", other))


def test_a_selection_by_the_files_bytes_is_not_known_by_names_alone(caplog):
    images, _ = of_files(tiny_set())
    selection = replace(
        random_selection(images.samples, 0.5, seed=1),
        digest_of="bytes",
    )
    assert len(images.kept(selection)) == 18 and "names alone" not in caplog.text
    other = replace(images, contents=["1" * 16, *images.contents[1:]])
    with pytest.raises(DataError, match="1 of 36 samples differ, first folder_train/"):
        other.kept(selection)


def test_the_name_of_a_packed_folder_does_not_matter_and_its_pixels_do():
    images = tiny_set(name="packed_train")
    digests, ids = images.samples.digests, [f"{i:06d}" for i in range(36)]
    selection = old_selection(images, "cifar10_train", ids, digests)
    assert len(images.kept(selection)) == 24
    with pytest.raises(DataError, match="1 of 36 samples differ, first packed_train/000003"):
        changed(images, pixel=3).kept(selection)
    with pytest.raises(DataError, match="first cifar10_train/000000"):
        tiny_set().kept(selection)  # whose name is its own


def test_what_the_pruning_run_left_out_is_left_out_again(caplog):
    images = tiny_set()
    part = images.subset(torch.arange(34))
    selection = random_selection(part.samples, 0.5, seed=1)
    with pytest.raises(DataError, match="2 of 36 samples differ"):
        images.kept(selection)
    selection = replace(selection, excluded=dict.fromkeys(images.keys[34:], "broken"))
    assert len(images.kept(selection)) == 17
    assert "2 image(s) that the pruning run left out are left out here too" in caplog.text


def test_a_selection_learns_the_classes_of_this_set():
    images = tiny_set()
    selection = random_selection(images.samples, 0.5, seed=1)
    columns = {**selection.columns, "kept": (images.labels != 2).numpy()}
    found = images.checked_selection(replace(selection, columns=columns))
    assert found.lost_classes() == ["red"]


def test_a_hold_out_and_the_rest_make_the_whole():
    images = tiny_set()
    rest, held = split_off(images, 0.25, seed=3)
    assert (len(rest), len(held)) == (27, 9)
    assert sorted([*rest.keys, *held.keys]) == list(images.keys)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_hold_out_that_leaves_nothing_on_one_side_is_refused(share):
    with pytest.raises(DataError, match=r"DATA\.HOLDOUT .* of 36 images is"):
        split_off(tiny_set(), share, seed=0)


def test_shrinking_takes_the_means_of_blocks():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    images = from_arrays("toy", pixels, np.arange(5) % 2, ["a", "b"])
    small = shrunk(images, 2)
    assert small.images.shape == (5, 3, 2, 3) and small.images.dtype == torch.uint8
    mean = pixels[3, 2:4, 4:6, 1].mean()
    assert abs(float(small.images[3, 1, 1, 2]) - mean) <= 0.5
    assert shrunk(images, 1) is images
    with pytest.raises(DataError, match="4x6: the sides must be multiples"):
        shrunk(images, 3)


def test_images_in_files_are_not_shrunk():
    class Unread:
        shape = (36, 3, 8, 8)

    with pytest.raises(DataError, match="set DATA.SIZE"):
        shrunk(replace(tiny_set(), images=Unread()), 2)


def test_draws_are_distinct_and_nested():
    few, many = draw(100, 10, seed=5), draw(100, 30, seed=5)
    assert len(set(many.tolist())) == 30 and set(few.tolist()) < set(many.tolist())
