import io
import shutil
import zipfile
from urllib.response import addinfourl

import pytest
from PIL import Image

from adapruner_det.classification import tiny_imagenet as module
from adapruner_det.classification.tiny_imagenet import load_tiny_imagenet
from adapruner_det.errors import DataError
from tests.classification.tiny import CLASSES, tiny_pixels


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


def test_it_is_read_as_it_is_packed(tmp_path):
    tiny_imagenet(tmp_path)
    train, test = load_tiny_imagenet(tmp_path)
    assert train.images.shape == (9, 3, 64, 64) and test.labels.tolist() == [0, 1, 2] * 3
    assert train.keys[0] == "tiny-imagenet-200_train/dark\\images\\dark_0.JPEG"
    assert train.digest_of == "bytes"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_9.JPEG\tdark", r"line 10: there is no image .*val_9\.JPEG"),
        ("val_1.JPEG\tlight", r"line 10: val_1\.JPEG is there a second time"),
        ("../../train/dark/images/dark_0.JPEG\tdark", "line 10: .* is no name of a file in"),
        ("val_1.JPEG\tblue", "line 10: expected file and class"),
        ("val_1.JPEG", "line 10: expected file and class"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path, line, message):
    with (tiny_imagenet(tmp_path) / "val" / "val_annotations.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        load_tiny_imagenet(tmp_path)


def test_images_that_the_list_lacks_are_said_and_an_odd_encoding_is_one_line(tmp_path, caplog):
    listing = tiny_imagenet(tmp_path) / "val" / "val_annotations.txt"
    listing.write_text("\n".join(listing.read_text().splitlines()[:-1]))
    assert len(load_tiny_imagenet(tmp_path)[1]) == 8
    assert "1 files are not in val_annotations.txt and not read, first val_8.JPEG" in caplog.text
    listing.write_bytes(b"\xff\xfeval")
    with pytest.raises(DataError, match=r"val_annotations\.txt cannot be read"):
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
    monkeypatch.setattr(module, "MD5", module.md5(archive))
    train, _ = load_tiny_imagenet(root)
    assert len(train) == 9
    assert {p.name for p in root.iterdir()} == {"tiny-imagenet-200.zip", "tiny-imagenet-200"}


def test_a_missing_archive_and_a_failing_download_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="set DATA.DOWNLOAD True"):
        load_tiny_imagenet(tmp_path)
    monkeypatch.setattr(module, "URL", (tmp_path / "gone.zip").as_uri())
    with pytest.raises(DataError, match="cannot be fetched"):
        load_tiny_imagenet(tmp_path, download=True)
    assert not list(tmp_path.iterdir())


def test_two_runs_that_fetch_at_once_do_not_share_a_file(tmp_path, monkeypatch):
    """The second begins and ends while the first is still writing."""
    packed = io.BytesIO()
    source = tiny_imagenet(tmp_path / "source")
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(source.rglob("*.*")):
            file.write(path, path.relative_to(source.parent))
    archive = tmp_path / "served.zip"
    archive.write_bytes(packed.getvalue())
    monkeypatch.setattr(module, "URL", archive.as_uri())
    monkeypatch.setattr(module, "MD5", module.md5(archive))
    root, copy, lengths = tmp_path / "root", shutil.copyfileobj, []

    def slow_copy(source, target):
        if isinstance(source, addinfourl) and not lengths:
            lengths.append(0)
            target.write(source.read(100))
            lengths[0] = len(load_tiny_imagenet(root, download=True)[0])
        copy(source, target)

    monkeypatch.setattr(module.shutil, "copyfileobj", slow_copy)
    assert len(load_tiny_imagenet(root, download=True)[0]) == 9 == lengths[0]
    assert sorted(path.name for path in root.iterdir()) == [module.NAME, f"{module.NAME}.zip"]
