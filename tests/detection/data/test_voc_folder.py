"""VOC folders against Detectron2's own reader, and real data against a plain parse."""

import logging
import os
import re
import unicodedata

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.detection.data.voc_folder import (
    VOCFolder,
    find_class_names,
    folder_behind,
    load_voc_folder,
    read_split,
    register_voc_folder,
)
from adapruner_det.errors import DataError
from tests.detection.voc_writer import CAT, DOG, edit, write_pets, write_voc_folder


@pytest.fixture
def folder(tmp_path):
    return write_pets(tmp_path / "mine")


def _without_difficult(dicts):
    return [
        d | {"annotations": [{k: a[k] for k in a.keys() - {"difficult"}} for a in d["annotations"]]}
        for d in dicts
    ]


# ---------------------------------------------------------------- what is read


def test_equals_detectron2s_reader_on_integer_boxes(tmp_path):
    splits = {"trainval": {"a": [CAT, DOG], "b": [], "c": [DOG, CAT, CAT]}}
    write_voc_folder(tmp_path, splits, suffix=".jpg")
    theirs = load_voc_instances(str(tmp_path), "trainval", ["dog", "cat"])
    ours = load_voc_folder(tmp_path, "trainval", ["dog", "cat"])
    assert len(ours) == 3
    assert _without_difficult(ours) == theirs


def _plain_objects(xml):
    """[(name, [xmin, ymin, xmax, ymax])] of an annotation by text search alone."""
    objects = []
    for body in re.findall(r"<object>(.*?)</object>", xml, re.S):
        name = re.search(r"<name>\s*(.*?)\s*</name>", body, re.S).group(1)
        sides = ("xmin", "ymin", "xmax", "ymax")
        box = [float(re.search(rf"<{s}>\s*(.*?)\s*</{s}>", body).group(1)) for s in sides]
        objects.append((name, box))
    return objects


REAL = {  # folder → (images in trainval, in test, classes)
    "bccd": (292, 72, 3),
    "foda": (2450, 560, 12),
    "neu_det": (1440, 360, 6),
}


@pytest.mark.parametrize("shared_data", REAL, indirect=True)
def test_real_folders_in_full_against_a_plain_parse(shared_data):
    trainval, test, class_count = REAL[shared_data.name]
    classes = find_class_names(shared_data)
    assert len(classes) == class_count
    for split, count in (("trainval", trainval), ("test", test)):
        dicts = load_voc_folder(shared_data, split, classes)
        assert len({d["image_id"] for d in dicts}) == len(dicts) == count
        for sample in dicts:
            xml = (shared_data / "Annotations" / f"{sample['image_id']}.xml").read_text()
            expected = [
                (name, [x0 - 1, y0 - 1, x1, y1])
                for name, (x0, y0, x1, y1) in _plain_objects(xml)
                if x1 > x0 - 1 and y1 > y0 - 1
            ]
            found = sample["annotations"]
            assert [classes[a["category_id"]] for a in found] == [name for name, _ in expected]
            for annotation, (_, box) in zip(found, expected, strict=True):
                assert annotation["bbox"] == pytest.approx(box, abs=1e-4)
                assert (
                    0 <= annotation["bbox"][0] + 1 and annotation["bbox"][2] <= sample["width"] + 1
                )


@pytest.mark.parametrize("shared_data", ["foda"], indirect=True)
def test_the_decimals_of_real_boxes_are_kept(shared_data):
    dicts = load_voc_folder(shared_data, "test", find_class_names(shared_data))
    sides = [v for d in dicts for a in d["annotations"] for v in a["bbox"]]
    assert sum(abs(v - round(v)) > 1e-3 for v in sides) > 0.9 * len(sides)


@pytest.mark.parametrize("shared_data", REAL, indirect=True)
def test_sizes_of_real_images_are_those_in_the_files(shared_data):
    for sample in load_voc_folder(shared_data, "test", find_class_names(shared_data))[:50]:
        with Image.open(sample["file_name"]) as image:
            assert image.size == (sample["width"], sample["height"])


