"""VOC AP against Detectron2's own, on random integer boxes and on real ones."""

from collections import Counter

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from adapruner_det.detection.data.checks import checked_set
from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.detection.data.evaluators import (
    COCODictsEvaluator,
    COCOFileEvaluator,
    VOCFolderEvaluator,
    build_evaluator,
    warn_where_nothing_counts,
)
from adapruner_det.detection.data.voc_folder import register_voc_folder
from adapruner_det.errors import DataError

from ..coco_writer import content, write_coco
from ..voc_writer import write_voc_folder
from .truth import truth_found, without


def _random_objects(rng, count):
    x0, y0 = rng.integers(1, 60, (2, count))
    w, h = rng.integers(5, 40, (2, count))
    boxes = np.stack([x0, y0, x0 + w, y0 + h], axis=1)
    classes = rng.choice(["cat", "dog"], count)
    return [
        (str(c), box.tolist(), int(rng.random() < 0.3))
        for c, box in zip(classes, boxes, strict=True)
    ]


def _detections(rng, objects):
    """Noisy copies of the truth, doubled ones among them, and boxes out of nowhere."""
    boxes, classes = [], []
    for name, box, _ in objects * 2 + _random_objects(rng, 4):
        moved = np.array(box) + rng.integers(-4, 5, 4)
        boxes.append([moved[0] - 1, moved[1] - 1, max(moved[2], moved[0] + 2), moved[3] + 3])
        classes.append(["cat", "dog"].index(name))
    result = Instances((120, 120))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    # Distinct to three decimals, to which Detectron2 rounds.
    scores = rng.permutation(1000)[: len(boxes)] / 1000
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes)
    return result


def _register(name, folder, **kwargs):
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_voc_folder(name, folder, "test", **kwargs)


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(5))
def test_equals_detectron2_on_integer_boxes(tmp_path, year, seed):
    rng = np.random.default_rng(seed)
    objects = {f"im{i}": _random_objects(rng, int(rng.integers(1, 6))) for i in range(12)}
    write_voc_folder(tmp_path, {"test": objects}, size=(120, 120))
    _register("parity", tmp_path, year=year)
    ours, theirs = VOCFolderEvaluator("parity"), PascalVOCDetectionEvaluator("parity")
    theirs.reset()
    used = rng.permutation(1000)
    for number, (image_id, own) in enumerate(objects.items()):
        instances = _detections(rng, own)
        # No two equal scores in the data set: ties are ranked differently.
        start = number * 40
        scores = used[start : start + len(instances)] / 1000
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        for evaluator in (ours, theirs):
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    expected, found = theirs.evaluate()["bbox"], ours.evaluate()["bbox"]
    assert expected["AP50"] > 5
    for name in ("AP", "AP50", "AP75"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("shared_data", ["neu_det"], indirect=True)
def test_equals_detectron2_on_real_boxes_with_difficult_ones(shared_data, year):
    rng = np.random.default_rng(0)
    _register("real", shared_data, year=year)
    ours, theirs = VOCFolderEvaluator("real"), PascalVOCDetectionEvaluator("real")
    theirs.reset()
    dicts = DatasetCatalog.get("real")
    assert sum(a["difficult"] for d in dicts for a in d["annotations"]) > 5
    rank = Counter()
    for sample in rng.permutation(dicts):
        found = [a for a in sample["annotations"] if rng.random() < 0.8]
        instances = Instances((sample["height"], sample["width"]))
        moved = [np.array(a["bbox"]) + rng.integers(-9, 10, 4) for a in found]
        moved = [[x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)] for x0, y0, x1, y1 in moved]
        instances.pred_boxes = Boxes(torch.tensor(np.reshape(moved, (-1, 4))))
        classes = [a["category_id"] if rng.random() < 0.9 else 0 for a in found]
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        scores = []
        for c in classes:  # no two of a class share a score: ties are ranked differently
            rank[c] += 1
            scores.append(1 - rank[c] / 1000)
        instances.scores = torch.tensor(scores, dtype=torch.float64)
        for evaluator in (ours, theirs):
            evaluator.process([sample], [{"instances": instances}])
    expected, result = theirs.evaluate()["bbox"], ours.evaluate()["bbox"]
    assert 20 < expected["AP50"] < 95
    assert result["AP50"] - result["AP75"] > 5
    for name in ("AP", "AP50", "AP75"):
        assert result[name] == pytest.approx(expected[name], rel=1e-9)


