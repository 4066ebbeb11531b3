import os
import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from adapruner_det.classification.folder import load_folder
from adapruner_det.errors import DataError
from tests.classification.tiny import tiny_pixels, write_folder


def test_a_folder_reads_alike_from_memory_and_from_files(tmp_path):
    write_folder(tmp_path / "shapes")
    in_memory, _ = load_folder(tmp_path / "shapes", 10)
    in_files, _ = load_folder(tmp_path / "shapes", 10, memory_mb=0)
    assert torch.is_tensor(in_memory.images) and not torch.is_tensor(in_files.images)
    assert in_files.keys[0] == "folder_train/dark\\000.png" and in_files.keys == in_memory.keys
    images, labels = tiny_pixels(18, 10, seed=6)
    for i, key in enumerate(in_memory.keys):
        source = int(key[-7:-4])
        assert in_memory.labels[i] == labels[source]
        assert np.array_equal(in_memory.images[i].permute(1, 2, 0).numpy(), images[source])
        assert torch.equal(in_files.images.read(i), in_memory.images[i])


def test_images_are_resized_and_val_serves_as_test(tmp_path, caplog):
    train, test = load_folder(write_folder(tmp_path, test_name="val"), 6)
    assert train.images.shape == (18, 3, 6, 6) and test.name == "folder_val"
    write_folder(tmp_path)
    assert load_folder(tmp_path, 6)[1].name == "folder_test"
    assert "val is not read" in caplog.text


