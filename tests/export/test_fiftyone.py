import json
import os

import pytest

from adapruner_det.errors import DataError
from adapruner_det.export.fiftyone import write_fiftyone
from adapruner_det.export.folder import new_folder
from adapruner_det.export.records import Records
from tests.export.examples import CLASSES, assert_same_boxes, boxes_of, keys_of, record, three
from tests.export.owners import read
from tests.export.test_yolo import labelled


def export(place, records, images="none"):
    with new_folder(place, {}) as folder:
        write_fiftyone(records, folder, images)
    return place


def keyed(found, out, records, images):
    """What a reader found, by key."""
    if images == "none":
        keys = {r.path: r.key for r in records.records}
    else:
        keys = {str(out / name): key for name, key in keys_of(out).items()}
    return {keys[path]: value for path, value in found.items()}


def test_what_stands_in_the_file(tmp_path):
    out = export(tmp_path / "out", three(tmp_path / "images"), "link")
    found = json.loads((out / "labels.json").read_text())
    assert found["classes"] == list(CLASSES)
    assert found["labels"]["a"][1] == {
        "label": 0,
        "bounding_box": [10.5 / 64, 3.25 / 48, 9.5 / 64, 36.75 / 48],
        "attributes": {"key": "toy/a"},
    }
    assert found["labels"].keys() == {"a", "deep_b", "c"} and found["labels"]["c"] == []
    assert sorted(os.listdir(out / "data")) == ["a.png", "c.png", "deep_b.jpg"]


def test_one_image_in_two_data_sets_keeps_the_labels_of_both(tmp_path):
    one = record(tmp_path / "images", "one/x", [(1, 1, 9, 9)], name="x.png")
    two = record(tmp_path, "two/x", [(2, 2, 30, 30), (5, 5, 20, 20)], name="x.png", path=one.path)
    records = Records([one, two], CLASSES)
    with pytest.raises(DataError, match=r"one/x and two/x are both of the image .*--images link"):
        export(tmp_path / "out", records)
    assert not (tmp_path / "out").exists()
    found = json.loads((export(tmp_path / "out", records, "link") / "labels.json").read_text())
    assert sorted(map(len, found["labels"].values())) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("images", ["none", "link", "copy"])
def test_fiftyone_reads_the_same_boxes(tmp_path, images):
    records = three(tmp_path / "images")
    extra = record(tmp_path / "images", "toy/d", [(-2, 0, 70, 50)], [1], name="a.b.c.png")
    records = Records([*records.records, extra], CLASSES)
    out = export(tmp_path / "out", records, images)
    found = keyed(read("fiftyone", "detections", out), out, records, images)
    assert_same_boxes(found, boxes_of(records), 1e-6)


@pytest.mark.slow
def test_fiftyone_reads_what_is_said_of_each_box(tmp_path):
    flags = [(0, 0), (1, 0), (0, 1)]
    boxes = [(1, 1, 9, 9), (2, 2, 30, 30), (5, 5, 20, 20)]
    row = record(tmp_path / "images", "toy/a", boxes, flags=flags, ids=[7, 9, 8])
    records = Records([row], CLASSES)
    out = export(tmp_path / "out", records)
    (found,) = read("fiftyone", "attributes", out).values()
    assert found == [
        {"key": "toy/a", "annotation_id": 7},
        {"key": "toy/a", "annotation_id": 9, "iscrowd": 1},
        {"key": "toy/a", "annotation_id": 8, "difficult": 1},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("images", ["none", "link"])
def test_fiftyone_reads_the_classes_of_images(tmp_path, images):
    records = labelled(tmp_path / "images")
    out = export(tmp_path / "out", records, images)
    found = keyed(read("fiftyone", "classes", out), out, records, images)
    assert found == {r.key: records.class_names[r.label] for r in records.records}


def test_unusable_boxes_and_masks_are_said(tmp_path, caplog):
    row = record(tmp_path, "toy/a", unusable=2, extras=[{"keypoints": [1, 2, 2]}])
    export(tmp_path / "out", Records([row], CLASSES))
    assert "fiftyone: 1 box(es) lose their mask or their keypoints" in caplog.text
    assert "fiftyone: 2 box(es) with which nothing can be trained" in caplog.text
