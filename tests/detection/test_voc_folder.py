"""VOC folders against Detectron2's own reader, real data against a plain parse, and bad input."""

import logging
import re

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.detection.voc_folder import (
    find_class_names,
    load_voc_folder,
    register_voc_folder,
)
from adapruner_det.errors import DataError
from tests.detection.voc_writer import write_voc_folder

CAT, DOG = ("cat", (5, 6, 30, 40), 0), ("dog", (1, 1, 64, 48), 1)


@pytest.fixture
def folder(tmp_path):
    """Two splits of a folder: a and b in trainval, c in test."""
    splits = {"trainval": {"a": [CAT], "b": [CAT, DOG]}, "test": {"c": [DOG]}}
    return write_voc_folder(tmp_path / "mine", splits)


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


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
    _edit(folder / "Annotations/c.xml", "<difficult>1</difficult>", "")
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


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"])
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
    _edit(folder / "Annotations/a.xml", "<name>cat</name>", "<name> ant </name>")
    assert find_class_names(folder) == ["ant", "cat", "dog"]


# ---------------------------------------------------------------- what is refused


def _drop(path):
    def damage(folder):
        (folder / path).unlink()

    return damage


def _replace(path, old, new):
    return lambda folder: _edit(folder / path, old, new)


REFUSED = {  # what is done to the folder, and what the message says
    "unparsable annotation": (
        _replace("Annotations/b.xml", "</annotation>", ""),
        r"Annotations/b\.xml does not parse",
    ),
    "empty annotation": (
        lambda folder: (folder / "Annotations/b.xml").write_bytes(b""),
        r"Annotations/b\.xml does not parse",
    ),
    "annotation in another encoding": (
        lambda folder: (folder / "Annotations/b.xml").write_bytes(b"<annotation>\xff\xfe"),
        r"Annotations/b\.xml does not parse",
    ),
    "missing image": (
        _drop("JPEGImages/b.png"),
        r"Main/trainval\.txt names 'b', whose image is missing",
    ),
    "missing annotation": (
        _drop("Annotations/b.xml"),
        r"Main/trainval\.txt names 'b', whose annotation is missing",
    ),
    "unknown class": (
        _replace("Annotations/b.xml", "dog", "unicorn"),
        r"b\.xml has the class 'unicorn', which is not among \['cat', 'dog'\]",
    ),
    "no name": (
        _replace("Annotations/b.xml", "<name>dog</name>", ""),
        r"b\.xml has an object without a name",
    ),
    "no corner": (
        _replace("Annotations/b.xml", "<xmin>1</xmin>", ""),
        r"b\.xml has a box that does not parse",
    ),
    "a corner that is no number": (
        _replace("Annotations/b.xml", "<xmin>1</xmin>", "<xmin>left</xmin>"),
        r"b\.xml has a box that does not parse.*left",
    ),
    "a corner that is not finite": (
        _replace("Annotations/b.xml", "<xmax>64</xmax>", "<xmax>inf</xmax>"),
        r"b\.xml has a box that does not parse.*not finite",
    ),
    "difficult in words": (
        _replace("Annotations/b.xml", "<difficult>1<", "<difficult>Unspecified<"),
        r"b\.xml has a box that does not parse.*Unspecified",
    ),
    "split file in another encoding": (
        lambda folder: (folder / "ImageSets/Main/trainval.txt").write_bytes(b"\xff\xfea\n"),
        r"trainval\.txt cannot be read",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_refused_by_name(folder, case):
    damage, message = REFUSED[case]
    load_voc_folder(folder, "trainval", ["cat", "dog"])
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        load_voc_folder(folder, "trainval", ["cat", "dog"])
    assert "\n" not in str(error.value)


def test_a_missing_root_or_part_of_it_is_named(folder):
    with pytest.raises(DataError, match="/nowhere is not a folder in the VOC layout"):
        register_voc_folder("lost", folder / "nowhere", "trainval")
    (folder / "JPEGImages").rename(folder / "images")
    with pytest.raises(DataError, match="has no JPEGImages; needed are"):
        register_voc_folder("lost", folder, "trainval")
    assert "lost" not in DatasetCatalog.list()


def test_a_missing_split_is_told_with_those_there(folder):
    with pytest.raises(DataError, match=r"no split 'train'.*there are test, trainval"):
        register_voc_folder("lost", folder, "train")
    for file in (folder / "ImageSets/Main").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="there are none"):
        register_voc_folder("lost", folder, "train")


def test_a_folder_without_any_object_has_no_classes(tmp_path):
    write_voc_folder(tmp_path, {"train": {"a": []}})
    with pytest.raises(DataError, match="no annotation in .* has an object"):
        register_voc_folder("blank", tmp_path, "train")


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
