import json
import os
from dataclasses import replace

import pytest

from adapruner_det.errors import DataError
from adapruner_det.export.folder import MARKER
from adapruner_det.export.formats import FORMATS, default_images, export, needs_records
from adapruner_det.export.records import Records
from tests.export.examples import CLASSES, keys_of, record, selection_of, three
from tests.export.test_yolo import labelled


def given(tmp_path):
    records = three(tmp_path / "images")
    return selection_of(records), records


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_is_of(tmp_path, name):
    selection, records = given(tmp_path)
    out = export(selection, records, name, tmp_path / "out")
    marker = json.loads((out / MARKER).read_text())
    assert marker["format"] == name and marker["method"] == "random" and marker["num_kept"] == 3
    assert marker["datasets"] == dict(selection.datasets) and marker["keep_ratio"] == 0.75


@pytest.mark.parametrize("name", [name for name in FORMATS if needs_records(name)])
@pytest.mark.parametrize("images", ["none", "link", "copy"])
def test_every_format_places_each_image_once_under_its_key(tmp_path, name, images):
    selection, records = given(tmp_path)
    out = export(selection, records, name, tmp_path / "out", images=images)
    placed = keys_of(out)
    assert sorted(placed.values()) == ([] if images == "none" else sorted(selection.kept_keys))
    source = {r.key: r.path for r in records.records}
    for path, key in placed.items():
        assert (out / path).read_bytes() == open(source[key], "rb").read()  # noqa: SIM115
        assert (out / path).is_symlink() == (images == "link")
    again = export(selection, records, name, tmp_path / "out", images=images)
    assert again == out and keys_of(out) == placed


@pytest.mark.parametrize("name", [name for name in FORMATS if needs_records(name)])
def test_hostile_names_stay_in_the_folder_and_apart(tmp_path, name):
    nasty = ["../../up.png", "/tmp/abs.png", "a\0b.png", "x.png", "X.png", "x.jpg", "x.png/y.png",
             ".git/config", "a\nb.png", "-rf.png", "c:\\d.png", "é.png", "e\u0301.png"]  # fmt: skip
    rows = [
        replace(record(tmp_path / "images", f"toy/{i:02d}", name=f"{i}.png"), name=own)
        for i, own in enumerate(nasty)
    ]
    rows += [replace(row, key=f"../zoo/{row.key[4:]}") for row in rows]
    records = Records(sorted(rows, key=lambda r: r.key), CLASSES)
    before = sorted(os.listdir(tmp_path))
    out = export(selection_of(records), records, name, tmp_path / "in" / "out", images="copy")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "in"])
    assert os.listdir(tmp_path / "in") == ["out"]
    source = {r.key: r.path for r in records.records}
    placed = keys_of(out)
    assert len(placed) == len(rows) == len({os.path.splitext(p)[0].casefold() for p in placed})
    for path, key in placed.items():
        assert os.path.realpath(out / path).startswith(f"{out}/")
        assert (out / path).read_bytes() == open(source[key], "rb").read()  # noqa: SIM115


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_a_format_of_boxes_takes_no_classes_of_images(tmp_path, name):
    records = labelled(tmp_path / "images")
    with pytest.raises(DataError, match="yolo, list, csv, fiftyone"):
        export(selection_of(records), records, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_yolo_links_where_nothing_is_said_and_a_csv_has_no_images(tmp_path):
    assert [name for name in FORMATS if default_images(name) != "none"] == ["yolo"]
    selection, records = given(tmp_path)
    out = export(selection, records, "yolo", tmp_path / "out")
    assert (out / "images" / "a.png").is_symlink()
    with pytest.raises(DataError, match="leave --images out"):
        export(selection, None, "csv", tmp_path / "csv", images="link")


def test_other_records_than_the_kept_ones_are_a_mistake(tmp_path):
    selection, records = given(tmp_path)
    for rows in (records.records[:2], [*records.records, record(tmp_path, "toy/z")]):
        with pytest.raises(ValueError, match="not those of the kept"):
            export(selection, Records(rows, CLASSES), "coco", tmp_path / "out")
    with pytest.raises(ValueError, match="needs the records"):
        export(selection, None, "coco", tmp_path / "out")
    with pytest.raises(ValueError, match="no format"):
        export(selection, records, "tfrecord", tmp_path / "out")
    with pytest.raises(ValueError, match="no format"):
        export(selection, records, "coco", tmp_path / "out", images="move")


@pytest.mark.parametrize("name", [name for name in FORMATS if needs_records(name)])
def test_nothing_is_left_where_an_image_is_gone(tmp_path, name):
    selection, records = given(tmp_path)
    os.unlink(records.records[2].path)
    with pytest.raises(DataError, match="of toy/c is no file"):
        export(selection, records, name, tmp_path / "out", images="copy")
    assert os.listdir(tmp_path) == ["images"]


def test_the_source_is_never_moved(tmp_path):
    selection, records = given(tmp_path)
    with pytest.raises(DataError, match="lies in"):
        export(selection, records, "list", tmp_path / "images", overwrite=True)
    assert all(os.path.isfile(r.path) for r in records.records)
