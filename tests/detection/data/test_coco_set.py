"""Annotation files in COCO's format, against Detectron2's own reader, and bad ones."""

import copy
import json
import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from adapruner_det.detection.data.checks import checked_set, find_faults
from adapruner_det.detection.data.coco_set import COCOSet, register_coco_set
from adapruner_det.errors import DataError
from tests.detection.coco_writer import content, write_coco

POLYGON = [[5, 6, 30, 6, 30, 40, 5, 40]]
UNCOMPRESSED = {"size": [48, 64], "counts": [100, 20, 28, 20, 48 * 64 - 168]}
COMPRESSED = coco_mask.frPyObjects(UNCOMPRESSED, 48, 64)
COMPRESSED = {**COMPRESSED, "counts": COMPRESSED["counts"].decode()}
KEYPOINTS = [10, 11, 2, 20, 21, 1, 0, 0, 0]

GOOD = {
    "boxes": {},
    "polygons": {"segmentation": POLYGON},
    "a polygon of two corners beside a good one": {"segmentation": [[1, 2, 3, 4], *POLYGON]},
    "rle": {"segmentation": COMPRESSED},
    "uncompressed rle": {"segmentation": UNCOMPRESSED},
    "keypoints": {"keypoints": KEYPOINTS, "num_keypoints": 2},
    "a crowd": {"segmentation": UNCOMPRESSED, "iscrowd": 1},
    "no mask": {"segmentation": []},
    "decimals": {"bbox": [5.25, 6.5, 20.125, 30.75]},
}


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 1])
def test_whatever_mask_is_compressed_is_read(tmp_path, share):
    masks = np.random.default_rng(0).random((48, 64, 4)) < share
    data = content()
    for row, own in zip(data["annotations"], np.moveaxis(masks, 2, 0), strict=False):
        found = coco_mask.encode(np.asfortranarray(own, dtype=np.uint8))
        row["segmentation"] = {**found, "counts": found["counts"].decode()}
    register_coco_set("ours", *write_coco(tmp_path, data))
    for sample, own in zip(DatasetCatalog.get("ours"), np.moveaxis(masks, 2, 0), strict=True):
        assert (coco_mask.decode(sample["annotations"][0]["segmentation"]) == own).all()


def without_ids(dicts):
    return [
        d | {"annotations": [{k: a[k] for k in a.keys() - {"id"}} for a in d["annotations"]]}
        for d in dicts
    ]


@pytest.mark.parametrize("kind", GOOD)
def test_equals_detectron2s_reader(tmp_path, kind):
    data = content()
    data["images"].reverse()
    data["categories"].reverse()
    for row in data["annotations"][1:]:
        row.update(copy.deepcopy(GOOD[kind]))
    file, images = write_coco(tmp_path, data)
    theirs = load_coco_json(str(file), str(images), "theirs")
    register_coco_set("ours", file, images)
    for _ in range(2):  # what is kept in memory does not change by reading
        ours = DatasetCatalog.get("ours")
        assert without_ids(ours) == theirs
        ids = [a["id"] for d in ours for a in d["annotations"]]
        assert ids == [1, 101, 2, 3, 103, 4]
    mine, other = MetadataCatalog.get("ours"), MetadataCatalog.get("theirs")
    assert mine.thing_classes == other.thing_classes == ["cat", "dog"]
    assert mine.thing_dataset_id_to_contiguous_id == other.thing_dataset_id_to_contiguous_id
    MetadataCatalog.remove("theirs")


def test_a_caller_may_change_what_it_gets(tmp_path):
    data = content(1)
    data["annotations"][0].update(segmentation=copy.deepcopy(POLYGON), keypoints=[1, 2, 2])
    register_coco_set("ours", *write_coco(tmp_path, data))
    before = copy.deepcopy(DatasetCatalog.get("ours"))
    spoilt = DatasetCatalog.get("ours")[0]["annotations"][0]
    spoilt["bbox"][0] = spoilt["keypoints"][0] = 99
    spoilt["segmentation"].clear()
    assert DatasetCatalog.get("ours") == before


