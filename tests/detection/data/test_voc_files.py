"""Which files of a VOC folder are those of which image."""

import pytest

from adapruner_det.detection.data.voc_files import (
    annotation_files,
    id_and_sign,
    image_files,
    is_aside,
    listed_ids,
    other_files,
)


@pytest.fixture
def root(tmp_path):
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_all_lists_name_ids_with_and_without_a_last_column(root):
    main = root / "ImageSets/Main"
    (main / "one.txt").write_bytes("\ufeffa b 1\r\ne\u0301\tx\n".encode())
    (main / "deep").mkdir()
    (main / "deep/two.txt").write_text("c -1\n")
    (main / "broken.txt").write_bytes(b"\xff\xfe")
    assert listed_ids(root) >= {"a b", "a b 1", "é\tx", "c"}
    assert "a" not in listed_ids(root)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        *[("a", ("a", "")), ("a  1", ("a", "1")), ("a b\t-1", ("a b", "-1")), ("1", ("1", ""))],
        *[("a 2", ("a 2", "")), ("known 1", ("known 1", ""))],
    ],
)
def test_a_line_is_an_id_and_may_have_a_sign(line, found):
    assert id_and_sign(line, {"known 1"}) == found


@pytest.mark.parametrize(
    ("file", "aside"),
    [
        *[("a.xml", False), ("deep/a.xml", False), (".a.xml", True), (".x/a.xml", True)],
        *[("link.xml", False), ("link/a.xml", True), ("deep/link/b/a.xml", True)],
    ],
)
def test_what_is_hidden_or_below_a_link_stands_aside(root, file, aside):
    folder = root / "Annotations"
    (folder / "deep").mkdir()
    (folder / "link.xml").symlink_to(root / "JPEGImages")
    for link in ("link", "deep/link"):
        (folder / link).symlink_to(root / "JPEGImages")
    assert is_aside(folder, f"{folder}/{file}") == aside


def test_links_to_folders_are_followed_but_not_in_circles(root):
    disk, images = root / "disk", root / "JPEGImages"
    (disk / "b").mkdir(parents=True)
    (disk / "c").mkdir()
    (disk / "b/x.png").touch()
    (disk / "b/to_c").symlink_to(disk / "c")
    (disk / "c/to_b").symlink_to(disk / "b")
    (images / "sub").symlink_to(disk / "b")
    (images / "up").symlink_to(images)
    (images / "self").symlink_to(images / "self")
    assert image_files(images) == {"sub/x": f"{images}/sub/x.png"}
    (images / "again").symlink_to(disk / "b")  # one folder by two names
    assert {*image_files(images)} == {"sub/x", "again/x"}


def test_annotations_are_taken_in_either_case_and_two_of_one_id_are_said(root, caplog):
    folder = root / "Annotations"
    (folder / "a.XML").touch()
    assert annotation_files(folder) == {"a": f"{folder}/a.XML"} and not caplog.records
    (folder / "a.xml").touch()
    assert annotation_files(folder) == {"a": f"{folder}/a.xml"}
    assert "1 id(s) have several annotations" in caplog.text


def test_a_folder_that_is_not_there_has_no_files(root):
    assert image_files(root / "gone") == annotation_files(root / "gone") == {}


def test_files_of_other_kinds_are_found_by_their_id(root):
    (root / "JPEGImages/deep").mkdir()
    (root / "JPEGImages/deep/e\u0301.heic").touch()
    assert other_files(root / "JPEGImages") == {"deep/é": "deep/e\u0301.heic"}
