import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from adapruner_det.classification import folder
from adapruner_det.classification.folder import load_folder, load_tiny_imagenet
from adapruner_det.errors import DataError
from tests.classification.tiny import CLASSES, tiny_pixels, write_folder


def test_a_folder_reads_alike_from_memory_and_from_files(tmp_path):
    write_folder(tmp_path / "shapes")
    in_memory, _ = load_folder(tmp_path / "shapes", 10)
    in_files, _ = load_folder(tmp_path / "shapes", 10, memory_mb=0)
    assert in_memory.in_memory and not in_files.in_memory
    assert in_files.keys[0] == "shapes_train/dark\\000.png" and in_files.keys == in_memory.keys
    images, labels = tiny_pixels(18, 10, seed=6)
    for i, key in enumerate(in_memory.keys):
        source = int(key[-7:-4])
        assert in_memory.labels[i] == labels[source]
        assert np.array_equal(in_memory.images[i].permute(1, 2, 0).numpy(), images[source])
        assert torch.equal(in_files.images.read(i), in_memory.images[i])


def test_images_are_resized_and_val_serves_as_test(tmp_path):
    train, test = load_folder(write_folder(tmp_path, test_name="val"), 6)
    assert train.images.shape == (18, 3, 6, 6) and test.name.endswith("_val")


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


def no_test(root):
    (root / "test").rename(root / "other")


def empty_class(root):
    for path in (root / "train" / "red").iterdir():
        path.unlink()


def unknown_class(root):
    (root / "test" / "blue").mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_grey, r"light/001\.png is grey among colour images \(1 of 24 are\); DATA\.GREY"),
        (broken_header, r"light/001\.png does not decode"),
        (broken_pixels, r"red/002\.png does not decode"),
        (no_test, "there is no folder .*val"),
        (empty_class, "no image of red"),
        (unknown_class, "blue is a class without a folder in train"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    write_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path, 10)


def test_a_grey_image_can_be_made_colour(tmp_path):
    write_folder(tmp_path)
    one_grey(tmp_path)
    train, _ = load_folder(tmp_path, 10, grey="convert")
    image = train.images[list(train.keys).index(f"{tmp_path.name}_train/light\\001.png")]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def tiny_imagenet(root):
    """Tiny-ImageNet's layout with three classes and 64×64 images, one of them grey."""
    base = root / "tiny-imagenet-200"
    images, labels = tiny_pixels(9, 64)
    lines = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        train = base / "train" / CLASSES[label] / "images"
        val = base / "val" / "images"
        for path in (train, val):
            path.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        picture.save(train / f"{CLASSES[label]}_{i}.JPEG")
        (picture.convert("L") if i == 0 else picture).save(val / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{CLASSES[label]}\t0\t0\t63\t63")
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return base


def test_tiny_imagenet_is_read_as_it_is_packed(tmp_path):
    tiny_imagenet(tmp_path)
    train, test = load_tiny_imagenet(tmp_path)
    assert train.images.shape == (9, 3, 64, 64) and test.labels.tolist() == [0, 1, 2] * 3
    assert train.keys[0] == "tiny-imagenet-200_train/dark\\images\\dark_0.JPEG"


def test_a_line_that_names_a_missing_image_is_named(tmp_path):
    base = tiny_imagenet(tmp_path)
    (base / "val" / "images" / "val_4.JPEG").unlink()
    with pytest.raises(DataError, match=r"line 5: there is no image .*val_4\.JPEG"):
        load_tiny_imagenet(tmp_path)


def test_an_archive_with_a_wrong_checksum_is_not_unpacked(tmp_path, monkeypatch):
    source = tmp_path / "source"
    tiny_imagenet(source)
    root = tmp_path / "root"
    root.mkdir()
    archive = root / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(source.rglob("*")):
            file.write(path, path.relative_to(source))
    with pytest.raises(DataError, match=r"zip has the MD5 [0-9a-f]{32}, expected 90528d7c"):
        load_tiny_imagenet(root)
    assert [path.name for path in root.iterdir()] == ["tiny-imagenet-200.zip"]
    monkeypatch.setattr(folder, "TINY_IMAGENET_MD5", folder._md5(archive))
    train, _ = load_tiny_imagenet(root)
    assert len(train) == 9
    assert {p.name for p in root.iterdir()} == {"tiny-imagenet-200.zip", "tiny-imagenet-200"}


def test_a_missing_archive_and_a_failing_download_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="set DATA.DOWNLOAD True"):
        load_tiny_imagenet(tmp_path)
    monkeypatch.setattr(folder, "TINY_IMAGENET_URL", (tmp_path / "gone.zip").as_uri())
    with pytest.raises(DataError, match="cannot be fetched"):
        load_tiny_imagenet(tmp_path, download=True)
    assert not list(tmp_path.iterdir())