def test_decimals_and_difficult(tmp_path):
    objects = [("cat", (1.25, 2.5, 30.125, 40.75), 1), CAT]
    write_voc_folder(tmp_path, {"train": {"a": objects}})
    decimals, whole = load_voc_folder(tmp_path, "train", ["cat"])[0]["annotations"]
    assert decimals == {
        "category_id": 0,
        "bbox": [0.25, 1.5, 30.125, 40.75],
        "bbox_mode": BoxMode.XYXY_ABS,
        "difficult": 1,
    }
    assert whole["difficult"] == 0


def test_without_a_difficult_tag_a_box_is_not_difficult(folder):
    edit(folder / "Annotations/c.xml", "<difficult>1</difficult>", "")
    assert load_voc_folder(folder, "test", ["dog"])[0]["annotations"][0]["difficult"] == 0


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a", ["a"]),  # one line, on which numpy.loadtxt gives no list
        ("a\n", ["a"]),
        ("a  1\nb -1\n", ["a", "b"]),  # VOC's lists of one class
        ("b\r\n\r\n a \r\n\n", ["b", "a"]),
        ("\ufeffa\nb\n", ["a", "b"]),  # as editors on Windows write
    ],
)
def test_split_files(folder, text, expected):
    (folder / "ImageSets/Main/trainval.txt").write_bytes(text.encode())
    dicts = load_voc_folder(folder, "trainval", ["cat", "dog"])
    assert [d["image_id"] for d in dicts] == expected


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".gif", ".ppm"]
)
def test_image_suffixes(tmp_path, suffix):
    write_voc_folder(tmp_path, {"train": {"some.name": [CAT]}}, suffix=suffix)
    (tmp_path / "JPEGImages/some.name.txt").write_text("not an image")
    (sample,) = load_voc_folder(tmp_path, "train", ["cat"])
    assert sample["file_name"] == str(tmp_path / f"JPEGImages/some.name{suffix}")


def test_of_two_images_of_one_name_it_is_detectron2s(folder):
    Image.open(folder / "JPEGImages/c.png").save(folder / "JPEGImages/c.jpg")
    (ours,) = load_voc_folder(folder, "test", ["dog"])
    # On a single line Detectron2's reader fails in v0.6, so name the image twice.
    (folder / "ImageSets/Main/test.txt").write_text("c\nc\n")
    theirs = load_voc_instances(str(folder), "test", ["dog"])
    assert ours["file_name"] == theirs[0]["file_name"]


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size><width>0</width><height>0</height></size>",
        "<size><width/><height/></size>",
        "<size><width>wide</width><height>48</height></size>",
    ],
)
def test_a_size_that_the_annotation_lacks_comes_from_the_image(folder, size):
    file = folder / "Annotations/c.xml"
    file.write_text(re.sub(r"<size>.*</size>", size, file.read_text()))
    (sample,) = load_voc_folder(folder, "test", ["dog"])
    assert (sample["height"], sample["width"]) == (48, 64)


def test_boxes_without_area_are_left_out_with_one_warning(tmp_path, caplog):
    flat, thin, turned = (
        ("cat", (5, 20, 30, 19), 0),
        ("cat", (20, 5, 19, 30), 0),
        ("cat", (30, 30, 10, 10), 0),
    )
    # VOC's corners are inclusive, so this one is a pixel wide and high.
    pixel = ("cat", (7, 7, 7, 7), 0)
    write_voc_folder(tmp_path, {"train": {"a": [flat, CAT], "b": [thin, turned], "c": [pixel]}})
    with caplog.at_level(logging.WARNING, logger="adapruner_det"):
        dicts = load_voc_folder(tmp_path, "train", ["cat"])
    assert [len(d["annotations"]) for d in dicts] == [1, 0, 1]
    assert dicts[2]["annotations"][0]["bbox"] == [6, 6, 7, 7]
    (record,) = caplog.records
    assert "3 box(es)" in record.message and "a.xml" in record.message


