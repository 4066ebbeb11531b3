import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.export.folder import new_folder
from adapruner_det.export.records import Records
from adapruner_det.export.tables import write_csv, write_list
from adapruner_det.selection import Selection
from tests.export.examples import CLASSES, keys_of, picture, record, selection_of, three


def listed(tmp_path, records, images="none"):
    with new_folder(tmp_path / "out", {}) as folder:
        write_list(records, folder, images)
    return (tmp_path / "out" / "kept.txt").read_text(encoding="utf-8").splitlines()


def rows_of(tmp_path, selection, name="selection.csv"):
    with new_folder(tmp_path / "out", {}) as folder:
        write_csv(selection, folder)
    with open(tmp_path / "out" / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_list_of_where_the_images_are(tmp_path):
    records = three(tmp_path / "images")
    assert listed(tmp_path, records) == [r.path for r in records.records]


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("x.png")
    row = record(tmp_path, "toy/a", path="x.png")
    assert listed(tmp_path, Records([row], CLASSES)) == [str(tmp_path / "x.png")]


@pytest.mark.parametrize("images", ["link", "copy"])
def test_a_list_of_images_in_the_folder(tmp_path, images):
    records = three(tmp_path / "images")
    lines = listed(tmp_path, records, images)
    assert lines == ["images/a.png", "images/deep/b.jpg", "images/c.png"]
    for line, own in zip(lines, records.records, strict=True):
        place = tmp_path / "out" / line
        assert place.read_bytes() == Path(own.path).read_bytes()
        assert place.is_symlink() == (images == "link")
    assert keys_of(tmp_path / "out") == dict(zip(lines, ["toy/a", "toy/b", "toy/c"], strict=True))


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\x0b"])
def test_a_line_break_is_refused_where_a_path_has_it_and_replaced_in_a_name(tmp_path, end):
    row = record(tmp_path / "images", "toy/a", name=f"a{end}b.png")
    with pytest.raises(DataError, match="line break"):
        listed(tmp_path, Records([row], CLASSES))
    assert listed(tmp_path, Records([row], CLASSES), "link") == ["images/a_b.png"]


def test_a_csv_gives_all_columns_of_all_samples_back(tmp_path):
    rng = np.random.default_rng(0)
    selection = selection_of(
        three(tmp_path),
        score=rng.normal(size=4),
        mean_loss=rng.normal(size=4).astype(np.float32),
        logit=np.array([np.nan, np.inf, -np.inf, 1e-30], dtype=np.float32),
        times_seen=np.array([0, 1, 2, 3]),
        why=np.array(["", "twin of toy/b", "a,\rb", 'say "no"\nplease']),
        classes=np.array(["", "0 2", "1", "2"]),
    )
    rows = rows_of(tmp_path, selection)
    others = [name for name in selection.columns if name not in ("key", "kept", "score")]
    assert list(rows[0]) == ["key", "kept", "score", *others]
    assert len(rows) == selection.num_samples == 4
    for name, column in selection.columns.items():
        texts = [row[name] for row in rows]
        if column.dtype == bool:
            assert texts == [str(value) for value in column.tolist()]
        else:
            assert np.array_equal(
                np.array(texts).astype(column.dtype), column, equal_nan=column.dtype.kind == "f"
            )
    assert {row["key"] for row in rows if row["kept"] == "True"} == selection.kept_keys


def test_a_csv_says_what_was_left_out_and_why(tmp_path):
    selection = replace(selection_of(three(tmp_path)), excluded={"toy/y": "is empty, mend it"})
    assert rows_of(tmp_path, selection, "excluded.csv") == [
        {"key": "toy/y", "why": "is empty, mend it"}
    ]
    rows_of(tmp_path, selection_of(three(tmp_path)))
    assert not (tmp_path / "out" / "excluded.csv").exists()


def test_a_csv_of_a_saved_selection_is_that_of_the_one_in_memory(tmp_path):
    selection = selection_of(three(tmp_path))
    selection.save(tmp_path / "selection.json")
    rows = rows_of(tmp_path, selection)
    assert rows_of(tmp_path, Selection.load(tmp_path / "selection.json")) == rows
