"""VOC folders with bad input: what is refused, and that anything else gives dicts or one error."""

import os

import pytest
from detectron2.data import DatasetCatalog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapruner_det.detection.data.voc_folder import (
    find_class_names,
    load_voc_folder,
    read_voc_folder,
    register_voc_folder,
)
from adapruner_det.errors import DataError
from tests.detection.voc_writer import CAT, edit, write_pets, write_voc_folder


@pytest.fixture
def folder(tmp_path):
    return write_pets(tmp_path / "mine")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_unread(folder, encoding):
    file = folder / "Annotations/b.xml"
    text = '<!DOCTYPE a [<!ENTITY lol "<object/>">]><annotation>&lol;</annotation>'
    file.write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=r"b\.xml defines entities"):
        load_voc_folder(folder, "trainval", ["cat", "dog"])


@pytest.mark.parametrize("lines", ["a\nb\na\n", "a 1\na -1\n", "é\ne\u0301\n"])
def test_an_id_twice_is_refused(tmp_path, lines):
    write_voc_folder(tmp_path, {"train": {"a": [CAT], "b": [CAT], "é": [CAT]}})
    (tmp_path / "ImageSets/Main/train.txt").write_text(lines)
    with pytest.raises(DataError, match=r"train\.txt names .* more than once \(1 ids are"):
        load_voc_folder(tmp_path, "train", ["cat"])


@pytest.mark.parametrize("line", ["../../a", "/etc/passwd", "sub/../../a", "a\0b"])
def test_an_id_that_leads_out_of_the_folder_is_refused(folder, line):
    (folder / "ImageSets/Main/trainval.txt").write_text(f"a\n{line}\n")
    with pytest.raises(DataError, match=r"names .*, which leads out of .*; remove the line"):
        read_voc_folder(folder, "trainval", ["cat", "dog"])


def test_a_faulty_sample_stands_apart_from_the_others(folder):
    (folder / "Annotations/a.xml").write_text("<annotation>")
    dicts, faults = read_voc_folder(folder, "trainval", ["cat", "dog"])
    assert [d["image_id"] for d in dicts] == ["b"]
    assert [f.image_id for f in faults] == ["a"] and "a.xml does not parse" in faults[0].problem


def test_a_pipe_in_place_of_an_annotation_is_not_waited_for(folder):
    (folder / "Annotations/b.xml").unlink()
    os.mkfifo(folder / "Annotations/b.xml")
    with pytest.raises(DataError, match=r"b\.xml is not a regular file"):
        load_voc_folder(folder, "trainval", ["cat", "dog"])


# ---------------------------------------------------------------- whatever is in the files


ANNOTATION = (
    '<annotation xmlns:x="urn:x"><size><width>64</width><height>48</height></size>'
    "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6</ymin>"
    "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
pieces = st.one_of(
    st.sampled_from(
        ["<object>", "</object>", "<bndbox>", "<name/>", "&lt;", "&x;", "nan", "-1e999", "٣"]
        + ["9" * 5000, "<![CDATA[", "]]>", "<!DOCTYPE a>", "\0", "\ud7ff", "0x10", "1_0", "<x:y/>"]
    ),
    st.text(max_size=5),
)


def mutated(text):
    """``text`` with a part replaced, removed or doubled, some times over."""
    cuts = st.tuples(st.integers(0, len(text)), st.integers(0, 40), pieces)

    def apply(edits):
        result = text
        for start, length, piece in edits:
            result = result[:start] + piece + result[start + length :]
        return result

    return st.lists(cuts, min_size=1, max_size=3).map(apply)


quickly = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(folder, split="trainval"):
    """Dicts and faults, or the one error there may be."""
    try:
        dicts, faults = read_voc_folder(folder, split, ["cat", "dog"])
        find_class_names(folder)
    except DataError as error:
        assert "\n" not in str(error)
        return
    for sample in dicts:
        for annotation in sample["annotations"]:
            x0, y0, x1, y1 = annotation["bbox"]
            assert x0 < x1 and y0 < y1 and x0 < sample["width"] and y0 < sample["height"]


@quickly
@given(text=mutated(ANNOTATION), encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1"]))
def test_an_annotation_with_anything_in_it_gives_dicts_or_one_error(folder, text, encoding):
    data = text.encode(encoding, errors="replace")
    (folder / "Annotations/a.xml").write_bytes(data)
    outcome(folder)


@quickly
@given(data=st.one_of(mutated("a\nb\n").map(lambda t: t.encode(errors="replace")), st.binary()))
def test_a_split_file_with_anything_in_it_gives_dicts_or_one_error(folder, data):
    (folder / "ImageSets/Main/trainval.txt").write_bytes(data)
    outcome(folder)


# ---------------------------------------------------------------- what is refused


def _drop(path):
    def damage(folder):
        (folder / path).unlink()

    return damage


def _replace(path, old, new):
    return lambda folder: edit(folder / path, old, new)


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
    "image in another format": (
        lambda folder: (folder / "JPEGImages/b.png").rename(folder / "JPEGImages/b.heic"),
        r"image is missing in .*; JPEGImages/b\.heic is there, but read are \.jpg.*: convert it",
    ),
    "annotation in another format": (
        lambda folder: (folder / "Annotations/b.xml").rename(folder / "Annotations/b.json"),
        r"annotation is missing in .*; Annotations/b\.json is there, but read are \.xml: convert",
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
    with pytest.raises(DataError, match="there is no folder /.*/nowhere; needed is"):
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


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            "<name>dog</name>",
            "<name>dog</name><name>cat</name>",
            "an object with 2 names: dog",
        ),
        ("<xmin>", "<xmin>1</xmin><xmin>", "it has a side twice"),
        ("<xmin>1<", "<xmin>1_0<", "could not convert string to float: '1_0'"),
        ("annotation>", "html>", "b.xml is no annotation: it begins with <html>"),
    ],
)
def test_what_python_or_xml_would_let_pass_is_refused(folder, old, new, match):
    file = folder / "Annotations/b.xml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=match):
        load_voc_folder(folder, "trainval", ["cat", "dog"])