def test_class_names_are_those_of_the_whole_folder_sorted(folder):
    edit(folder / "Annotations/a.xml", "<name>cat</name>", "<name> ant </name>")
    assert find_class_names(folder) == ["ant", "cat", "dog"]


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("given", [None, [NFC, "dog"], [NFD, "dog"]])
def test_a_class_is_one_however_its_letters_are_composed(folder, given):
    for name, form in (("a", NFC), ("b", NFD)):
        file = folder / f"Annotations/{name}.xml"
        file.write_text(file.read_text().replace("cat", form), encoding="utf-8")
    register_voc_folder("pets", folder, "trainval", given)
    register_voc_folder("pets", folder, "trainval", given)
    assert MetadataCatalog.get("pets").thing_classes == [NFC, "dog"]
    dicts = DatasetCatalog.get("pets")
    assert [[a["category_id"] for a in d["annotations"]] for d in dicts] == [[0], [0, 1]]


def test_ids_of_classes_stay_in_the_order_of_their_names_as_they_stand(folder):
    """As they were before names were put into NFC, where a folder has one form of each."""
    text = (folder / "Annotations/a.xml").read_text()
    (folder / "Annotations/a.xml").write_text(text.replace("cat", NFD), encoding="utf-8")
    (folder / "ImageSets/Main/more.txt").write_text("more\n")
    (folder / "Annotations/more.xml").write_text(text.replace("cat", "cafz"))
    assert find_class_names(folder) == [NFC, "cafz", "cat", "dog"]
    assert NFD < "cafz" < NFC


def test_a_linked_folder_of_annotations_brings_no_class_unless_a_list_names_it(folder):
    (folder / "old").mkdir()
    text = (folder / "Annotations/a.xml").read_text()
    (folder / "old/a.xml").write_text(text.replace("cat", "ant"))
    for name, target in (("Annotations", "old"), ("JPEGImages", "JPEGImages")):
        (folder / name / "old").symlink_to(folder / target)
    assert find_class_names(folder) == ["cat", "dog"]
    (folder / "ImageSets/Main/old.txt").write_text("old/a\n")
    assert find_class_names(folder) == ["ant", "cat", "dog"]


def test_a_split_with_its_suffix_is_told_to_be_named_without(folder):
    with pytest.raises(DataError, match=r"there are test, trainval; write 'test', without \.txt"):
        load_voc_folder(folder, "test.txt", ["cat"])


STRAY = ".ipynb_checkpoints/a-checkpoint.xml", "sub/.trash/a.xml", "._a.xml", "__MACOSX/a.xml"


@pytest.mark.parametrize("stray", STRAY)
def test_a_hidden_annotation_brings_no_class_unless_a_list_names_it(folder, stray, caplog):
    file = folder / "Annotations" / stray
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((folder / "Annotations/a.xml").read_text().replace("cat", "ant"))
    assert find_class_names(folder) == ["cat", "dog"]
    (folder / "ImageSets/Main/more.txt").write_text(f"{stray[:-4]} -1\n")
    assert find_class_names(folder) == ["ant", "cat", "dog"] and not caplog.records


def test_a_class_that_no_list_leads_to_keeps_its_id_and_is_said(folder, caplog):
    text = (folder / "Annotations/b.xml").read_text()
    (folder / "Annotations/b (copy).xml").write_text(text.replace("cat", "bat"))
    assert find_class_names(folder) == ["bat", "cat", "dog"]
    (said,) = (r.getMessage() for r in caplog.records)
    assert said.startswith("1 class(es) are in no image that a list") and "'bat' in " in said
    assert "b (copy).xml" in said


def test_every_bndbox_of_an_object_is_a_box_and_those_of_its_parts_are_not(folder):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    edit(folder / "Annotations/c.xml", "<bndbox>", f"{part}{box}<bndbox>")
    (sample,) = load_voc_folder(folder, "test", ["cat", "dog"])
    assert [a["bbox"] for a in sample["annotations"]] == [[1, 2, 9, 8], [0, 0, 64, 48]]
    assert {(a["category_id"], a["difficult"]) for a in sample["annotations"]} == {(1, 1)}


