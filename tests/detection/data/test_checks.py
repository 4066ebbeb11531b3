"""The one look at all that a run reads: what is refused, left out, warned of and recorded."""

import copy
import logging
import math
import os
import re

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.structures import BoxMode
from PIL import Image
from torch import nn

from adapruner_det.detection.data.checks import (
    checked_set,
    class_names,
    find_faults,
    require_annotations,
    require_room_for_classes,
)
from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.data.voc_folder import register_voc_folder
from adapruner_det.detection.setup import check_datasets, check_training_inputs
from adapruner_det.detection.training.trainer import build_pruner
from adapruner_det.errors import DataError
from adapruner_det.report.summary import class_kept_shares
from tests.detection.coco_writer import annotation, content, write_coco
from tests.detection.data.truth import evaluate_truth, select
from tests.detection.toy import register, squares, toy_cfg
from tests.detection.voc_writer import CAT, write_voc_folder


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# Images


def damage(file, kind):
    data = file.read_bytes()
    if kind == "gone":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "text":
        file.write_text("no image")
    elif kind == "a pipe":
        file.unlink()
        os.mkfifo(file)
    elif kind == "a folder":
        file.unlink()
        file.mkdir()
    elif kind == "16 bits":
        Image.fromarray(np.full((64, 48), 40_000, np.uint16)).save(file)
    elif kind == "another size":
        Image.new("RGB", (49, 64)).save(file)
    elif kind == "turned by EXIF":
        exif = Image.Exif()
        exif[274] = 6
        Image.new("RGB", (48, 64)).save(file, format="JPEG", exif=exif)


IMAGES = {
    "gone": "is not there",
    "empty": "is empty",
    "truncated": "does not decode",
    "text": "is not an image that Pillow knows",
    "a pipe": "is not a regular file",
    "a folder": "is not a regular file",
    "16 bits": "has the mode 'I;16'",
    "another size": "is 49×64 pixels, but annotated as 48×64: its boxes are of another picture",
    "turned by EXIF": "is 64×48 pixels, but annotated as 48×64, with its sides in turn.*EXIF",
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_cannot_be_used_is_named_or_left_out(tmp_path, caplog, kind):
    dicts = squares(tmp_path, 4)
    register("toy", dicts)
    file = tmp_path / "im2.png"
    damage(file, kind)
    with pytest.raises(DataError, match=IMAGES[kind]) as caught:
        checked_set("toy")
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING):
        found = checked_set("toy", "skip")
    assert [d["image_id"] for d in found.dicts] == ["im0", "im1", "im3"]
    assert list(found.excluded) == ["toy/im2"]
    assert re.search(IMAGES[kind], found.excluded["toy/im2"])
    (said,) = warnings(caplog)
    assert said.startswith("toy: 1 of 4 sample(s) are faulty and left out, the first: ")
    # What was left out once is so from now on, and known to whoever asks again.
    assert len(DatasetCatalog.get("toy")) == 3
    assert checked_set("toy").excluded == found.excluded


def test_all_faults_are_found_and_their_number_is_said(tmp_path):
    dicts = squares(tmp_path, 5)
    register("toy", dicts)
    for i, kind in ((1, "empty"), (3, "text")):
        damage(tmp_path / f"im{i}.png", kind)
    assert [f.image_id for f in find_faults("toy")[1]] == ["im1", "im3"]
    with pytest.raises(DataError, match=r"im1\.png .*is empty \(2 samples are faulty\)"):
        checked_set("toy")


def test_a_sample_that_becomes_faulty_after_others_were_left_out_is_one_more(tmp_path):
    register("toy", squares(tmp_path, 5))
    damage(tmp_path / "im1.png", "empty")
    checked_set("toy", "skip")
    damage(tmp_path / "im3.png", "text")
    with pytest.raises(DataError, match=r"im3\.png"):
        checked_set("toy")
    assert set(checked_set("toy", "skip").excluded) == {"toy/im1", "toy/im3"}


def test_what_is_lost_of_an_image_is_said(tmp_path, caplog):
    register("toy", squares(tmp_path, 4))
    clear = Image.new("RGBA", (48, 64), (9, 9, 9, 0))
    for i in (0, 2):
        clear.save(tmp_path / f"im{i}.png")
    with caplog.at_level(logging.WARNING):
        checked_set("toy")
    (said,) = warnings(caplog)
    assert said.startswith("toy: 2 image(s), the first ") and "transparent" in said


