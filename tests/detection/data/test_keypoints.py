from contextlib import nullcontext

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from adapruner_det.detection.data.keypoints import (
    require_keypoints,
    visible_keypoints,
    with_keypoints,
)
from adapruner_det.detection.setup import check_pruning_inputs
from adapruner_det.errors import DataError
from tests.detection.toy import toy_cfg

POINTS = [4.0, 4.0, 2, 6.0, 6.0, 1, 0.0, 0.0, 0]  # two of three are visible
HIDDEN = [0.0] * 9
NONE = object()
FLIPS = {"keypoint_names": ["l", "r", "top"], "keypoint_flip_map": [("l", "r")]}


def sample(*keypoints, **annotation):
    annotations = [{"keypoints": own, **annotation} for own in keypoints]
    for own in annotations:
        if own["keypoints"] is NONE:
            del own["keypoints"]
    return {"file_name": "a/im1.png", "annotations": annotations}


def keypoint_cfg(output="unused", least=1, count=3):
    cfg = toy_cfg(
        "faster_rcnn_fpn", output,
        "MODEL.KEYPOINT_ON", True,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8],
    )  # fmt: skip
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = count
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = least
    return cfg


def check(given, name="own", **options):
    cfg = keypoint_cfg(**options)
    cfg.DATASETS.TRAIN = ("own",)
    MetadataCatalog.get("own").set(**FLIPS)
    try:
        require_keypoints(cfg, name, [{"file_name": "im0.png", "annotations": []}, given])
    finally:
        MetadataCatalog.pop("own")


def test_visible_are_those_whose_flag_is_above_0():
    assert visible_keypoints(sample(POINTS, HIDDEN, NONE, None, np.array(POINTS))) == 4
    assert visible_keypoints({}) == visible_keypoints(sample()) == 0


def test_keypoints_that_can_be_learnt_are_taken():
    check(sample(POINTS, HIDDEN, np.array(POINTS)))
    check(sample(NONE, None, [1.0], iscrowd=1), least=0)


def test_a_lazy_config_that_does_not_say_how_many_takes_any_points():
    cfg = keypoint_cfg(count=0)
    cfg.ADAPRUNER.LAZY_CONFIG, cfg.DATASETS.TRAIN = "a.py", ("own",)
    require_keypoints(cfg, "own", [sample(POINTS, POINTS[:6])])
    with pytest.raises(DataError, match="with 4 numbers .* each of its points"):
        require_keypoints(cfg, "own", [sample(POINTS, POINTS[:4])])


def test_what_detectron2_leaves_out_of_a_training_needs_none_unless_it_is_tested_on():
    check(sample(NONE, HIDDEN, []))
    check(sample(NONE, POINTS), least=3)
    for options in ({"least": 0}, {"name": "tested"}):
        with pytest.raises(DataError, match="without keypoints"):
            check(sample(NONE, HIDDEN), **options)


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([POINTS, NONE], "without keypoints, which MODEL.KEYPOINT_ON needs"),
        ([POINTS, []], "without keypoints"),
        ([POINTS, None], "no list of finite numbers"),
        ([["a", 1, 2] * 3], "no list of finite numbers"),
        ([[float("nan"), 1, 2] * 3], "no list of finite numbers"),
        ([POINTS, POINTS[:6]], "6 numbers for its keypoints.*each of 3 points.*NUM_KEYPOINTS"),
        ([HIDDEN[:6]], "6 numbers"),
    ],
)
def test_others_are_refused_with_file_and_cure(keypoints, message):
    with pytest.raises(DataError, match=f"^own: a/im1.png has an object .*{message}"):
        check(sample(*keypoints))


def test_they_are_checked_before_a_run(toy):
    for image in toy:
        image["annotations"][0]["keypoints"] = [20.0, 20.0, 2] * 3
    cfg = keypoint_cfg()
    with pytest.raises(DataError, match="no keypoint_names and no keypoint_flip_map.*where you"):
        check_pruning_inputs(cfg)
    MetadataCatalog.get("toy").set(**FLIPS)
    assert len(check_pruning_inputs(cfg)) == 10
    toy[4]["annotations"].append({**toy[4]["annotations"][0], "keypoints": []})
    with pytest.raises(DataError, match="toy: .*im4.png has an object without keypoints"):
        check_pruning_inputs(cfg)
    toy[4]["annotations"].pop()
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17
    with pytest.raises(DataError, match="im0.png has an object with 9 numbers"):
        check_pruning_inputs(cfg)
    for image in toy:
        image["annotations"][0]["keypoints"] = [20.0, 20.0, 2] * 17
    with pytest.raises(DataError, match="'toy' name 3 keypoints, but .*NUM_KEYPOINTS is 17"):
        check_pruning_inputs(cfg)


@pytest.mark.parametrize(
    ("count", "sigmas", "lazy", "message"),
    [
        (3, [], "", "set has 3 keypoints, and its evaluation 17 sigmas.*set TEST.KEYPOINT_OKS"),
        (17, [0.1] * 3, "", "17 keypoints, and its evaluation 3 sigmas"),
        (3, [], "a.py", "persons\\): leave it out of the test sets"),
        (3, [0.1] * 3, "", ""),
        (17, [], "", ""),
        (0, [], "a.py", ""),
    ],
)
def test_a_test_set_has_a_sigma_for_each_point(count, sigmas, lazy, message):
    cfg = keypoint_cfg(count=count)
    cfg.DATASETS.TEST, cfg.TEST.KEYPOINT_OKS_SIGMAS = ("set",), sigmas
    cfg.ADAPRUNER.LAZY_CONFIG = lazy
    require_keypoints(cfg, "set", [])  # of another evaluation
    MetadataCatalog.get("set").evaluator_type = "coco"
    try:
        with pytest.raises(DataError, match=message) if message else nullcontext():
            require_keypoints(cfg, "set", [])
    finally:
        MetadataCatalog.pop("set")


def test_objects_without_keypoints_get_some_that_are_not_visible():
    given = sample(POINTS, NONE, [])
    found = with_keypoints(keypoint_cfg(), given)
    assert [a["keypoints"] for a in found["annotations"]] == [POINTS, HIDDEN, HIDDEN]
    assert given == sample(POINTS, NONE, [])
    cfg = keypoint_cfg()
    cfg.MODEL.KEYPOINT_ON = False
    assert with_keypoints(cfg, given) == given


def test_without_a_keypoint_head_nothing_is_asked_for(toy):
    toy[4]["annotations"][0]["keypoints"] = [1.0]
    assert len(check_pruning_inputs(toy_cfg("faster_rcnn_fpn", "unused"))) == 10
