import os
from dataclasses import replace
from pathlib import Path

import pytest
from detectron2.data.datasets.pascal_voc import load_voc_instances
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapruner_det.detection.data.voc_folder import find_class_names, load_voc_folder
from adapruner_det.errors import DataError
from adapruner_det.export.folder import new_folder
from adapruner_det.export.records import Records
from adapruner_det.export.voc import write_voc
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

XML = """<annotation><size><width>64</width><height>48</height></size><mine>kept</mine><object>
<name>dog</name><difficult>1</difficult><part><name>head</name></part>
<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"""


def export(place, records, images="none", keep_ratio=0.9):
    with new_folder(place, {}) as folder:
        write_voc(records, folder, images, keep_ratio)
    return place


def by_key(dicts, keys):
    """Detectron2's dicts as rows of classes and boxes."""
    names = {os.path.splitext(name.partition("/")[2])[0]: key for name, key in keys.items()}
    return {
        names[d["image_id"]]: [[CLASSES[a["category_id"]], *a["bbox"]] for a in d["annotations"]]
        for d in dicts
    }


def test_without_images_it_is_a_list_for_the_folder_of_each_data_set(tmp_path):
    rows = [*three(tmp_path / "one").records, record(tmp_path / "two", "voc_2007_trainval/000005")]
    out = export(tmp_path / "out", Records(rows, CLASSES))
    assert (out / "ImageSets/Main/toy_kept90.txt").read_text() == "a\ndeep/b\nc\n"
    assert (out / "ImageSets/Main/voc_2007_trainval_kept90.txt").read_text() == "000005\n"
    assert sorted(p.name for p in out.rglob("*.*")) == [
        "adapruner_export.json", "toy_kept90.txt", "voc_2007_trainval_kept90.txt"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "name"), [(1.0, "kept100"), (0.5, "kept50"), (0.125, "kept12.5")]
)
def test_a_list_is_named_after_the_keep_ratio(tmp_path, ratio, name):
    out = export(tmp_path / "out", three(tmp_path), keep_ratio=ratio)
    assert os.listdir(out / "ImageSets" / "Main") == [f"toy_{name}.txt"]


def test_a_data_set_cannot_name_a_list_elsewhere(tmp_path):
    out = export(tmp_path / "out", Records([record(tmp_path, "../../up/a")], CLASSES))
    assert os.listdir(out / "ImageSets" / "Main") == ["_._.._up_kept90.txt"]


@pytest.mark.parametrize("images", ["link", "copy"])
def test_detectron2_and_our_reader_read_the_same_boxes(tmp_path, images):
    rows = three(tmp_path / "images").records
    # Detectron2's own reader knows .jpg alone.
    rows = [replace(r, name=f"{os.path.splitext(r.name)[0]}.jpg") for r in rows]
    records = Records(rows, CLASSES)
    out = export(tmp_path / "out", records, images)
    for dicts in (
        load_voc_instances(str(out), "toy_kept90", CLASSES),
        load_voc_folder(out, "toy_kept90", CLASSES),
    ):
        assert_same_boxes(by_key(dicts, keys_of(out)), boxes_of(records), 1e-9)
        assert [(d["height"], d["width"]) for d in dicts] == [(48, 64)] * 3
        assert all(os.path.isfile(d["file_name"]) for d in dicts)


@pytest.mark.slow
def test_supervision_reads_the_same_boxes(tmp_path):
    rows = [r for r in three(tmp_path / "images").records if "/" not in r.name]
    records = Records(rows, CLASSES)
    out = export(tmp_path / "out", records, "link")
    found = read("supervision", "voc", out)
    keys = keys_of(out)
    found = {keys[os.path.relpath(path, out)]: rows for path, rows in found.items()}
    assert_same_boxes(found, boxes_of(records))


def test_an_annotation_of_a_voc_folder_is_taken_over_byte_for_byte(tmp_path):
    (tmp_path / "a.xml").write_text(XML)
    row = record(tmp_path, "toy/a", voc_file=str(tmp_path / "a.xml"), unusable=1)
    out = export(tmp_path / "out", Records([row], CLASSES), "copy")
    assert (out / "Annotations" / "a.xml").read_bytes() == XML.encode()
    (tmp_path / "a.xml").unlink()
    with pytest.raises(DataError, match=r"a\.xml cannot be read"):
        export(tmp_path / "out", Records([row], CLASSES), "copy")


def test_crowds_are_left_out_with_a_word_and_difficult_ones_stay(tmp_path, caplog):
    boxes = [(1, 1, 9, 9), (2, 2, 30, 30), (5, 5, 20, 20)]
    row = record(tmp_path, "toy/a", boxes, [0, 1, 2], flags=[(0, 0), (1, 0), (0, 1)])
    records = Records([row], CLASSES)
    out = export(tmp_path / "out", records, "link")
    (sample,) = load_voc_folder(out, "toy_kept90", CLASSES)
    assert [a["difficult"] for a in sample["annotations"]] == [0, 1]
    assert_same_boxes(by_key([sample], keys_of(out)), boxes_of(records, skip_crowds=True), 1e-9)
    assert "voc: 1 box(es) around crowds are left out, the first in toy/a" in caplog.text