# Dicts


def first(sample):
    return sample["annotations"][0]


def _to_array(own):
    x0, y0, x1, y1 = own["bbox"]
    own.update(bbox=np.array([x0, y0, x1 - x0, y1 - y0]), bbox_mode=BoxMode.XYWH_ABS)


FAULTY = {
    "no image_id": (lambda d: d.pop("image_id"), "sample 2 has no image_id"),
    "no file_name": (lambda d: d.update(file_name=""), "sample 2 has no file_name"),
    "neither": (lambda d: d.clear(), "sample 2 has no file_name and no image_id"),
    "annotations by id": (lambda d: d.update(annotations={}), "annotations that are no list"),
    "no bbox": (lambda d: d["annotations"][0].pop("bbox"), "image 'im2' .*has no bbox in annot"),
    "a bbox of 3": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "must be 4 numbers"),
    "a bbox of text": (lambda d: d["annotations"][0].update(bbox="1234"), "must be 4 numbers"),
    "no class": (lambda d: d["annotations"][0].pop("category_id"), "category_id None in annotat"),
    "a class below 0": (lambda d: d["annotations"][0].update(category_id=-1), "category_id -1"),
    "a list as image_id": (lambda d: d.update(image_id=["a"]), r"sample 2 has the image_id \['a'"),
    "an array as image_id": (lambda d: d.update(image_id=np.ones(2)), "must be a number or text"),
    "no annotations": (lambda d: d.pop("annotations"), "im2.*has no annotations, as others have"),
    "text as annotation": (lambda d: d.update(annotations=["a"]), "the annotation 'a': it must"),
    "no bbox_mode": (lambda d: first(d).pop("bbox_mode"), "bbox_mode None in annotation 0"),
    "an unknown bbox_mode": (lambda d: first(d).update(bbox_mode=9), "the bbox_mode 9 in annot"),
    "shares": (lambda d: first(d).update(bbox_mode=BoxMode.XYXY_REL), "XYXY_REL .*takes pixels"),
    "an array to convert": (lambda d: _to_array(first(d)), r"im2.*an array .* add .tolist\(\)"),
    "half a class": (lambda d: d["annotations"][0].update(category_id=0.5), "category_id 0.5"),
    "a size in words": (lambda d: d.update(height="tall"), "has the height 'tall'"),
    "a size of NaN": (lambda d: d.update(width=math.nan), "has the width nan"),
    "the size of another": (lambda d: d.update(height=7), "annotated as 48×7"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_dict_that_cannot_be_used_is_named_or_left_out(tmp_path, kind):
    dicts = squares(tmp_path, 4)
    spoil, match = FAULTY[kind]
    spoil(dicts[2])
    register("toy", dicts)
    with pytest.raises(DataError, match=match):
        checked_set("toy")
    if "image_id" in dicts[2]:
        assert len(checked_set("toy", "skip").dicts) == 3


def test_numbers_of_numpy_are_taken_where_detectron2_takes_them(tmp_path):
    dicts = squares(tmp_path, 3)
    for number, sample in enumerate(dicts):
        sample["image_id"] = np.int64(number)
        first(sample).update(bbox=np.array(first(sample)["bbox"], np.float32), bbox_mode=0)
    register("toy", dicts)
    assert len(checked_set("toy").dicts) == 3


def test_sizes_are_taken_from_the_image_where_a_dict_has_none(tmp_path):
    dicts = squares(tmp_path, 3)
    del dicts[0]["height"], dicts[1]["width"]
    dicts[2]["height"] = np.int64(dicts[2]["height"])
    register("toy", dicts)
    sizes = [(d["height"], d["width"]) for d in checked_set("toy").dicts]
    assert sizes == [(64, 48), (48, 64), (64, 48)]
    # A kept part has them as well, and knows its data again.
    (name,) = register_kept(select("toy", keep_ratio=1.0))
    assert [(d["height"], d["width"]) for d in DatasetCatalog.get(name)] == sizes


def test_a_reader_of_ones_own_may_have_a_method_read(tmp_path):
    class Reader:
        def read(self, split):
            raise AssertionError("no part of Detectron2's protocol")

        def __call__(self):
            return squares(tmp_path, 3)

    register("toy", ())
    DatasetCatalog.remove("toy")
    DatasetCatalog.register("toy", Reader())
    assert len(checked_set("toy").dicts) == 3


def test_an_id_twice_and_what_is_no_list_of_dicts_are_refused(tmp_path):
    dicts = squares(tmp_path, 3)
    dicts[2]["image_id"] = "im0"
    register("toy", dicts)
    with pytest.raises(DataError, match="the sample toy/im0 is there twice"):
        checked_set("toy", "skip")
    DatasetCatalog.register("words", lambda: ["a.png"])
    with pytest.raises(DataError, match="'words' is no list of dicts"):
        checked_set("words")


# Boxes


KINDS = {
    "not a finite number": [math.nan, 6, 20, 20],
    "without area": [5, 6, 0, 20],
    "wholly outside": [70, 6, 20, 20],
    "reaching beyond": [30, 20, 60, 40],
}


@pytest.mark.parametrize("of_ours", [True, False], ids=["VOC_FOLDERS", "register_pascal_voc"])
def test_boxes_of_a_voc_folder_are_warned_of_once_a_kind(tmp_path, caplog, of_ours):
    wide, outside = ("cat", (5, 5, 80, 20), 0), ("cat", (70, 5, 80, 20), 0)
    samples = {"a": [CAT], "b": [CAT, wide, outside], "c": [CAT]}
    write_voc_folder(tmp_path, {"train": samples}, suffix=".jpg")
    if of_ours:
        register_voc_folder("pets", tmp_path, "train", ["cat"])
    else:
        register_pascal_voc("pets", str(tmp_path), "train", 2012, ["cat"])
    (tmp_path / "Annotations" / "c.xml").unlink()
    for _ in range(2):  # the second time it is known that c is left out
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="adapruner_det"):
            checked_set("pets", "skip")
        beyond, left_out = sorted(line for line in warnings(caplog) if "box(es)" in line)
        assert "1 box(es) reaching beyond their image" in beyond and beyond.endswith("b.xml")
        assert "1 box(es) wholly outside their image are left out" in left_out