def test_a_sample_is_known_by_its_file_s_bytes_however_it_is_read(tmp_path):
    write_folder(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for path in (tmp_path / "two").rglob("*.png"):
        os.utime(path, (1, 1))
    train, _ = load_folder(tmp_path / "one", 10)
    for options in ({}, {"memory_mb": 0}):
        other, _ = load_folder(tmp_path / "two", 7, **options)
        assert other.keys == train.keys
        assert np.array_equal(other.samples.digests, train.samples.digests)
    part = other.subset(torch.tensor([3, 5]))
    assert np.array_equal(part.samples.digests, train.samples.digests[[3, 5]])
    changed = tmp_path / "two" / "train" / "light" / "001.png"
    size = changed.stat().st_size
    pixels = np.array(Image.open(changed))
    for _ in range(300):  # other pixels in a file of the same size
        pixels[0, 0] += 1
        Image.fromarray(pixels).save(changed)
        if changed.stat().st_size == size:
            break
    other, _ = load_folder(tmp_path / "two", 7, memory_mb=0)
    differs = np.flatnonzero(other.samples.digests != train.samples.digests)
    assert [other.keys[i] for i in differs] == ["folder_train/light\\001.png"]


def test_images_are_upright_as_their_orientation_says(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "train" / "dark" / "x.jpg"
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = 255  # white above; orientation 3 turns it upside down
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    for options in ({}, {"memory_mb": 0}):
        train, _ = load_folder(tmp_path, 10, **options)
        place = list(train.keys).index("folder_train/dark\\x.jpg")
        image = train.images[place] if torch.is_tensor(train.images) else train.images.read(place)
        assert image[:, 0].float().mean() < 20 and image[:, -1].float().mean() > 235


def test_an_all_grey_folder_has_one_channel(tmp_path):
    write_folder(tmp_path)
    for path in tmp_path.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert load_folder(tmp_path, 10)[0].images.shape[1] == 1


def one_grey(root):
    path = root / "train" / "light" / "001.png"
    Image.open(path).convert("L").save(path)


def broken_header(root):
    (root / "train" / "light" / "001.png").write_bytes(b"no image")


def broken_pixels(root):
    path = root / "test" / "red" / "002.png"
    path.write_bytes(path.read_bytes()[:150])


def sixteen_bits(root):
    pixels = np.full((10, 10), 40_000, np.uint16)
    Image.fromarray(pixels).save(root / "train" / "light" / "001.png")


def a_pipe(root):
    os.mkfifo(root / "train" / "light" / "x.jpg")


def a_link_to_nothing(root):
    (root / "train" / "light" / "x.jpg").symlink_to("gone.jpg")


def a_link_to_itself(root):
    (root / "train" / "light" / "x.jpg").symlink_to("x.jpg")


def not_utf_8(root):
    path = os.fsencode(root / "train" / "light") + b"/\xff.png"
    os.link(root / "train" / "light" / "001.png", path)


def no_test(root):
    (root / "test").rename(root / "other")


def empty_class(root):
    for path in (root / "train" / "red").iterdir():
        path.unlink()


def unknown_class(root):
    (root / "test" / "blue").mkdir()


def class_in_other_case(root):
    (root / "test" / "red").rename(root / "test" / "Red ")


def two_names_that_are_one(root):
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "é.png")
        shutil.copy(root / "train" / "light" / "001.png", root / "train" / "light" / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_grey, r"light/001\.png is grey among colour images \(1 of 24 are\); DATA\.GREY"),
        (broken_header, r"1 of 24 images cannot be used: .*light/001\.png is not an image"),
        (broken_pixels, r"red/002\.png does not decode"),
        (sixteen_bits, r"light/001\.png has the mode 'I;16', more than 8 bits"),
        (a_pipe, r"1 of 25 images cannot be used: .*light/x\.jpg .*is not a regular file"),
        (a_link_to_nothing, r"light/x\.jpg is not there"),
        (a_link_to_itself, r"light/x\.jpg cannot be read: Too many levels"),
        (not_utf_8, r"light/\\udcff\.png' has a name that is not UTF-8"),
        (no_test, "there is no folder .*val"),
        (empty_class, "no image of red"),
        (unknown_class, "blue is a class without a folder in train; add"),
        (class_in_other_case, r"Red  is a class without a folder in train \(it has red\)"),
        (two_names_that_are_one, r"\.png and .*\.png have one name, light\\é\.png"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    write_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path, 10)


def test_all_faults_are_counted_and_three_named(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "train" / "light").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_folder(tmp_path, 10)
    text = str(error.value)
    assert text.startswith("6 of 24 images cannot be used: ") and "ON_BAD_SAMPLE skip" in text
    assert text.count("is empty") == 3 and "and 3 more" in text and "\n" not in text


def test_what_cannot_be_used_can_be_left_out_of_both_splits(tmp_path, caplog):
    write_folder(tmp_path)
    broken_header(tmp_path)
    broken_pixels(tmp_path)
    not_utf_8(tmp_path)
    train, test = load_folder(tmp_path, 10, on_bad="skip")
    assert (len(train), len(test)) == (17, 5)
    assert train.excluded == {
        "folder_train/light\\001.png": "is not an image that Pillow knows",
        "folder_train/light\\\\xff.png": "has a name that is not UTF-8: rename it",
    }
    assert list(test.excluded) == ["folder_test/red\\002.png"]
    assert "3 of 25 images cannot be used" in caplog.text and "left out" in caplog.text
    assert train.subset(torch.arange(9)).excluded == train.excluded


def test_a_class_of_which_nothing_can_be_used_is_named_though_faults_are_skipped(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "train" / "light").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image of light"):
        load_folder(tmp_path, 10, on_bad="skip")


def test_a_grey_image_can_be_made_colour(tmp_path):
    write_folder(tmp_path)
    one_grey(tmp_path)
    train, _ = load_folder(tmp_path, 10, grey="convert")
    image = train.images[list(train.keys).index("folder_train/light\\001.png")]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_a_file_that_is_there_twice_is_said_where_it_does_harm(tmp_path, caplog):
    write_folder(tmp_path)
    train, test = tmp_path / "train", tmp_path / "test"
    shutil.copy(train / "light" / "001.png", train / "light" / "again.png")
    load_folder(tmp_path, 10)
    assert "byte for byte" not in caplog.text  # a twin in its own class is for the mask to find
    shutil.copy(train / "light" / "001.png", test / "light" / "x.png")
    shutil.copy(train / "light" / "004.png", train / "red" / "y.png")
    load_folder(tmp_path, 10)
    assert (
        "1 file(s), the same byte for byte, are for training and for testing: the accuracy on "
        "them says nothing; first folder_train/light\\001.png and folder_test/light\\x.png"
    ) in caplog.text
    assert (
        "1 file(s), the same byte for byte, stand in two classes: one of the two labels is wrong; "
        "first folder_train/light\\004.png and folder_train/red\\y.png"
    ) in caplog.text


def test_what_is_lost_of_an_image_is_said(tmp_path, caplog):
    write_folder(tmp_path)
    image = Image.open(tmp_path / "train" / "light" / "001.png").convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "train" / "light" / "001.png")
    load_folder(tmp_path, 10)
    assert "Of 1 image(s): " in caplog.text and "transparent parts" in caplog.text
