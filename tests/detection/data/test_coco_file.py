"""Whether a COCO file says of samples what was read of them."""

import copy
import json
import math

import numpy as np
import pytest
from detectron2.structures import BoxMode

from adapruner_det.detection.data.checks import checked_set
from adapruner_det.detection.data.coco_file import coco_content, says_the_same
from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.errors import DataError
from tests.detection.coco_writer import annotation, content, write_coco

NAMES = ["cat", "dog"]


@pytest.fixture
def read(tmp_path):
    """(content of a file, what a run reads of it); one box is NaN, one is a crowd's."""
    given = content(4)
    given["annotations"] += [
        annotation(500, 2, 17, (30, 10, math.nan, 20)),
        annotation(501, 3, 3, (1, 1, 60, 40), iscrowd=1),
    ]
    register_coco_set("pets", *write_coco(tmp_path, given))
    return given, copy.deepcopy(checked_set("pets").dicts)


def test_what_is_read_of_a_file_is_what_it_says(read):
    given, dicts = read
    given["annotations"] = given["annotations"][::-1]
    assert says_the_same(given, dicts, NAMES)
    assert says_the_same(given, dicts[1:], NAMES)  # the file may have more
    for sample in dicts:  # as another reader may have them
        sample["image_id"] = np.int64(sample["image_id"])
        for own in sample["annotations"]:
            x, y, w, h = own["bbox"]
            own.update(bbox=np.array([x, y, x + w, y + h], np.float32), bbox_mode=BoxMode.XYXY_ABS)
    assert says_the_same(given, dicts, NAMES)


def first(dicts):
    return dicts[0]["annotations"][0]


CHANGES = {
    "a side": lambda d: first(d)["bbox"].__setitem__(2, 24),
    "a class": lambda d: first(d).update(category_id=1),
    "a crowd": lambda d: first(d).update(iscrowd=1),
    "one box less": lambda d: d[0]["annotations"].pop(),
    "an unusable box less": lambda d: d[1].pop("unusable_annotations"),
    "another image": lambda d: d[0].update(file_name="elsewhere/002.png"),
    "an id that is not there": lambda d: d[0].update(image_id=99),
    "an id as text": lambda d: d[0].update(image_id="1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_sample_of_which_a_file_says_otherwise(read, change):
    given, dicts = read
    CHANGES[change](dicts)
    assert not says_the_same(given, dicts, NAMES)


@pytest.mark.parametrize("names", [["dog", "cat"], ["animal", "dog"], []])
def test_classes_are_the_same_by_their_names(read, names):
    assert not says_the_same(*read, names)


@pytest.mark.parametrize("part", ["file_name", "bbox", "category_id", "name"])
def test_a_file_that_lacks_what_was_read_says_otherwise(read, part):
    given, dicts = read
    for row in (given["images"][0], given["annotations"][0], given["categories"][0]):
        row.pop(part, None)
    assert not says_the_same(given, dicts, NAMES)


def test_what_is_in_a_file(tmp_path):
    file, _ = write_coco(tmp_path, given := content(2))
    assert coco_content(file) == given
    for other in ([], {"images": []}, {**given, "annotations": {}}):
        file.write_text(json.dumps(other))
        assert coco_content(file) == {}
    file.write_text("{")
    with pytest.raises(DataError, match=r"train.json cannot be read"):
        coco_content(file)
