import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapruner_det.errors import DataError
from adapruner_det.export.folder import new_folder
from adapruner_det.export.records import Record, Records
from adapruner_det.export.yolo import write_yolo
from tests.export.examples import (
    CLASSES,
    assert_same_boxes,
    boxes_of,
    keys_of,
    picture,
    record,
    three,
)
from tests.export.owners import read


def export(place, records, images="link"):
    with new_folder(place, {}) as folder:
        write_yolo(records, folder, images)
    return place


def labels(out, name):
    return [[float(x) for x in line.split()] for line in (out / "labels" / name).open()]


def test_what_stands_in_the_files(tmp_path):
    out = export(tmp_path / "out", three(tmp_path / "images"))
    assert (out / "train.txt").read_text().splitlines() == [
        "./images/a.png",
        "./images/deep_b.jpg",
        "./images/c.png",
    ]
    wanted = [[2, 0.5, 0.5, 1, 1], [0, 15.25 / 64, 21.625 / 48, 9.5 / 64, 36.75 / 48]]
    assert np.allclose(labels(out, "a.txt"), wanted, rtol=1e-9)
    assert (out / "labels" / "c.txt").read_text() == ""
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data == {"train": "train.txt", "val": "train.txt", "names": dict(enumerate(CLASSES))}
    assert sorted(os.listdir(out)) == [
        "adapruner_export.json", "data.yaml", "images", "labels", "train.txt"
    ]  # fmt: skip


def test_without_images_the_labels_alone_are_there(tmp_path):
    whole = export(tmp_path / "whole", three(tmp_path / "images"))
    out = export(tmp_path / "out", three(tmp_path / "images"), "none")
    assert not (out / "images").exists()
    for name in ("train.txt", "data.yaml", "labels/a.txt", "labels/deep_b.txt"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["ultralytics", "supervision"])