def _one_box(box, score=0.9, cls=0):
    result = Instances((120, 120))
    result.pred_boxes = Boxes(torch.tensor([box], dtype=torch.float32))
    result.scores, result.pred_classes = torch.tensor([score]), torch.tensor([cls])
    return result


def test_a_difficult_box_is_neither_hit_nor_miss(tmp_path):
    objects = {"a": [("cat", [11, 11, 50, 50], 0)], "b": [("cat", [11, 11, 50, 50], 1)]}
    write_voc_folder(tmp_path, {"test": objects}, size=(120, 120))
    _register("difficult", tmp_path)
    evaluator = VOCFolderEvaluator("difficult")
    # The difficult one is found with the higher score: were it a miss, precision would halve.
    evaluator.process([{"image_id": "b"}], [{"instances": _one_box([10, 10, 50, 50], 0.99)}])
    evaluator.process([{"image_id": "a"}], [{"instances": _one_box([10, 10, 50, 50], 0.5)}])
    assert evaluator.evaluate()["bbox"]["AP50"] == pytest.approx(100)


def test_decimal_boxes_and_a_class_without_ground_truth(tmp_path):
    objects = {"a": [("cat", [10.25, 10.5, 49.75, 50.125], 0)]}
    write_voc_folder(tmp_path, {"test": objects}, size=(120, 120))
    _register("decimals", tmp_path, class_names=["cat", "dog"])
    evaluator = VOCFolderEvaluator("decimals")
    box = [9.25, 9.5, 49.75, 50.125]
    evaluator.process([{"image_id": "a"}], [{"instances": _one_box(box)}])
    evaluator.process([{"image_id": "a"}], [{"instances": _one_box(box, cls=1)}])
    result = evaluator.evaluate()["bbox"]
    assert result["AP"] == pytest.approx(100)
    assert result["AP50-cat"] == pytest.approx(100)
    assert np.isnan(result["AP50-dog"])


def test_no_detection_at_all_is_zero(tmp_path):
    write_voc_folder(tmp_path, {"test": {"a": [("cat", [1, 1, 9, 9], 0)]}}, size=(120, 120))
    _register("nothing", tmp_path)
    assert VOCFolderEvaluator("nothing").evaluate()["bbox"]["AP50"] == 0


def test_detections_of_all_ranks_count_and_only_rank_0_answers(tmp_path, monkeypatch):
    objects = {name: [("cat", [11, 11, 50, 50], 0)] for name in "abcd"}
    write_voc_folder(tmp_path, {"test": objects}, size=(120, 120))
    _register("shared", tmp_path)
    alone = VOCFolderEvaluator("shared")
    ranks = [VOCFolderEvaluator("shared") for _ in range(2)]
    for number, name in enumerate("abcd"):
        box = [10, 10, 50, 50] if name != "b" else [60, 60, 99, 99]
        detection = [{"image_id": name}], [{"instances": _one_box(box, 0.5 + number / 10)}]
        alone.process(*detection)
        ranks[number % 2].process(*detection)
    sent = []

    def gather(data, dst=0):
        sent.append(data)
        return sent if comm.is_main_process() else []

    monkeypatch.setattr(comm, "gather", gather)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert ranks[1].evaluate() is None
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    together = ranks[0].evaluate()["bbox"]
    assert len(sent) == 2
    monkeypatch.undo()
    expected = alone.evaluate()["bbox"]
    # Ranked d, c, b, a, of which b is wrong: 1/2 at precision 1, a third hit at precision 3/4.
    assert expected["AP50"] == pytest.approx(100 * (2 / 4 + 1 / 4 * 3 / 4))
    assert together == expected