TEXTS = {  # of an annotation that is the same in each
    "with a declaration": lambda text: f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode(),
    "with a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Latin-1": lambda text: f'<?xml version="1.0" encoding="latin-1"?>{text}'.encode("latin-1"),
    "in a namespace": lambda text: text.replace(
        "<annotation>", '<annotation xmlns="http://example.org/voc">'
    ).encode(),
    "with prefixes": lambda text: (
        re.sub(r"<(/?)(\w)", r"<\1v:\2", text)
        .replace("<v:annotation>", '<v:annotation xmlns:v="urn:voc">')
        .encode()
    ),
    "in a namespace in UTF-16": lambda text: text.replace(
        "<annotation>", '<annotation xmlns="http://example.org/voc">'
    ).encode("utf-16"),
    "with comments": lambda text: text.replace("<object>", "<!-- an --><object><?x y?>").encode(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_an_annotation_is_read_alike_in_every_form_of_xml(folder, kind):
    file = folder / "Annotations/b.xml"
    edit(file, "<name>dog</name>", "<name>Dögge</name>")
    classes = ["cat", "Dögge"]
    expected = load_voc_folder(folder, "trainval", classes)
    assert [len(d["annotations"]) for d in expected] == [1, 2]
    file.write_bytes(TEXTS[kind](file.read_text()))
    os.utime(file, ns=(1, 1))
    assert load_voc_folder(folder, "trainval", classes) == expected


# Ids as they are written

ODD_IDS = ["a b", "a 1", "a  -1", "x 0", "with,comma", "sub/a", "é", "100%", "#1", "a.b.c", "-1"]


@pytest.mark.parametrize("image_id", ODD_IDS)
def test_an_id_is_a_whole_line_where_there_is_a_file_of_that_name(tmp_path, image_id):
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    write_voc_folder(tmp_path, {"train": {image_id: [CAT], "a": [CAT, CAT]}})
    dicts = load_voc_folder(tmp_path, "train", ["cat"])
    assert [(d["image_id"], len(d["annotations"])) for d in dicts] == [(image_id, 1), ("a", 2)]
    assert os.path.splitext(dicts[0]["file_name"])[0].endswith(f"JPEGImages/{image_id}")


def test_the_image_set_of_a_class_is_read_in_full_and_said_so(folder, caplog):
    file = folder / "ImageSets/Main/dog_trainval.txt"
    file.write_text("a -1\nb\t1\n")
    with caplog.at_level(logging.WARNING):
        assert read_split(folder, "dog_trainval") == ["a", "b"]
    assert "is the image set of a class: all its 2 images are taken, the 1 marked -1 too" in (
        caplog.text
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_an_accent_is_found_however_it_is_stored(tmp_path, form, on_disk):
    write_voc_folder(tmp_path, {"train": {unicodedata.normalize(on_disk, "é"): [CAT]}})
    text = unicodedata.normalize(form, "é\n")
    (tmp_path / "ImageSets/Main/train.txt").write_text(text)
    (sample,) = load_voc_folder(tmp_path, "train", ["cat"])
    assert os.path.exists(sample["file_name"]) and len(sample["annotations"]) == 1


# Boxes against their image


def test_boxes_outside_their_image_are_left_out_or_warned_of_by_kind(tmp_path, caplog):
    outside, beyond = ("cat", (70, 5, 80, 20), 0), ("cat", (5, 5, 80, 20), 0)
    before = ("cat", (-9, 5, 0, 20), 0)
    write_voc_folder(tmp_path, {"train": {"a": [CAT], "b": [outside, beyond, before]}})
    with caplog.at_level(logging.WARNING, logger="adapruner_det"):
        dicts = load_voc_folder(tmp_path, "train", ["cat"])
    assert [len(d["annotations"]) for d in dicts] == [1, 1]
    assert [a["bbox"] for a in dicts[1]["unusable_annotations"]] == [
        [69, 4, 80, 20],
        [-10, 4, 0, 20],
    ]
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2 and all("b.xml" in line for line in said)
    assert any("2 box(es) wholly outside their image are left out" in line for line in said)
    assert any("1 box(es) reaching beyond their image" in line for line in said)


def test_images_in_several_formats_are_said(folder, caplog):
    Image.open(folder / "JPEGImages/c.png").save(folder / "JPEGImages/c.bmp")
    with caplog.at_level(logging.WARNING):
        (sample,) = load_voc_folder(folder, "test", ["dog"])
    assert sample["file_name"].endswith("c.png")
    assert "1 id(s) have images in several formats" in caplog.text


def test_a_changed_annotation_is_read_anew(folder):
    assert len(load_voc_folder(folder, "test", ["cat", "dog"])[0]["annotations"]) == 1
    text = (folder / "Annotations/b.xml").read_text()
    (folder / "Annotations/c.xml").write_text(text)
    assert len(load_voc_folder(folder, "test", ["cat", "dog"])[0]["annotations"]) == 2


# ---------------------------------------------------------------- registering


def test_registering_gives_dicts_and_metadata(folder):
    register_voc_folder("pets", folder, "trainval", year=2007)
    assert [d["image_id"] for d in DatasetCatalog.get("pets")] == ["a", "b"]
    meta = MetadataCatalog.get("pets")
    assert meta.thing_classes == ["cat", "dog"]
    assert (meta.dirname, meta.split, meta.year) == (str(folder), "trainval", 2007)
    assert meta.evaluator_type == "voc_folder"


def test_class_names_that_are_given_keep_their_order(folder):
    register_voc_folder("pets", folder, "trainval", class_names=["dog", "ant", "cat"])
    ids = [a["category_id"] for d in DatasetCatalog.get("pets") for a in d["annotations"]]
    assert ids == [2, 2, 0]


def test_the_same_again_changes_nothing_and_another_set_is_refused(folder, tmp_path):
    register_voc_folder("pets", folder, "trainval", ["cat", "dog"])
    register_voc_folder("pets", folder, "trainval", ["cat", "dog"])
    register_voc_folder("pets", folder, "trainval")
    other = write_voc_folder(tmp_path / "other", {"trainval": {"z": [CAT]}})
    for place, split, classes in (
        (folder, "test", None),
        (other, "trainval", None),
        (folder, "trainval", ["dog", "cat"]),
    ):
        with pytest.raises(DataError, match="'pets' belongs to another data set.*another name"):
            register_voc_folder("pets", place, split, classes)
    assert len(DatasetCatalog.get("pets")) == 2
    with pytest.raises(DataError, match="'voc_2007_test' belongs to another"):
        register_voc_folder("voc_2007_test", folder, "test")


def test_tags_in_capitals_are_those_in_small_letters(folder):
    before = load_voc_folder(folder, "trainval", ["cat", "dog"])
    for tag in ("annotation", "object", "bndbox", "xmin"):
        for file in (folder / "Annotations").iterdir():
            text = file.read_text().replace(f"<{tag}>", f"<{tag.title()}>")
            file.write_text(text.replace(f"</{tag}>", f"</{tag.title()}>"))
    assert load_voc_folder(folder, "trainval", ["cat", "dog"]) == before


def test_a_folder_is_behind_this_projects_reader_and_detectron2s_and_no_other(folder):
    register_voc_folder("ours", folder, "test")
    register_pascal_voc("theirs", str(folder), "test", 2012, ["cat", "dog"])
    for name in ("ours", "theirs"):
        found = folder_behind(name, DatasetCatalog[name])
        assert found == VOCFolder(str(folder), "test", ("cat", "dog"))
    own = lambda: load_voc_instances(str(folder), "test", ["dog", "cat"])  # noqa: E731
    assert folder_behind("theirs", own) is None
