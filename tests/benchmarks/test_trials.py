"""What trials share: the split, the rows, the interval."""

import pytest

from adapruner_det.errors import DataError
from benchmarks.trials import add, complete, difference, held_out, ids_of, read
from tests.detection.toy import write_voc_folder


def test_a_split_holds_out_what_it_is_told_and_leaves_the_files_where_they_are(tmp_path):
    source = write_voc_folder(tmp_path / "voc", trainval=8, test=2)
    ids = ids_of(source)
    for test in (set(ids[2:5]), {ids[0]}):
        folder = held_out(source, test, tmp_path / "out")
        listed = (folder / "ImageSets/Main/test.txt").read_text().split()
        assert set(listed) == test and ids_of(folder) == [n for n in ids if n not in test]
        assert (folder / "Annotations" / f"{listed[0]}.xml").exists()
        assert (folder / "JPEGImages").resolve() == source / "JPEGImages"
    assert len(ids_of(source)) == 8


def test_rows_are_added_and_read(tmp_path):
    assert read(tmp_path / "none") == []
    rows = [{"seed": 1, "cut": "a", "AP50": 1.5}, {"seed": 2, "cut": "b", "AP50": 2.5}]
    for row in rows:
        add(tmp_path / "out", row)
    assert read(tmp_path / "out") == rows


def test_a_seed_is_complete_with_every_cut():
    rows = [{"seed": s, "cut": c} for s, c in ((3, "a"), (2, "b"), (1, "a"), (3, "b"), (1, "b"))]
    assert list(complete(rows, ("a", "b"))) == [1, 3] and list(complete(rows, ("b",))) == [1, 2, 3]


def test_a_difference_has_students_interval():
    assert difference([1.0, 2.0, 3.0]) == "+2.00 (-0.48 to +4.48)"
    assert difference([-1.25]) == "-1.25"
    assert difference([0.5] * 4) == "+0.50"
    with pytest.raises(DataError, match="no seed has all of its trainings"):
        difference([])