def test_the_evaluator_follows_from_the_metadata(tmp_path):
    write_voc_folder(tmp_path, {"test": {"a": [("cat", [1, 1, 9, 9], 0)]}}, size=(120, 120))
    _register("ours", tmp_path)
    assert isinstance(build_evaluator(get_cfg(), "ours"), VOCFolderEvaluator)
    MetadataCatalog.remove("ours")
    MetadataCatalog.get("ours").set(evaluator_type="lvis")
    with pytest.raises(DataError, match="'lvis'.*voc_folder, pascal_voc, coco"):
        build_evaluator(get_cfg(), "ours")


@pytest.mark.parametrize("compiled", [False, True])
def test_coco_uses_the_compiled_evaluation_only_where_it_is(tmp_path, monkeypatch, compiled):
    class Ops:
        """Stands for detectron2._C."""

    if compiled:
        Ops.COCOevalAccumulate = None
    monkeypatch.setattr(detectron2, "_C", Ops, raising=False)
    asked = {}

    def record(self, *args, use_fast_impl, **kwargs):
        asked["fast"] = use_fast_impl

    monkeypatch.setattr(COCOEvaluator, "__init__", record)
    (tmp_path / "boxes.json").write_text("{}")
    register_coco_instances("boxes", {}, str(tmp_path / "boxes.json"), str(tmp_path))
    assert isinstance(build_evaluator(get_cfg(), "boxes", str(tmp_path)), COCOEvaluator)
    assert asked == {"fast": compiled}


@pytest.mark.parametrize("kind", [COCOFileEvaluator, COCODictsEvaluator])
def test_keypoints_are_evaluated_by_the_sigmas_of_the_configuration(tmp_path, monkeypatch, kind):
    data = content(2)
    if kind is COCODictsEvaluator:
        without("area")(data)
    register_coco_instances("pets", {}, *map(str, write_coco(tmp_path, data)))
    cfg = get_cfg()
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.2, 0.3]
    evaluator = build_evaluator(cfg, "pets", str(tmp_path))
    assert type(evaluator) is kind and evaluator._kpt_oks_sigmas == [0.1, 0.2, 0.3]


# Detectron2's own sets


VOC = {
    "a": [("cat", (11, 11, 50, 50), 0), ("dog", (60, 60, 99, 99), 1)],
    "b": [("dog", (20, 30, 80, 90), 0)],
}

SPOILT = {
    "no pose": lambda root: _edit(root / "Annotations/a.xml", "<pose>Unspecified</pose>", ""),
    "decimals": lambda root: _edit(root / "Annotations/a.xml", "<xmin>11<", "<xmin>11.0<"),
    "a name with spaces": lambda root: _edit(root / "Annotations/b.xml", ">dog<", "> dog <"),
    "a class without an object": lambda root: _edit(root / "Annotations/a.xml", ">cat<", ">dog<"),
    "a blank line": lambda root: _edit(root / "ImageSets/Main/test.txt", "a\n", "a\n\n"),
    "a byte-order mark": lambda root: _edit(root / "ImageSets/Main/test.txt", "a\n", "\ufeffa\n"),
}


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def voc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_voc_folder(tmp_path / "VOC", {"test": VOC}, size=(120, 120), suffix=".jpg")
    register_pascal_voc("theirs", str(root), "test", 2012, ["cat", "dog"])
    MetadataCatalog.get("theirs").evaluator_type = "pascal_voc"
    return root


def test_detectron2_evaluates_its_own_voc_sets_where_it_can(voc):
    evaluator, ap = truth_found("theirs")
    assert isinstance(evaluator, PascalVOCDetectionEvaluator) and ap == pytest.approx(100)