@pytest.mark.parametrize("of_ours", [True, False], ids=["COCO_SETS", "register_coco_instances"])
def test_boxes_of_a_coco_set_are_warned_of_by_kind_with_count_and_file(tmp_path, caplog, of_ours):
    data = content()
    for number, (kind, values) in enumerate(KINDS.items()):
        rows = range(1 + (kind == "without area"))
        data["annotations"] += [annotation(500 + 10 * number + i, 2, box=values) for i in rows]
    file, images = write_coco(tmp_path, data)
    if of_ours:
        register_coco_set("pets", file, images)
    else:
        register_coco_instances("pets", {}, str(file), str(images))
    with caplog.at_level(logging.WARNING, logger="adapruner_det"):
        found = checked_set("pets")
    said = [w for w in warnings(caplog) if w.startswith("pets:")]
    assert len(said) == 4 and all("002.png" in line for line in said)
    for kind in KINDS:
        (line,) = [w for w in said if kind in w]
        assert f"{1 + (kind == 'without area')} box(es) " in line
        assert ("left out" in line) == (kind != "reaching beyond")
    assert [len(d["annotations"]) for d in found.dicts] == [2, 2, 2, 1]
    # Training without a mask and evaluation read none of them either.
    read = DatasetCatalog.get("pets")
    assert [len(d["annotations"]) for d in read] == [2, 2, 2, 1]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="adapruner_det"):
        again = checked_set("pets")
    assert not [w for w in warnings(caplog) if "left out" in w]
    assert SampleIndex.from_dicts({"pets": again.dicts}).samples.datasets == (
        SampleIndex.from_dicts({"pets": found.dicts}).samples.datasets
    )
    if of_ours:  # which can be registered once more, as each process of a run does
        register_coco_set("pets", file, images)
    assert evaluate_truth("pets", tmp_path / "out") == pytest.approx(100)


