"""Which files of a VOC folder are those of which image."""

import pytest

from adapruner_det.detection.data.voc_files import is_aside, listed_ids


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
    ("file", "aside"),
    [("a.xml", False), ("deep/a.xml", False), (".a.xml", True), (".x/a.xml", True)],
)
def test_what_is_hidden_stands_aside(root, file, aside):
    folder = root / "Annotations"
    assert is_aside(folder, f"{folder}/{file}") == aside