@pytest.mark.parametrize("kind", SPOILT)
def test_what_its_parser_does_not_take_is_evaluated_all_the_same(voc, kind):
    SPOILT[kind](voc)
    checked_set("theirs")
    evaluator, ap = truth_found("theirs")
    assert isinstance(evaluator, VOCFolderEvaluator) and ap == pytest.approx(100)
    assert [a.get("difficult") for d in DatasetCatalog.get("theirs") for a in d["annotations"]] == [
        0, 1, 0,
    ]  # fmt: skip


def test_a_reader_of_ones_own_is_evaluated_by_what_it_gives(voc):
    def read():
        box = {"bbox": [10, 10, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
        size = {"height": 120, "width": 120}
        files = [str(voc / "JPEGImages" / f"{name}.jpg") for name in "ab"]
        first, second = ({"file_name": f, "image_id": f[-5], **size} for f in files)
        return [{**first, "annotations": [box]}, {**second, "annotations": []}]

    DatasetCatalog.register("own", read)
    place = {"dirname": str(voc), "split": "test", "year": 2012}
    MetadataCatalog.get("own").set(thing_classes=["animal"], evaluator_type="pascal_voc", **place)
    assert truth_found("own")[1] == pytest.approx(100)


UNFIT = {
    "no area": without("area"),
    "no iscrowd": without("iscrowd"),
    "an id of 0": lambda data: data["annotations"][0].update(id=0),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_coco_set_of_detectron2_that_pycocotools_misreads_is_evaluated(
    tmp_path, monkeypatch, kind
):
    monkeypatch.chdir(tmp_path)
    data = content(3)
    UNFIT[kind](data)
    file, images = write_coco(tmp_path, data)
    register_coco_instances("pets", {}, str(file), str(images))
    for _ in range(2):  # as a run with EVAL_PERIOD asks
        evaluator, ap = truth_found("pets")
        assert isinstance(evaluator, COCODictsEvaluator) and ap == pytest.approx(100)
    assert MetadataCatalog.get("pets").json_file == str(file)
    assert "pets, by its dicts" not in {*DatasetCatalog.list(), *MetadataCatalog.list()}


def test_a_coco_set_of_detectron2_is_evaluated_by_its_file_where_that_is_right(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file, images = write_coco(tmp_path, content(3))
    register_coco_instances("pets", {}, str(file), str(images))
    evaluator, ap = truth_found("pets")
    assert type(evaluator) is COCOFileEvaluator and ap == pytest.approx(100)


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("kind", ["file", "dicts"])
def test_a_detector_that_finds_nothing_has_an_ap_of_0_unless_there_is_nothing(
    tmp_path, monkeypatch, kind, crowds
):
    monkeypatch.chdir(tmp_path)
    data = content(3)
    if kind == "dicts":
        without("area")(data)
    for own in data["annotations"]:
        own["iscrowd"] = int(crowds)
    file, images = write_coco(tmp_path, data)
    register_coco_instances("pets", {}, str(file), str(images))
    evaluator = build_evaluator(get_cfg(), "pets", str(tmp_path))
    assert isinstance(evaluator, COCODictsEvaluator) == (kind == "dicts")
    evaluator.reset()
    for sample in DatasetCatalog.get("pets"):
        none = Instances((sample["height"], sample["width"]))
        none.pred_boxes, none.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
        none.pred_classes = torch.zeros(0, dtype=torch.int64)
        evaluator.process([sample], [{"instances": none}])
    found = evaluator.evaluate()["bbox"]
    for metric in ("AP", "AP50", "AP75"):
        assert np.isnan(found[metric]) if crowds else found[metric] == 0.0


@pytest.mark.parametrize("kind", [COCOFileEvaluator, COCODictsEvaluator])
def test_what_a_detector_of_more_classes_finds_of_the_others_does_not_count(tmp_path, kind):
    data = content(3)
    if kind is COCODictsEvaluator:
        without("area")(data)
    register_coco_set("pets", *write_coco(tmp_path, data))
    evaluator = build_evaluator(get_cfg(), "pets", str(tmp_path))
    assert type(evaluator) is kind
    evaluator.reset()
    for sample in DatasetCatalog.get("pets"):
        boxes = [BoxMode.convert(a["bbox"], 1, BoxMode.XYXY_ABS) for a in sample["annotations"]]
        classes = [a["category_id"] for a in sample["annotations"]]
        found = Instances((48, 64), pred_boxes=Boxes(torch.tensor([*boxes, boxes[0]]).float()))
        found.scores, found.pred_classes = torch.ones(len(boxes) + 1), torch.tensor([*classes, 2])
        evaluator.process([sample], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


def merged(dicts):
    for own in dicts:
        for a in own["annotations"]:
            a["category_id"] = 0


def fewer(dicts):
    del dicts[1:]


def numpy(dicts):
    for own in dicts:
        own["image_id"] = np.int64(own["image_id"])


@pytest.mark.parametrize("change", [merged, fewer, numpy])
def test_a_coco_file_that_says_otherwise_than_the_reader_is_not_evaluated_by(
    tmp_path, monkeypatch, change
):
    monkeypatch.chdir(tmp_path)
    data = content(4)
    if change is numpy:
        UNFIT["no area"](data)
    file, images = write_coco(tmp_path, data)
    register_coco_instances("pets", {}, str(file), str(images))
    dicts = DatasetCatalog.get("pets")
    change(dicts)
    DatasetCatalog.register("own", lambda: dicts)
    MetadataCatalog.get("own").set(
        thing_classes=["animal"] if change is merged else ["cat", "dog"],
        thing_dataset_id_to_contiguous_id={3: 0, 17: 0 if change is merged else 1},
        json_file=str(file), evaluator_type="coco",
    )  # fmt: skip
    assert truth_found("own")[1] == pytest.approx(100)


# Nothing to evaluate


@pytest.mark.parametrize("difficult", [0, 1])
def test_a_set_on_which_nothing_can_be_evaluated_is_named(tmp_path, caplog, recwarn, difficult):
    objects = {"a": [("cat", (1, 1, 9, 9), 1)] if difficult else [], "b": []}
    write_voc_folder(tmp_path, {"test": objects})
    _register("nothing", tmp_path, class_names=["cat"])
    warn_where_nothing_counts("nothing", DatasetCatalog.get("nothing"))
    assert "nothing: nothing can be evaluated on it" in caplog.text
    assert np.isnan(VOCFolderEvaluator("nothing").evaluate()["bbox"]["AP"])
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_a_difficult_object_counts_in_coco_and_a_crowd_does_not(tmp_path, caplog):
    MetadataCatalog.get("pets").set(evaluator_type="coco")
    warn_where_nothing_counts("pets", [{"annotations": [{"difficult": 1}]}])
    assert not caplog.text
    warn_where_nothing_counts("pets", [{"annotations": [{"iscrowd": 1}]}, {}])
    assert "none of its 2 image(s)" in caplog.text
    MetadataCatalog.remove("pets")


def test_a_coco_set_without_an_annotation_gives_nan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dicts = [{"file_name": "a.png", "image_id": 1, "height": 9, "width": 9, "annotations": []}]
    DatasetCatalog.register("bare", lambda: dicts)
    MetadataCatalog.get("bare").set(thing_classes=["cat"], evaluator_type="coco")
    evaluator = build_evaluator(get_cfg(), "bare", "out")
    evaluator.reset()
    evaluator.process(dicts, [{"instances": _one_box([1, 1, 5, 5])}])
    assert np.isnan(evaluator.evaluate()["bbox"]["AP"])
