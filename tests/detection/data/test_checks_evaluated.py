"""Checked and pruned sets as they are evaluated: their own boxes are right, every one."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc

from adapruner_det.detection.data.checks import (
    checked_set,
)
from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.data.voc_folder import register_voc_folder
from adapruner_det.errors import DataError
from tests.detection.coco_writer import annotation, content, write_coco
from tests.detection.data.truth import evaluate_truth, select
from tests.detection.toy import CLASSES, register, squares, write_voc_folder

# A COCO set that is pruned


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_the_kept_part_of_a_coco_set_evaluates_its_own_truth_at_100(tmp_path, on_bad):
    data = content(8)
    data["annotations"] += [
        annotation(500, 2, 17, (30, 10, 20, 20), iscrowd=1),
        annotation(501, 3, 3, (1, 1, 60, 40), iscrowd=1),
    ]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != 7]
    data["annotations"].append(annotation(502, 7, iscrowd=1))  # nothing but a crowd
    file, images = write_coco(tmp_path, data)
    if on_bad == "skip":
        (images / "005.png").write_text("no image")
    register_coco_set("pets", file, images)
    selection = select("pets", on_bad=on_bad)
    assert selection.num_samples == (6 if on_bad == "skip" else 7)
    assert list(selection.excluded) == (["pets/5"] if on_bad == "skip" else [])
    (name,) = register_kept(selection)
    meta = MetadataCatalog.get(name)
    assert meta.thing_classes == ["cat", "dog"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 17: 1}
    assert evaluate_truth(name, tmp_path / "kept") == pytest.approx(100)
    assert evaluate_truth("pets", tmp_path / "all") == pytest.approx(100)


@pytest.mark.parametrize("spoil", ["area", "iscrowd", "ids of 0", "text", "sizes"])
def test_the_truth_of_a_set_that_lacks_what_pycocotools_needs_is_100_too(tmp_path, spoil):
    data = content(3)
    for number, row in enumerate(data["annotations"]):
        if spoil in row:
            del row[spoil]
        elif spoil == "ids of 0":
            row["id"] = number
        elif spoil == "text":
            row.update(id=f"a{number}", image_id=f"im{row['image_id']}")
    for image in data["images"]:
        if spoil == "text":
            image["id"] = f"im{image['id']}"
        elif spoil == "sizes":
            del image["height"], image["width"]
    register_coco_set("pets", *write_coco(tmp_path, data))
    assert evaluate_truth("pets", tmp_path / "out") == pytest.approx(100)


def test_what_an_earlier_evaluation_has_left_is_not_taken_for_the_data(tmp_path):
    data = content(3)
    for row in data["annotations"]:
        del row["area"]
    file, images = write_coco(tmp_path, data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pets_coco_format.json").write_text(json.dumps({"images": []}))
    register_coco_set("pets", file, images)
    assert evaluate_truth("pets", tmp_path / "out") == pytest.approx(100)


# Detectron2's own VOC sets


@pytest.fixture
def voc(tmp_path):
    root = write_voc_folder(tmp_path / "VOC", trainval=6, test=4)
    for split in ("trainval", "test"):
        register_pascal_voc(f"voc_{split}", str(root), split, 2012, class_names=CLASSES)
        MetadataCatalog.get(f"voc_{split}").evaluator_type = "pascal_voc"
    return root


def test_the_kept_part_of_a_voc_set_is_that_part_when_it_is_checked_and_evaluated(voc, tmp_path):
    selection = select("voc_trainval")
    (name,) = register_kept(selection)
    kept = {key.split("/")[1] for key in selection.kept_keys}
    assert {d["image_id"] for d in checked_set(name).dicts} == kept and len(kept) == 3
    assert evaluate_truth(name, tmp_path / "out") == pytest.approx(100)
    # Another selection of as many is another training.
    other = select("voc_trainval", keep_ratio=0.7)
    (name,) = register_kept(other)
    assert len(checked_set(name).dicts) == 4


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_what_ones_own_reader_gives_is_used_though_its_metadata_name_a_voc_folder(voc, on_bad):
    dicts = squares(voc / "JPEGImages", 5, seed=7)  # other boxes than those of the XML
    dicts[0]["annotations"][0]["category_id"] = 1 - dicts[0]["annotations"][0]["category_id"]
    if on_bad == "skip":
        (voc / "JPEGImages" / "im4.png").write_text("no image")
    place = {"dirname": str(voc), "split": "trainval", "year": 2012}
    register("own", dicts, evaluator_type="pascal_voc", **place)
    wanted = [d["annotations"] for d in dicts[: 4 if on_bad == "skip" else 5]]
    assert [d["annotations"] for d in checked_set("own", on_bad).dicts] == wanted
    if on_bad == "skip":  # the data set is one without the faulty sample from then on
        assert [d["annotations"] for d in DatasetCatalog.get("own")] == wanted


def test_what_is_left_out_of_a_voc_test_set_is_not_counted_as_missed(voc, tmp_path):
    (voc / "JPEGImages" / "im7.png").write_text("no image")
    with pytest.raises(DataError, match="im7"):
        checked_set("voc_test")
    assert len(checked_set("voc_test", "skip").dicts) == 3
    assert evaluate_truth("voc_test", tmp_path / "out") == pytest.approx(100)
    assert list(checked_set("voc_test", "skip").excluded) == ["voc_test/im7"]


def test_so_it_is_with_a_folder_of_ones_own(voc, tmp_path):
    register_voc_folder("own_test", voc, "test")
    (voc / "Annotations" / "im7.xml").write_text("<annotation>")
    assert len(checked_set("own_test", "skip").dicts) == 3
    register_voc_folder("own_test", voc, "test")  # once more, as each process of a run does
    assert evaluate_truth("own_test", tmp_path / "out") == pytest.approx(100)