@pytest.mark.parametrize("images", ["link", "copy"])
def test_its_owners_read_the_same_boxes(tmp_path, library, images):
    names = [f"{deep}x{end}" for deep in ("", "one/", "two/") for end in (".png", ".jpg")]
    rows = [
        record(
            tmp_path / "images", f"toy/{i}", [(i, 2, 30 + i, 40.5), (0, 0, 64, 48)], [i % 3, 1],
            name=name,
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    records = Records([*rows, record(tmp_path / "images", "toy/z", [])], CLASSES)
    out = export(tmp_path / "out", records, images)
    keys = keys_of(out)
    assert len(keys) == 7
    found = read(library, "yolo", out)
    assert_same_boxes(
        {keys[os.path.relpath(path, out)]: rows for path, rows in found.items()}, boxes_of(records)
    )


#: Of ultralytics/data/utils.py, as long as there is one: what else there is passed over silently.
IMG_FORMATS = {"bmp", "dng", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a", "a.2024", "a.gif", "A.PNG"])
@pytest.mark.parametrize("images", ["link", "copy", "none"])
def test_an_image_has_a_name_that_ultralytics_reads(tmp_path, name, images):
    path = tmp_path / "image"
    Image.new("RGB", (64, 48)).save(path, format="JPEG")
    row = record(tmp_path, "toy/a", name=name, path=str(path))
    out = export(tmp_path / "out", Records([row], CLASSES), images)
    (line,) = (out / "train.txt").read_text().splitlines()
    assert line.rpartition(".")[2].lower() in IMG_FORMATS
    assert (out / line).is_file() == (images != "none")
    assert (out / "labels" / (os.path.basename(line).rpartition(".")[0] + ".txt")).is_file()


def test_boxes_are_cut_off_at_the_edges_as_in_training(tmp_path, caplog):
    boxes = [(-1, -1, 20, 20), (40, 30, 65, 49), (-9, 5, 30, 80)]
    records = Records([record(tmp_path, "toy/a", boxes)], CLASSES)
    out = export(tmp_path / "out", records)
    wanted = [
        [0, 10 / 64, 10 / 48, 20 / 64, 20 / 48],
        [1, 52 / 64, 39 / 48, 24 / 64, 18 / 48],
        [2, 15 / 64, 26.5 / 48, 30 / 64, 43 / 48],
    ]
    assert np.allclose(labels(out, "a.txt"), wanted, rtol=1e-9)
    assert "yolo: 1 box(es) are cut off at the edges of their image, the first in" in caplog.text


def test_crowds_and_unusable_ones_are_left_out_with_a_word(tmp_path, caplog):
    row = record(
        tmp_path, "toy/a", [(1, 1, 9, 9), (2, 2, 30, 30)], [0, 1], flags=[(1, 1), (0, 1)],
        unusable=4,
    )  # fmt: skip
    out = export(tmp_path / "out", Records([row], CLASSES))
    assert [row[0] for row in labels(out, "a.txt")] == [1]
    assert "1 box(es) around crowds" in caplog.text and "4 box(es) with which" in caplog.text
    assert "1 box(es) lose the flag `difficult`" in caplog.text


@pytest.mark.parametrize("names", [["yes", "1", "null", "a: b", "ä", "- x", "#"], ["x" * 200]])
def test_any_class_name_comes_back(tmp_path, names):
    out = export(tmp_path / "out", Records([record(tmp_path, "toy/a", [])], names))
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == dict(enumerate(names))


sides = st.tuples(*[st.floats(0, 1, width=32)] * 4)


@settings(max_examples=25)
@given(st.lists(sides, max_size=5))
def test_all_numbers_are_shares_and_boxes_come_back(tmp_path_factory, corners):
    place = Path(tmp_path_factory.mktemp("yolo"))
    boxes = [
        (min(x, y) * 60, min(u, v) * 40, max(x, y) * 60 + 1, max(u, v) * 40 + 1)
        for x, u, y, v in corners
    ]
    records = Records([record(place, "toy/a", boxes, [0] * len(boxes))], CLASSES)
    found = labels(export(place / "out", records), "a.txt")
    rows = []
    for own, x, y, w, h in found:
        assert 0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1
        box = [(x - w / 2) * 64, (y - h / 2) * 48, (x + w / 2) * 64, (y + h / 2) * 48]
        rows.append([CLASSES[int(own)], *box])
    assert_same_boxes({"toy/a": rows}, boxes_of(records), 1e-6)


# --- classification ------------------------------------------------------------------------------


def labelled(folder, names=("cat/x.png", "dog/x.png", "dog/deep/y.png")):
    rows = [
        Record(
            f"toy/{i}", picture(Path(folder) / name), name, 64, 48, label=CLASSES.index(name[:3])
        )
        for i, name in enumerate(names)
    ]
    return Records(rows, CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["link", "copy"])
def test_ultralytics_finds_the_classes_of_images(tmp_path, images):
    records = labelled(tmp_path / "images")
    out = export(tmp_path / "out", records, images)
    keys = keys_of(out)
    assert len(keys) == 3
    found = read("ultralytics", "classes", out)
    found = {keys[os.path.relpath(path, out)]: name for path, name in found.items()}
    assert found == {r.key: records.class_names[r.label] for r in records.records}


def test_an_image_of_a_class_has_a_name_that_torchvision_reads(tmp_path):
    records = labelled(tmp_path / "images", ["cat/x.jfif", "cat/y.jpe", "dog/deep/z.mpo"])
    out = export(tmp_path / "out", records)
    assert {path.suffix for path in out.glob("train/*/*")} == {".jpg"}


def test_two_classes_never_share_a_folder(tmp_path):
    names = ("a/b", "a\\b", "A_B")
    rows = [
        Record(f"toy/{i}", picture(tmp_path / f"{i}.png"), f"{i}.png", 64, 48, label=i)
        for i in range(3)
    ]
    out = export(tmp_path / "out", Records(rows, names))
    assert len(os.listdir(out / "train")) == 3 and (out / "train" / "A_B" / "2.png").is_file()


def test_a_class_keeps_its_name_and_those_that_cannot_are_told(tmp_path, caplog):
    names = (" dog", "CAT", "cat", "dog", "tab\tx")
    rows = [
        Record(f"toy/{i}", picture(tmp_path / f"{i}.png"), f"{i}.png", 64, 48, label=i)
        for i in range(len(names))
    ]
    out = export(tmp_path / "out", Records(rows, names))
    found = {path.parent.name: path.name for path in out.glob("train/*/*")}
    assert found["dog"] == "3.png" and found["CAT"] == "1.png" and len(found) == 5
    (told,) = (r.getMessage() for r in caplog.records)
    assert told.startswith("3 class(es) have a folder")
    assert "' dog' is 'dog-" in told and "'cat' is 'cat-" in told and "is 'tab_x'" in told


def test_the_classes_of_images_are_their_folders_so_none_is_no_way(tmp_path):
    with pytest.raises(DataError, match="--images link"):
        export(tmp_path / "out", labelled(tmp_path / "images"), "none")
