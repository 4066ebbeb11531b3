import gzip

import numpy as np
import pytest
import torch

from adapruner_det.classification.packed import load_packed, read_idx
from adapruner_det.errors import DataError
from tests.classification.tiny import CLASSES, tiny_pixels, write_idx, write_packed


def test_strips_come_back_pixel_for_pixel(tmp_path):
    written = write_packed(tmp_path / "small")
    for found, split in zip(load_packed(tmp_path / "small"), ("train", "test"), strict=True):
        images, labels = written[split]
        assert found.name == f"small_{split}" and found.class_names == CLASSES
        assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), images)
        assert found.labels.tolist() == labels.tolist()


def test_idx_images_are_read_with_the_t10k_name_of_mnist(tmp_path):
    images, labels = tiny_pixels(12)
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", images[..., 0])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", labels)
    train, test = load_packed(tmp_path)
    assert train.images.shape == (12, 1, 8, 8) and test.name.endswith("_test")
    assert np.array_equal(test.images[:, 0].numpy(), images[..., 0])
    assert list(train.class_names) == ["0", "1", "2"]


def test_the_first_strips_alone_are_a_data_set(tmp_path):
    write_packed(tmp_path)
    (tmp_path / "train_003.webp").unlink()
    train, _ = load_packed(tmp_path)
    assert len(train) == 30


def break_strip(root):
    (root / "train_001.webp").write_bytes(b"no image")


def break_labels(root):
    path = root / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


def shorten_labels(root):
    path = root / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def remove_labels(root):
    (root / "test-labels-idx1-ubyte.gz").unlink()


def too_few_labels(root):
    write_idx(root / "train-labels-idx1-ubyte.gz", np.zeros(30))


def label_out_of_range(root):
    _, labels = tiny_pixels(36)
    labels[4] = 9
    write_idx(root / "train-labels-idx1-ubyte.gz", labels)


def two_classes_named(root):
    (root / "classes.txt").write_text("dark\nlight\nred\nviolet\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_strip, r"train_001\.webp does not decode"),
        (break_labels, r"train-labels-idx1-ubyte\.gz cannot be read"),
        (shorten_labels, r"states the shape \(36,\) but holds 35 bytes"),
        (remove_labels, "neither test-labels-idx1-ubyte nor"),
        (too_few_labels, "36 images but there are 30 labels"),
        (label_out_of_range, "/000004 is 9, outside 0 to 2"),
        (two_classes_named, "no image of violet"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    write_packed(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_packed(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder .*nowhere"):
        load_packed(tmp_path / "nowhere")


def test_another_file_is_no_idx_file(tmp_path):
    (tmp_path / "x").write_bytes(b"\x89PNG....")
    with pytest.raises(DataError, match="is not an idx file"):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize("shared_data", ["cifar100_part"], indirect=True)
def test_a_part_of_cifar_100(shared_data):
    train, test = load_packed(shared_data)
    assert train.images.shape == (5000, 3, 32, 32) and len(test) == 2000
    assert torch.bincount(train.labels).tolist() == [50] * 100


@pytest.mark.parametrize("shared_data", ["mnist"], indirect=True)
def test_mnist(shared_data):
    train, test = load_packed(shared_data)
    assert train.images.shape == (60000, 1, 28, 28) and len(test) == 10000
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