def test_two_images_of_one_name_keep_their_own_annotations(tmp_path):
    rows = [
        record(tmp_path / "one", "one/x", [(1, 1, 9, 9)], [0]),
        record(tmp_path / "two", "two/x", [(2, 2, 8, 8)], [1]),
    ]
    records = Records(rows, CLASSES)
    out = export(tmp_path / "out", records, "copy")
    keys = keys_of(out)
    assert sorted(keys) == ["JPEGImages/one/x.png", "JPEGImages/two/x.png"]
    found = {}
    for split in ("one_kept90", "two_kept90"):
        found |= by_key(load_voc_folder(out, split, CLASSES), keys)
    assert_same_boxes(found, boxes_of(records), 1e-9)


def test_a_name_that_no_list_holds_is_refused_without_images(tmp_path):
    path = picture(tmp_path / "x.png")
    names = ("a\nb.png", " a.png", "/data/a.png", "x/../a.png", "../a.png", "./a.png", "x//a.png")
    for i, name in enumerate(names):
        records = Records([record(tmp_path, "toy/a", name=name, path=path)], CLASSES)
        with pytest.raises(DataError, match="cannot stand in a list"):
            export(tmp_path / "out", records)
        export(tmp_path / f"out{i}", records, "link")


@pytest.mark.parametrize("second", ["a.jpg", "e\u0301.png"])
def test_an_id_that_would_stand_twice_in_a_list_is_refused_without_images(tmp_path, second):
    first = {"a.jpg": "a.png", "e\u0301.png": "é.png"}[second]
    path = picture(tmp_path / "x.png")
    rows = [record(tmp_path, f"toy/{i}", name=n, path=path) for i, n in enumerate((first, second))]
    with pytest.raises(DataError, match="would stand for toy/0 and toy/1 in a list; use"):
        export(tmp_path / "out", Records(rows, CLASSES))
    apart = [rows[0], replace(rows[1], key="zoo/1")]
    export(tmp_path / "out", Records(apart, CLASSES))


@pytest.mark.parametrize("suffix", [".gif", ".ppm", ".jfif", "", ".2024"])
def test_our_reader_finds_images_of_any_name(tmp_path, suffix):
    path = tmp_path / "image"
    kinds = {".gif": "GIF", ".ppm": "PPM"}
    Image.new("RGB", (64, 48)).save(path, format=kinds.get(suffix, "PNG"))
    row = record(tmp_path, "toy/a", name=f"a{suffix}", path=str(path))
    out = export(tmp_path / "out", Records([row], CLASSES), "copy")
    (sample,) = load_voc_folder(out, "toy_kept90", CLASSES)
    assert len(sample["annotations"]) == 1 and os.path.isfile(sample["file_name"])


@pytest.mark.parametrize("name", ["", " ", "dog ", "\tdog", "d\x01g", "d\0g", "d\ud800g", "d\rg"])
def test_a_class_name_that_would_be_read_otherwise_is_refused(tmp_path, name):
    records = Records([record(tmp_path, "toy/a")], [name, "cat"])
    with pytest.raises(DataError, match="VOC cannot hold the class name") as error:
        export(tmp_path / "out", records, "link")
    assert repr(name) in str(error.value) and not (tmp_path / "out").exists()
    export(tmp_path / "unused", Records([record(tmp_path, "toy/a")], ["cat", name]), "link")
    export(tmp_path / "listed", records, "none")


def test_two_class_names_that_would_be_one_are_refused(tmp_path):
    row = record(tmp_path, "toy/a", [(1, 1, 9, 9), (2, 2, 8, 8)])
    with pytest.raises(DataError, match=r"'caf\\xe9' and 'cafe\\u0301' would be one in VOC"):
        export(tmp_path / "out", Records([row], ["café", "cafe\u0301"]), "link")


@pytest.mark.parametrize("name", ["<cat & dog>", "a\nb", "a\tb", "猫", "red  panda", "x" * 300])
def test_any_other_class_name_comes_back(tmp_path, name):
    out = export(tmp_path / "out", Records([record(tmp_path, "toy/a")], [name]), "link")
    assert find_class_names(out) == [name]


sides = st.tuples(*[st.floats(0, 40, width=32)] * 2, *[st.floats(1, 30, width=32)] * 2)


@settings(max_examples=25)
@given(boxes=st.lists(sides.map(lambda s: (s[0], s[1], s[0] + s[2], s[1] + s[3])), max_size=4))
def test_any_box_comes_back(tmp_path_factory, boxes):
    place = Path(tmp_path_factory.mktemp("voc"))
    records = Records([record(place, "toy/a", boxes, [0] * len(boxes))], CLASSES)
    out = export(place / "out", records, "link")
    (found,) = load_voc_folder(out, "toy_kept90", CLASSES)
    assert_same_boxes(by_key([found], keys_of(out)), boxes_of(records), 1e-6)
