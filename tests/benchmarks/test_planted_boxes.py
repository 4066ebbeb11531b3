"""What is planted is what truth.json says, and nothing else changes."""

import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from adapruner_det.errors import DataError
from benchmarks.planted_boxes import IOU, iou, moved, plant
from tests.detection.toy import write_voc_folder

N = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Source, planted folder, truth."""
    source = write_voc_folder(tmp_path_factory.mktemp("a") / "voc", trainval=N, test=5)
    ids = (source / "ImageSets/Main/trainval.txt").read_text().split()
    for name in ids[::2]:  # a second object, so that one can be missing
        path = source / f"Annotations/{name}.xml"
        tree = ET.parse(path)
        tree.getroot().append(ET.fromstring(ET.tostring(tree.getroot().find("object"))))
        tree.write(path)
    out = tmp_path_factory.mktemp("b") / "planted"
    return source, out, plant(source, ids, out, 3, twins=0.3)


def objects(folder, name):
    root = ET.parse(folder / f"Annotations/{name}.xml").getroot()
    return [
        (o.findtext("name"), *(float(o.find("bndbox")[i].text) for i in range(4)))
        for o in root.findall("object")
    ]


def pixels(folder, name):
    (path,) = (folder / "JPEGImages").glob(f"{name}.*")
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def of(truth, kind):
    return [name for name, own in truth.items() if own["kind"] == kind]


def test_as_many_as_are_asked_for(made):
    _, out, truth = made
    assert [len(of(truth, k)) for k in ("missing", "swapped", "shifted", "twin")] == [4, 4, 4, 12]
    assert json.loads((out / "truth.json").read_text())["images"] == truth


def test_faults_are_as_they_are_called(made):
    source, out, truth = made
    for name in of(truth, "missing"):
        before, after = objects(source, name), objects(out, name)
        assert len(before) == len(after) + 1 and set(after) <= set(before)
        assert after  # an image without boxes would not be trained on
    for name in of(truth, "swapped"):
        pairs = zip(objects(source, name), objects(out, name), strict=True)
        ((old, new),) = [pair for pair in pairs if pair[0] != pair[1]]
        assert old[0] != new[0] and old[1:] == new[1:]
    for name in of(truth, "shifted"):
        pairs = zip(objects(source, name), objects(out, name), strict=True)
        ((old, new),) = [pair for pair in pairs if pair[0] != pair[1]]
        assert old[0] == new[0]
        assert IOU[0] <= iou(np.array(old[1:]), np.array(new[1:])) <= IOU[1]


def test_clean_images_and_the_test_set_stay(made):
    source, out, truth = made
    test = (source / "ImageSets/Main/test.txt").read_text().split()
    assert (out / "ImageSets/Main/test.txt").read_text().split() == test
    for name in [*of(truth, "clean"), *test]:
        assert objects(source, name) == objects(out, name)
        assert np.array_equal(pixels(source, name), pixels(out, name))


def test_twins_are_near_copies_of_clean_images_with_their_boxes(made):
    source, out, truth = made
    origins = [truth[name]["of"] for name in of(truth, "twin")]
    assert {origins.count(o) for o in origins} == {3}
    for name, origin in zip(of(truth, "twin"), origins, strict=True):
        assert truth[origin]["kind"] == "clean"
        assert objects(out, name) == objects(source, origin)
        apart = np.abs(pixels(out, name) - pixels(source, origin)).mean()
        assert 0 < apart < 25
    assert not (source / "truth.json").exists()


def test_the_same_seed_plants_the_same_and_a_whole_folder_stays(made, tmp_path):
    source, out, truth = made
    ids = list(truth)
    assert plant(source, ids, tmp_path / "again", 3, twins=0.3) == truth
    assert plant(source, ids, tmp_path / "other", 4, twins=0.3) != truth
    assert plant(source, ids, out, 3, twins=0.3) == truth


@pytest.mark.parametrize(
    ("seed", "asked", "part"),
    [(4, {"twins": 0.3}, "seed 3, not 4"), (3, {}, "twins 0.3, not 0.0"),
     (3, {"twins": 0.3, "faults": 0.2}, "faults 0.1, not 0.2")],
)  # fmt: skip
def test_a_folder_that_was_made_in_another_way_is_not_taken_for_what_is_asked(
    made, seed, asked, part
):
    source, out, truth = made
    with pytest.raises(DataError, match=part):
        plant(source, list(truth), out, seed, **asked)


def test_a_folder_that_was_made_elsewhere_is_left_alone(made, tmp_path):
    source, _, truth = made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="was not made here"):
        plant(source, list(truth), tmp_path / "mine", 3)
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"


def test_more_twins_than_images_are_refused(made, tmp_path):
    source, _, truth = made
    with pytest.raises(DataError, match="28 clean images are too few for 24 twins"):
        plant(source, list(truth), tmp_path / "out", 0, twins=0.6)


def test_of_boxes_that_are_too_small_to_be_moved_none_is(made, tmp_path):
    source = tmp_path / "voc"
    shutil.copytree(made[0], source)
    ids = (source / "ImageSets/Main/trainval.txt").read_text().split()
    for name in ids[10:]:
        path = source / f"Annotations/{name}.xml"
        tree = ET.parse(path)
        for box in tree.iter("bndbox"):
            box.find("xmax").text = str(float(box.findtext("xmin")) + 3)
        tree.write(path)
    truth = plant(source, ids, tmp_path / "out", 0)
    moved_ones = of(truth, "shifted")
    assert 1 <= len(moved_ones) <= 4 and set(moved_ones) <= set(ids[:10])


def test_labels_of_one_class_cannot_be_swapped(made, tmp_path):
    source = tmp_path / "voc"
    shutil.copytree(made[0], source)
    for path in (source / "Annotations").iterdir():
        path.write_text(re.sub("<name>[^<]*</name>", "<name>cat</name>", path.read_text()))
    ids = (source / "ImageSets/Main/trainval.txt").read_text().split()
    with pytest.raises(DataError, match="has one class, cat"):
        plant(source, ids, tmp_path / "out", 0)
    assert of(plant(source, ids, tmp_path / "twins", 0, faults=0.0, twins=0.1), "twin")


def test_a_moved_box_stays_in_the_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        low = rng.uniform(1, 60, 2)
        box = np.concatenate([low, low + rng.uniform(8, 30, 2)])
        new = moved(box, np.array([100.0, 100.0]), rng)
        assert new.min() >= 1 and new.max() <= 100 and IOU[0] <= iou(box, new) <= IOU[1]


def test_an_iou_by_hand():
    box = np.array([0.0, 0.0, 2.0, 2.0])
    assert iou(box, box + 1) == pytest.approx(1 / 7) and iou(box, box + 3) == 0.0
    assert iou(box, box) == 1.0 and iou(box, 2 * box) == 0.25
