import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapruner_det.classification.packed import load_packed, read_idx
from adapruner_det.errors import DataError
from tests.classification.tiny import CLASSES, tiny_pixels, write_idx, write_packed


def test_strips_come_back_pixel_for_pixel(tmp_path):
    written = write_packed(tmp_path / "small")
    for found, split in zip(load_packed(tmp_path / "small"), ("train", "test"), strict=True):
        images, labels = written[split]
        assert found.name == f"packed_{split}" and found.class_names == CLASSES
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


def test_files_that_are_passed_over_are_said(tmp_path, caplog):
    images, labels = tiny_pixels(12)
    for split in ("train", "t10k", "test"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", images[..., 0])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", labels)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"")
    load_packed(tmp_path)
    told = [record.getMessage() for record in caplog.records]
    assert "t10k-* is the test set; test-* beside it is not read" in told[0]
    assert "train-labels-idx1-ubyte.gz is read" in told[1] and "beside it is not" in told[1]
    assert len(told) == 2


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


def a_strip_is_missing(root):
    (root / "train_001.webp").unlink()


def the_first_strips_are_missing(root):
    for name in ("train_000.webp", "train_001.webp"):
        (root / name).unlink()


def a_strip_is_there_twice(root):
    Image.open(root / "train_001.webp").save(root / "train_001.png")


def a_strip_is_short(root):
    rows = np.asarray(Image.open(root / "train_001.webp"))[:-8]
    Image.fromarray(rows).save(root / "train_001.webp", lossless=True)


def a_strip_is_wide(root):
    Image.new("RGB", (10, 100)).save(root / "train_001.webp", lossless=True)


def a_strip_is_not_square(root):
    Image.new("RGB", (8, 79)).save(root / "train_001.webp", lossless=True)


def a_strip_of_16_bits(root):
    (root / "train_001.webp").unlink()
    Image.fromarray(np.zeros((80, 8), np.uint16)).save(root / "train_001.png")


def label_above_all_of_training(root):
    (root / "classes.txt").unlink()
    write_idx(root / "test-labels-idx1-ubyte.gz", np.array([0, 1, 2, 3] * 3))


def a_class_named_twice(root):
    (root / "classes.txt").write_text("dark\nlight\ndark\n")


def a_class_without_a_name(root):
    (root / "classes.txt").write_text("dark\n\nred\n")


def another_encoding(root):
    (root / "classes.txt").write_bytes("dark\nlight\nrêd\n".encode("latin-1"))


def images_of_four_dimensions(root):
    for path in root.glob("train_*"):
        path.unlink()
    write_idx(root / "train-images-idx3-ubyte.gz", tiny_pixels(36)[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_strip, r"train_001\.webp is not an image"),
        (break_labels, r"train-labels-idx1-ubyte\.gz cannot be read"),
        (shorten_labels, r"states the shape \(36,\) but holds 35 bytes"),
        (remove_labels, "neither test-labels-idx1-ubyte nor"),
        (too_few_labels, "36 images but there are 30 labels"),
        (label_out_of_range, "/000004 is 9, outside 0 to 2"),
        (two_classes_named, "no image of violet"),
        (a_strip_is_missing, "go from number 0 to 2"),
        (the_first_strips_are_missing, r"train_002\.webp is the first strip of train"),
        (a_strip_is_there_twice, r"train_001\.png and .*train_001\.webp are one strip"),
        (a_strip_is_short, r"train_001\.webp holds 9 images, train_000\.webp 10"),
        (a_strip_is_wide, r"train_001\.webp is 10 pixels wide, train_000\.webp 8"),
        (a_strip_is_not_square, r"train_001\.webp is 8×79"),
        (a_strip_of_16_bits, r"train_001\.png has the mode 'I;16'"),
        (label_above_all_of_training, r"packed_test/000003 is 3, outside 0 to 2"),
        (a_class_named_twice, r"classes\.txt, line 3: the class 'dark' is there a second time"),
        (a_class_without_a_name, r"classes\.txt, line 2: '' is no name"),
        (another_encoding, r"classes\.txt is not UTF-8"),
        (images_of_four_dimensions, r"train-images-idx3-ubyte\.gz has 4 dimensions, expected 3"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    write_packed(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_packed(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_class_has_one_line_and_keeps_its_spaces(tmp_path, encoding):
    write_packed(tmp_path)
    text = "dark\r\npolar bear\r\nRE\N{COMBINING ACUTE ACCENT}D\r\n\r\n"
    (tmp_path / "classes.txt").write_bytes(text.encode(encoding))
    assert load_packed(tmp_path)[0].class_names == ["dark", "polar bear", "RÉD"]


def test_other_files_are_said_and_not_read(tmp_path, caplog):
    write_packed(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "train_preview.png")
    assert len(load_packed(tmp_path)[0]) == 36
    assert "train_preview.png is not read" in caplog.text


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no folder .*nowhere"):
        load_packed(tmp_path / "nowhere")


def test_another_file_is_no_idx_file(tmp_path):
    (tmp_path / "x").write_bytes(b"\x89PNG....")
    with pytest.raises(DataError, match="is not an idx file"):
        read_idx(tmp_path / "x")


def header(*shape):
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (header(2**32 - 1), "states the shape .* but a file of"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1), "but a file of"),
        (header(5, 0, 7), r"states the empty shape \(5, 0, 7\)"),
        (b"\0\0\x08\0", "has 0 dimensions, expected 1 or 2 or 3 or 4"),
        (b"\0\0\x08\xff" + b"\0" * 2000, "has 255 dimensions"),
        (header(5, 5, 5)[:9], "ends within its header"),
        (header(3) + b"1234", "but holds more"),
        (b"\0\0\x0d\1" + b"\0" * 9, "is not an idx file"),
        (b"", "is not an idx file"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, raw, message, pack):
    path = tmp_path / ("x.gz" if pack is gzip.compress else "x")
    path.write_bytes(pack(raw))
    with pytest.raises(DataError, match=message if raw or pack is bytes else "idx file"):
        read_idx(path)


def test_of_a_gzip_bomb_no_more_is_unpacked_than_it_states(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header(1000))
        for _ in range(200):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"states the shape \(1000,\) but holds more"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


@settings(max_examples=60)
@given(
    raw=st.binary(max_size=40), start=st.sampled_from([b"", b"\0\0\x08", header(3), header(2, 2)])
)
def test_whatever_a_file_holds_is_read_or_refused(tmp_path_factory, raw, start):
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(start + raw)
    try:
        found = read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert start + raw == header(*found.shape) + found.tobytes()


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