def test_an_unusable_box_is_no_class_of_its_image_but_counts_in_the_digest(tmp_path):
    data = content()
    data["annotations"].append(annotation(500, 2, 17, (70, 6, 20, 20)))
    file, images = write_coco(tmp_path, data)
    register_coco_set("pets", file, images)
    index = SampleIndex.from_config(toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", ("pets",)))
    assert index.samples.classes == [[0, 1], [0], [0, 1], [0]]
    before = index.digests[1]
    data["annotations"][-1]["bbox"] = [71, 6, 20, 20]
    write_coco(tmp_path, data)
    index = SampleIndex.from_config(toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", ("pets",)))
    assert index.digests[1] != before


def test_crowds_count_in_digests_and_neither_as_classes_nor_as_sizes(tmp_path):
    data = content()
    data["annotations"].append(annotation(500, 2, 17, iscrowd=1))
    file, images = write_coco(tmp_path, data)
    register_coco_set("pets", file, images)
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", ("pets",))
    index = SampleIndex.from_config(cfg)
    assert index.samples.classes == [[0, 1], [0], [0, 1], [0]]
    assert list(index.samples.class_names) == ["cat", "dog"]
    pruner = build_pruner(cfg, index)
    np.testing.assert_array_equal(pruner.mask.column("size_level"), [1, 0, 1, 0])
    selection = select("pets")
    selection = selection.__class__(
        **{
            **vars(selection),
            "columns": {
                **selection.columns,
                "kept": np.array([True, True, False, False]),
                "classes": np.array(
                    [" ".join(map(str, sorted(set(c)))) for c in index.samples.classes]
                ),
            },
            "class_names": index.samples.class_names,
        }
    )
    assert class_kept_shares(selection) == {"cat": 0.5, "dog": 0.5}
    before = index.digests.copy()
    data["annotations"].pop()
    write_coco(tmp_path, data)
    after = SampleIndex.from_config(cfg).digests
    assert (before == after).tolist() == [True, False, True, True]


# Classes


def test_class_names_that_differ_by_case_or_spaces_are_warned_of(tmp_path, caplog):
    data = content()
    data["categories"] += [{"id": 18, "name": "Dog "}, {"id": 19, "name": "hot dog"}]
    register_coco_set("pets", *write_coco(tmp_path, data))
    with caplog.at_level(logging.WARNING):
        checked_set("pets")
    (said,) = warnings(caplog)
    assert said.startswith("pets: the classes 'dog' and 'Dog ' differ by case or spaces alone")


@pytest.mark.parametrize("test", [["dog", "cat"], ["cat"], ["cat", "dog", "ant"]])
def test_coco_sets_whose_classes_differ_are_refused(tmp_path, test):
    register_coco_set("my_train", *write_coco(tmp_path))
    other = content()
    other["categories"] = [{"id": i, "name": name} for i, name in enumerate(test)]
    for row in other["annotations"]:
        row["category_id"] = 0
    register_coco_set("my_test", *write_coco(tmp_path, other, "test.json"))
    sets = ("DATASETS.TRAIN", ("my_train",), "DATASETS.TEST", ("my_test",))
    with pytest.raises(DataError, match="classes of 'my_train' and 'my_test' differ"):
        check_datasets(toy_cfg("yolo_darknet", "x", *sets))


def test_a_set_without_class_names_has_numbers_for_them(tmp_path):
    dicts = squares(tmp_path, 3)
    DatasetCatalog.register("nameless", lambda: copy.deepcopy(dicts))
    MetadataCatalog.get("nameless").set(evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", ("nameless",))
    assert list(SampleIndex.from_config(cfg).samples.class_names) == ["class 0", "class 1"]
    assert class_names("nameless", 3) == ["class 0", "class 1", "class 2"]


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


class SemSegHead(Head):
    pass


def test_a_head_with_fewer_classes_than_the_data_is_named():
    dicts = [{"annotations": [{"category_id": 4}]}, {}]
    model = nn.ModuleDict({"box": Head(5), "other": Head("many"), "seg": SemSegHead(2)})
    require_room_for_classes(model, dicts, list("abcde"))
    model["mask"] = Head(4)
    with pytest.raises(DataError, match=r"5 classes \(a, b, c, d, e\).*Head \(mask\) is 4: set"):
        require_room_for_classes(model, dicts, list("abcde"))
    require_room_for_classes(nn.ModuleDict({"box": Head(1)}), [{}], [])


@pytest.mark.parametrize("detector", ["yolo_darknet", "faster_rcnn_fpn"])
def test_images_that_say_nothing_of_objects_are_refused_where_boxes_are_learnt(toy, detector):
    for sample in toy:
        sample["annotation"] = sample.pop("annotations")
    for number in (0, 7):  # of none, and of all but some
        with pytest.raises(DataError, match=r"^image 'im\d' .* has no .?annotations"):
            check_training_inputs(toy_cfg(detector, "unused"))
        toy[number]["annotations"] = []
    require_annotations(nn.Linear(1, 1), [{}])