def test_metadata_are_there_before_the_data_are_read(tmp_path):
    file, images = write_coco(tmp_path)
    register_coco_set("ours", file, images)
    meta = MetadataCatalog.get("ours")
    assert meta.thing_classes == ["cat", "dog"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 17: 1}
    assert (meta.evaluator_type, meta.image_root) == ("coco", str(images))
    assert meta.json_file == str(file)


def _without(key):
    return lambda data: data["annotations"][0].pop(key)


UNFIT = {
    "no area": _without("area"),
    "no iscrowd": _without("iscrowd"),
    "an id of 0": lambda data: data["annotations"][0].update(id=0),
    "text ids": lambda data: [a.update(id=f"a{a['id']}") for a in data["annotations"]],
    "no sizes": lambda data: [i.pop("height") for i in data["images"]],
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_file_that_pycocotools_misreads_is_not_given_to_it(tmp_path, kind):
    data = content()
    UNFIT[kind](data)
    register_coco_set("ours", *write_coco(tmp_path, data))
    assert MetadataCatalog.get("ours").get("json_file") is None
    assert len(DatasetCatalog.get("ours")) == 4


def test_the_image_tells_a_size_that_the_file_does_not(tmp_path):
    data = content()
    del data["images"][0]["height"], data["images"][1]["width"]
    data["images"][2].update(height=None)
    data["images"][3].update(height="48")
    register_coco_set("ours", *write_coco(tmp_path, data))
    assert {(d["height"], d["width"]) for d in DatasetCatalog.get("ours")} == {(48, 64)}


def test_a_text_is_as_good_an_id_as_a_number(tmp_path):
    data = content(3)
    for image in data["images"]:
        image["id"] = f"im/{image['id']}"
    for row in data["annotations"]:
        row.update(id=f"a{row['id']}", image_id=f"im/{row['image_id']}")
    register_coco_set("ours", *write_coco(tmp_path, data))
    dicts = DatasetCatalog.get("ours")
    assert [d["image_id"] for d in dicts] == ["im/1", "im/2", "im/3"]
    assert [a["id"] for d in dicts for a in d["annotations"]] == ["a1", "a101", "a2", "a3", "a103"]


def test_the_same_again_changes_nothing_and_another_set_is_refused(tmp_path):
    file, images = write_coco(tmp_path)
    other, _ = write_coco(tmp_path, name="test.json")
    register_coco_set("ours", file, images)
    register_coco_set("ours", str(file), str(images) + "/")
    for place, root in ((other, images), (file, tmp_path)):
        with pytest.raises(DataError, match="'ours' belongs to another data set"):
            register_coco_set("ours", place, root)


def test_a_changed_file_is_read_anew(tmp_path):
    data = content()
    file, images = write_coco(tmp_path, data)
    register_coco_set("ours", file, images)
    data["annotations"] = data["annotations"][:3]
    write_coco(tmp_path, data)
    assert sum(len(d["annotations"]) for d in DatasetCatalog.get("ours")) == 3


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    file, images = write_coco(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    register_coco_set("ours", file, images)


# What is refused


def test_files_that_are_not_there_are_named(tmp_path):
    file, images = write_coco(tmp_path)
    with pytest.raises(DataError, match="no annotation file .*/gone.json"):
        register_coco_set("ours", tmp_path / "gone.json", images)
    with pytest.raises(DataError, match="no folder of images .*/gone"):
        register_coco_set("ours", file, tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.json")  # which would be waited for
    with pytest.raises(DataError, match="no annotation file .*/pipe.json"):
        register_coco_set("ours", tmp_path / "pipe.json", images)
    assert "ours" not in DatasetCatalog.list()


def _images(**more):
    return lambda data: data["images"][1].update(more)


def _annotations(**more):
    return lambda data: data["annotations"][1].update(more)


REFUSED = {
    "no images": (lambda data: data.pop("images"), "no list of 'images'"),
    "images by id": (lambda data: data.update(images={}), "no list of 'images'"),
    "an image of text": (lambda data: data["images"].append("a.png"), "no list of 'images'"),
    "no categories": (lambda data: data.update(categories=[]), "names no category"),
    "a category without a name": (
        lambda data: data["categories"][0].pop("name"),
        "the category .* needs a whole id and a name",
    ),
    "a category of half a letter": (
        lambda data: data["categories"][0].update(name="ca\ud83dt"),
        r"the category 'ca\\ud83dt' is no text; rename it",
    ),
    "a category twice": (
        lambda data: data["categories"].append({"id": 3, "name": "ant"}),
        "the id 3 is there more than once in 'categories'",
    ),
    "an image twice": (_images(id=1), "the id 1 is there more than once in 'images'"),
    "an annotation twice": (_annotations(id=1), "the id 1 is there more than once in 'annotat"),
    "an image without an id": (lambda data: data["images"][1].pop("id"), "the id None in 'images'"),
    "ids of two types": (_images(id="2"), "the id '2' in 'images'; all must be"),
    "an id that is a list": (_images(id=[2]), r"the id \[2\] in 'images'; all must be"),
    "an id of NaN": (_images(id=float("nan")), "the id nan in 'images'"),
    "an unknown image": (_annotations(image_id=77), "annotation 2 is of image 77"),
    "an image that is a list": (_annotations(image_id=[1]), r"annotation 2 is of image \[1\]"),
    "no image": (lambda data: data["annotations"][1].pop("image_id"), "of image None"),
    "an unknown category": (_annotations(category_id=4), "has the category 4, which is not among"),
    "a category that is a dict": (_annotations(category_id={}), "has the category {}, which is"),
    "no category": (lambda data: data["annotations"][1].pop("category_id"), "category None"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_unfit_as_a_whole_is_refused_with_its_name(tmp_path, kind):
    data = content()
    file, images = write_coco(tmp_path, data)
    spoil, match = REFUSED[kind]
    spoil(data)
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=match) as caught:
        register_coco_set("ours", file, images)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '"images"', "[" * 100_000, "\xff\xfe", '{"images": 1e999}']
)
def test_what_is_no_json_or_no_object_is_refused_with_its_name(tmp_path, text):
    file, images = write_coco(tmp_path)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.json is not (JSON|in COCO's format)"):
        register_coco_set("ours", file, images)


FAULTY = {
    "no bbox": (lambda a, i: a.pop("bbox"), "image 2 .*has no bbox in annotation 2"),
    "an empty bbox": (lambda a, i: a.update(bbox=[]), r"has the bbox \[\] in annotation 2"),
    "a bbox of 3": (lambda a, i: a.update(bbox=[1, 2, 3]), r"\[1, 2, 3\] in annotation 2"),
    "a bbox of text": (lambda a, i: a.update(bbox=["1", 2, 3, 4]), "in annotation 2: it must be"),
    "a bbox of None": (lambda a, i: a.update(bbox=[None, 2, 3, 4]), "in annotation 2"),
    "a huge number": (lambda a, i: a.update(bbox=[10**400, 2, 3, 4]), "in annotation 2"),
    "ignore": (lambda a, i: a.update(ignore=1), "has 'ignore' in annotation 2"),
    "a mask of numbers": (lambda a, i: a.update(segmentation=[1, 2, 3]), "annotation 2"),
    "a mask of words": (lambda a, i: a.update(segmentation=[["a"] * 6]), "annotation 2"),
    "a mask that is a text": (lambda a, i: a.update(segmentation="abcdef"), "annotation 2"),
    "a mask without a size": (lambda a, i: a.update(segmentation={"counts": [1]}), "annotation 2"),
    "a mask without counts": (lambda a, i: a.update(segmentation={"size": [9, 9]}), "annotation 2"),
    "a mask of a negative size": (
        lambda a, i: a.update(segmentation={"size": [-9, 9], "counts": [1]}), "annotation 2"
    ),
    "counts of another size": (
        lambda a, i: a.update(segmentation={"size": [48, 64], "counts": [5]}), "annotation 2"
    ),
    "negative counts": (
        lambda a, i: a.update(segmentation={"size": [48, 64], "counts": [-1, 5]}), "annotation 2"
    ),
    "counts that are a number": (
        lambda a, i: a.update(segmentation={"size": [48, 64], "counts": 5}), "annotation 2"
    ),
    **{
        f"compressed counts {counts!r}": (
            lambda a, i, counts=counts: a.update(segmentation={"size": [48, 64], "counts": counts}),
            "image 2 has a mask or keypoints that do not parse in annotation 2",
        )
        # The last but one is of 48·64 + 5 pixels and then −5.
        for counts in ("", "junk!", "PPP", "00000", "é", "UP3K", COMPRESSED["counts"][:-1])
    },
    "compressed counts of another size": (
        lambda a, i: a.update(segmentation={**COMPRESSED, "size": [48, 65]}), "mask of 48×65 pixels"
    ),
    "keypoints of text": (lambda a, i: a.update(keypoints=["a", 1, 2]), "keypoints.* annotation 2"),
    "two keypoints' numbers": (lambda a, i: a.update(keypoints=[1, 2]), "keypoints.* annotation 2"),
    "a huge keypoint": (lambda a, i: a.update(keypoints=[10**400, 1, 2]), "mask or keypoints"),
    "no file name": (lambda a, i: i.pop("file_name"), "image 2 has the file_name None"),
    "a file name that is a number": (lambda a, i: i.update(file_name=2), "image 2 has the file_na"),
    "a way out": (lambda a, i: i.update(file_name="../../x.png"), "image 2 .* leads out of"),
    "another root": (lambda a, i: i.update(file_name="/etc/passwd"), "image 2 .* leads out of"),
    "the folder": (lambda a, i: i.update(file_name="."), "image 2 .*leads out of"),
    "a null byte": (lambda a, i: i.update(file_name="a\0.png"), "image 2 .*leads out of"),
    "an image that is not there": (lambda a, i: i.update(file_name="gone.png"), "gone.png is not"),
    "another size": (lambda a, i: i.update(height=47), "is 64×48 pixels, but annotated as 64×47"),
    "another size with decimals": (lambda a, i: i.update(height=47.0), "annotated as 64×47"),
    "another size in text": (lambda a, i: i.update(height="47"), "annotated as 64×47"),
    "sides in turn": (lambda a, i: i.update(height=64, width=48), "annotated as 48×64, with its"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_sample_is_named_and_can_be_left_out(tmp_path, kind):
    data = content()
    file, images = write_coco(tmp_path, data)
    spoil, match = FAULTY[kind]
    spoil(data["annotations"][1], data["images"][1])
    file.write_text(json.dumps(data))
    register_coco_set("ours", file, images)
    with pytest.raises(DataError, match=match) as caught:
        checked_set("ours")
    assert "\n" not in str(caught.value) and "ON_BAD_SAMPLE" in str(caught.value)
    found = checked_set("ours", "skip")
    assert [d["image_id"] for d in found.dicts] == [1, 3, 4]
    assert list(found.excluded) == ["ours/2"]
    # From now on the data set is without it, in evaluation too.
    assert [d["image_id"] for d in DatasetCatalog.get("ours")] == [1, 3, 4]
    assert MetadataCatalog.get("ours").get("json_file") is None


# Whatever is in a file

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 200),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def places(data, path=()):
    """The path to every value in ``data``."""
    rows = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in rows:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


RICH = content(2)
RICH["annotations"][0].update(segmentation=POLYGON, keypoints=KEYPOINTS)
RICH["annotations"][1].update(segmentation=UNCOMPRESSED, iscrowd=1)
RICH["annotations"][2].update(segmentation=COMPRESSED)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(list(places(RICH))), value=values, drop=st.booleans())
def test_a_file_with_anything_in_it_gives_dicts_or_one_error(tmp_path, where, value, drop):
    data = copy.deepcopy(RICH)
    *path, last = where
    part = data
    for key in path:
        part = part[key]
    if drop:
        del part[last]
    else:
        part[last] = value
    file, images = write_coco(tmp_path, RICH)
    file.write_text(json.dumps(data))
    for name in {"ours"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    try:
        register_coco_set("ours", file, images)
        dicts, faults = find_faults("ours")
        COCOSet(str(file), str(images)).read()
        checked_set("ours", "skip")
    except DataError as error:
        assert "\n" not in str(error)
        return
    assert len(dicts) + len(faults) == len(data["images"])
