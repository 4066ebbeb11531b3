"""What a seed draws: labels that are wrong, copies, and the same set again."""

import numpy as np
import pytest
from PIL import Image

from adapruner_det.errors import DataError
from benchmarks.objective_data import (
    CONDITIONS,
    SETTINGS,
    SOURCES,
    WRONG,
    Setting,
    load_pool,
    make_data,
)

SETTING = Setting(num_train=400, epochs=1, batch=50, hidden=4, side=2)


@pytest.fixture
def pool(monkeypatch):
    """500 images of 12 numbers that are all different, and 50 to test on."""
    monkeypatch.setitem(SETTINGS, "small", SETTING)
    images = np.random.default_rng(0).random((550, 12)).astype(np.float32)
    labels = np.arange(550) % 10
    return images[:500], labels[:500], images[500:], labels[500:]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_seed_draws_the_same_set_again_and_another_seed_another(pool, condition):
    first, again, other = (make_data("small", pool, condition, seed) for seed in (3, 3, 4))
    assert len(first.images) == 400
    for name in ("images", "labels", "wrong", "source"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.images != other.images).any()
    np.testing.assert_array_equal(first.test_images, pool[2])


def test_wrong_labels_are_as_many_as_are_said_and_all_of_them_wrong(pool):
    clean, wrong = (make_data("small", pool, c, 0) for c in ("clean", "wrong"))
    assert not clean.wrong.any() and wrong.wrong.sum() == round(WRONG * 400)
    np.testing.assert_array_equal(clean.images, wrong.images)
    np.testing.assert_array_equal((clean.labels != wrong.labels).numpy(), wrong.wrong)


def test_half_of_the_twins_are_near_copies_of_a_tenth(pool):
    data = make_data("small", pool, "twins", 0)
    copies = data.source != np.arange(400)
    assert copies.sum() == 200 and len(np.unique(data.source[copies])) <= round(SOURCES * 400)
    assert not copies[data.source].any()  # none is a copy of a copy
    np.testing.assert_array_equal(data.labels, data.labels[data.source])
    away = np.linalg.norm(data.images - data.images[data.source], axis=1)
    assert away[copies].max() < 0.5 * np.linalg.norm(data.images - data.images[0], axis=1).mean()
    assert (away[copies] > 0).all()


def test_images_are_averaged_block_by_block_and_cifar10_is_standardised(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, "mnist", SETTING)
    monkeypatch.setitem(SETTINGS, "cifar10", SETTING)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    for split in ("train", "test"):
        Image.fromarray(pixels.reshape(24, 4, 3)).save(tmp_path / f"{split}_000.png")
        head = b"\0\0\x08\x01" + (6).to_bytes(4, "big")
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(head + bytes([0, 1, 2, 0, 1, 2]))
    plain, labels, tests, _ = load_pool("mnist", tmp_path)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    for i, row, column in ((0, 0, 0), (5, 1, 0)):
        block = pixels[i, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        own = plain[i].reshape(2, 2, 3)[row, column]
        np.testing.assert_allclose(own, block.mean((0, 1)) / 255, rtol=1e-6)
    np.testing.assert_array_equal(plain, tests)
    scaled = load_pool("cifar10", tmp_path)[0]
    np.testing.assert_allclose(scaled, (plain - plain.mean(0)) / plain.std(0), rtol=1e-5)


def test_a_set_without_its_folder_is_asked_for():
    with pytest.raises(DataError, match="mnist is read from a folder: give it as --root"):
        load_pool("mnist", None)
