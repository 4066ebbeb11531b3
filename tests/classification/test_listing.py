import os
import shutil
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.classification.listing import (
    list_images,
    warn_of_alike_classes,
)
from adapruner_det.errors import DataError, shown

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(root, classes):
    return [(file.image_id, file.label) for file in list_images(root).files(classes)]


def test_images_of_all_depths_and_suffixes_belong_to_their_class(tmp_path):
    put(tmp_path, "b/1.JPG", "b/deep/er/2.jfif", "a/3.png", "a/4.TIFF", "a/x.y.webp")
    assert list_images(tmp_path).class_names() == ["a", "b"]
    assert ids(tmp_path, ["a", "b"]) == [
        *((r"a\3.png", 0), (r"a\4.TIFF", 0), (r"a\x.y.webp", 0)),
        *((r"b\1.JPG", 1), (r"b\deep\er\2.jfif", 1)),
    ]


def test_what_is_not_read_is_counted_with_an_example(tmp_path, caplog):
    put(
        tmp_path,
        *("a/1.png", "a/._1.png", "a/.DS_Store", "a/.ipynb_checkpoints/1-checkpoint.png"),
        *(".ipynb_checkpoints/2.png", "__MACOSX/a/._1.png", "a/@eaDir/1.png"),
        *("a/2.heic", "a/3.heic", "a/notes.txt", "list.csv", "loose.png", "a/README"),
    )
    found = list_images(tmp_path)
    found.report()
    assert found.class_names() == ["a"] and ids(tmp_path, ["a"]) == [(r"a\1.png", 0)]
    assert "6 hidden files or folders are ignored" in caplog.text
    assert "5 files are not read as images (.heic: 2," in caplog.text
    assert "1 images are not read, as they lie in no class's folder, first" in caplog.text
    assert "loose.png" in caplog.text


def test_links_to_folders_are_followed_and_loops_are_said(tmp_path, caplog):
    root = tmp_path / "train"
    put(tmp_path, "elsewhere/1.png", "more/2.png", "train/b/3.png")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "more").symlink_to(tmp_path / "more")
    (root / "b" / "up").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b")
    found = list_images(root)
    found.report()
    assert [f.image_id for f in found.files(["a", "b"])] == [
        r"a\1.png",
        r"b\3.png",
        r"b\more\2.png",
    ]
    assert "2 links lead back to a folder above them" in caplog.text


def test_a_folder_that_is_called_as_an_image_is_said_and_looked_into(tmp_path, caplog):
    put(tmp_path, "a/x.jpg/1.png", "a/2.png", "b.png/3.png")
    found = list_images(tmp_path)
    assert [f.image_id for f in found.files(["a", "b.png"])] == [
        *(r"a\2.png", r"a\x.jpg\1.png", r"b.png\3.png")
    ]
    assert "a/x.jpg is a folder, not an image" in caplog.text


def test_names_are_one_however_their_letters_are_composed(tmp_path):
    put(tmp_path, f"{NFD}/{NFD}.png")
    assert list_images(tmp_path).class_names() == [NFC]
    assert ids(tmp_path, [NFC]) == [(f"{NFC}\\{NFC}.png", 0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"{NFC}/1.png", f"{NFD}/2.png"], "has two folders of the class café"),
        ([f"a/{NFC}.png", f"a/{NFD}.png"], "have one name"),
        (["a\\b/1.png", "a/b\\1.png"], "have one name"),
        (["loose.png"], "has no folder of a class"),
        (["c/1.png"], "c is a class without a folder in train; add"),
        (["A/1.png"], r"A is a class without a folder in train \(it has a\)"),
    ],
)
def test_names_that_tell_nothing_apart_are_refused(tmp_path, names, message):
    put(tmp_path, *names)
    classes = ["a", "a\\b", NFC]
    with pytest.raises(DataError, match=message):
        list_images(tmp_path).files(classes)


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(DataError, match="has a name that is not UTF-8"):
        list_images(tmp_path).class_names()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    put(tmp_path, "a/1.png", "a/deep/1.png")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"the folder .*/a/deep cannot be read: Permission denied"):
        list_images(tmp_path)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list_images(tmp_path / "a")


def test_classes_that_differ_by_case_or_spaces_are_said(caplog):
    warn_of_alike_classes(["cat", "dog"])
    assert not caplog.text
    warn_of_alike_classes(["Traffic Light", "trafficlight", "dog"])
    assert "'Traffic Light' and 'trafficlight' differ by case or spaces alone" in caplog.text


@given(st.text())
def test_what_is_shown_is_on_one_line(text):
    assert len(shown(text).splitlines()) <= 1
