import math

import numpy as np
import pytest
import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det import add_adapruner_config
from adapruner_det.detection.modeling.yolov3_tiny import _scale_factors
from adapruner_det.detection.training.fit import fit_to_data, propose_anchors
from adapruner_det.errors import DataError
from tests.conftest import ROOT
from tests.detection.toy import DETECTORS, options_of, squares

RETINANET = [
    *DETECTORS["faster_rcnn_fpn"],
    "MODEL.META_ARCHITECTURE", "RetinaNet",
    "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES", [[8, 10], [16, 20], [32, 40], [64, 80], [128, 161]],
    "MODEL.RETINANET.NUM_CLASSES", 2,
]  # fmt: skip
ALL = {**DETECTORS, "retinanet": RETINANET}
OWN = ("own_yolov3tiny.yaml", "own_faster_rcnn.yaml", "own_faster_rcnn_coco.yaml")
YOLO_AT_416 = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]


def config(*options):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_list(list(options))
    return cfg


def own(name, *options):
    """A configuration for the user's own data, small enough for a test."""
    cfg = config()
    cfg.merge_from_file(str(ROOT / "configs" / name))
    small = ["MODEL.DEVICE", "cpu", "MODEL.YOLO.INPUT_SIZE", 64, "MODEL.WEIGHTS", ""]
    small += ["INPUT.MIN_SIZE_TRAIN", (64,), "MODEL.ROI_HEADS.NUM_CLASSES", 2]
    cfg.merge_from_list([*small, "MODEL.YOLO.NUM_CLASSES", 2, *options])
    return cfg


def image(*boxes, width=416, height=416, **more):
    """A dict with boxes of (w, h) in its upper left corner, or of four corners."""
    corners = [box if len(box) == 4 else (0, 0, *box) for box in boxes]
    annotations = [
        {"bbox": list(c), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **more} for c in corners
    ]
    return {"file_name": "a.png", "width": width, "height": height, "annotations": annotations}


def yolo(*options):
    return config("MODEL.META_ARCHITECTURE", "YOLOv3Tiny", *options)


def anchors_of(dicts, *options, **more):
    return propose_anchors(yolo(*options), dicts, **more).settings["MODEL.YOLO.ANCHORS"]


# The schedule.


@given(
    images=st.integers(1, 5000),
    batch=st.integers(1, 64),
    epochs=st.integers(1, 100),
    processes=st.integers(1, 4),
)
def test_a_run_has_the_epochs_asked_for_in_batches_that_fit(images, batch, epochs, processes):
    cfg = config("SOLVER.IMS_PER_BATCH", batch * processes, "ADAPRUNER.EPOCHS", epochs)
    rate = cfg.SOLVER.BASE_LR
    fit_to_data(cfg, [{}] * images, processes)
    solver = cfg.SOLVER
    size = solver.IMS_PER_BATCH
    assert size % processes == 0 and processes <= size <= batch * processes
    assert solver.BASE_LR == pytest.approx(rate * size / (batch * processes))
    if images >= processes:
        assert size <= images
        # What a pruning run makes of it, in whole epochs.
        assert solver.MAX_ITER * size // images == epochs
    if images >= 8 * processes:
        assert size == batch * processes or size > images / 4 - processes
        assert solver.MAX_ITER >= 4 * epochs
    assert (solver.MAX_ITER - 1) * size < epochs * images
    assert solver.WARMUP_ITERS <= max(1, solver.MAX_ITER / 10)


def test_steps_keep_their_places_and_short_warm_ups_their_length():
    cfg = config("SOLVER.IMS_PER_BATCH", 8, "ADAPRUNER.EPOCHS", 20)
    cfg.merge_from_list(["SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600, 900)])
    cfg.merge_from_list(["SOLVER.WARMUP_ITERS", 30, "SOLVER.CHECKPOINT_PERIOD", 10])
    fit_to_data(cfg, [{}] * 200)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (500, (300, 450))
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.CHECKPOINT_PERIOD) == (30, 10)


def test_steps_that_fall_together_or_out_of_a_short_run_are_left_out():
    cfg = config("SOLVER.IMS_PER_BATCH", 8, "ADAPRUNER.EPOCHS", 1)
    cfg.merge_from_list(["SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (20, 490, 510, 990)])
    fit_to_data(cfg, [{}] * 40)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (5, (2, 3))
    cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER, cfg.ADAPRUNER.EPOCHS = (500, 510), 1000, 1
    fit_to_data(cfg, [{}] * 40)
    assert cfg.SOLVER.STEPS == (2, 3)


def test_long_warm_ups_and_checkpoint_periods_become_a_tenth():
    cfg = config("SOLVER.IMS_PER_BATCH", 8, "ADAPRUNER.EPOCHS", 20)
    fit_to_data(cfg, [{}] * 200)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.CHECKPOINT_PERIOD) == (50, 50)


@pytest.mark.parametrize(
    ("epochs", "warm_up"),
    [(60, 30), (20, 10), (13, 6), (12, 6), (10, 4), (8, 2), (7, 1), (3, 1), (2, 1), (1, 0)],
)
def test_half_of_the_run_is_warm_up_and_six_epochs_are_left_if_there_are_as_many(epochs, warm_up):
    cfg = config("ADAPRUNER.WARMUP_EPOCHS", -1, "ADAPRUNER.EPOCHS", epochs)
    fit_to_data(cfg, [{}] * 100)
    assert cfg.ADAPRUNER.WARMUP_EPOCHS == warm_up
    cfg = config("ADAPRUNER.WARMUP_EPOCHS", -1, "SOLVER.IMS_PER_BATCH", 4)
    cfg.merge_from_list(["SOLVER.MAX_ITER", 25 * epochs])
    fit_to_data(cfg, [{}] * 100)
    assert cfg.ADAPRUNER.WARMUP_EPOCHS == warm_up
    assert cfg.SOLVER.MAX_ITER == 25 * epochs


def test_a_warm_up_that_is_given_stays():
    cfg = config("ADAPRUNER.WARMUP_EPOCHS", 3, "ADAPRUNER.EPOCHS", 20)
    fit_to_data(cfg, [{}] * 100)
    assert cfg.ADAPRUNER.WARMUP_EPOCHS == 3


def test_what_is_set_is_said():
    cfg = config("ADAPRUNER.EPOCHS", 20, "SOLVER.IMS_PER_BATCH", 16, "SOLVER.BASE_LR", 0.02)
    assert fit_to_data(cfg, [{}] * 20) == [
        "Batches of 5 images in place of 16, since there are 20; learning rate 0.00625",
        "Schedule: 20 epochs of 20 images in batches of 5, 80 steps; warm-up where the run prunes: "
        "2 of 20 epochs",
    ]


def test_without_being_asked_it_changes_nothing():
    cfg = config()
    before = cfg.clone()
    assert fit_to_data(cfg, [image((3, 3))] * 3) == []
    assert cfg == before


@pytest.mark.parametrize("key", ["ADAPRUNER.EPOCHS", "ADAPRUNER.WARMUP_EPOCHS"])
def test_no_images_make_no_epochs(key):
    value = 3 if key == "ADAPRUNER.EPOCHS" else -1
    with pytest.raises(DataError, match="no training image"):
        fit_to_data(config(key, value), [])


@pytest.mark.parametrize(("key", "value"), [("EPOCHS", 3), ("AUTO_ANCHORS", True)])
def test_a_lazy_configuration_states_its_own(key, value):
    cfg = config(f"ADAPRUNER.{key}", value, "ADAPRUNER.LAZY_CONFIG", "mine.py")
    with pytest.raises(DataError, match=f"{key} cannot change .* mine.py"):
        fit_to_data(cfg, [image((3, 3))])


def test_anchors_of_a_lazy_configuration_are_not_those_of_the_defaults():
    with pytest.raises(DataError, match="LazyConfig mine.py are not known here"):
        propose_anchors(config("ADAPRUNER.LAZY_CONFIG", "mine.py"), [image((3, 3))])


# Anchors of YOLOv3-Tiny.


def test_boxes_like_yolos_anchors_give_yolos_anchors_on_yolos_levels():
    found = propose_anchors(yolo(), [image(box) for box in YOLO_AT_416])
    assert found.settings["MODEL.YOLO.ANCHORS"] == YOLO_AT_416
    assert found.settings["MODEL.YOLO.ANCHOR_MASKS"] == [[3, 4, 5], [0, 1, 2]]
    assert found.iou == found.iou_before == 1
    assert found.boxes == 6


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (64, 64), (300, 17), (3, 400)])
def test_boxes_are_measured_where_the_model_sees_them(shape):
    height, width = shape
    sample = image((width / 3, height / 2), width=width, height=height)
    ((w, h), *_) = anchors_of([sample], "MODEL.YOLO.INPUT_SIZE", 96)
    given = {"image": torch.zeros(3, height, width, dtype=torch.uint8)}
    options = ["MODEL.BACKBONE.NAME", "build_darknet_tiny_backbone", "MODEL.DARKNET.WIDTH", 0.125]
    model = build_model(yolo(*options, "MODEL.YOLO.INPUT_SIZE", 96, "MODEL.DEVICE", "cpu")).eval()
    factors = _scale_factors([given], model.preprocess_image([given]))[0, :2].tolist()
    expected = [max(1, width / 3 * factors[0]), max(1, height / 2 * factors[1])]
    assert [w, h] == pytest.approx(expected, abs=0.051)


def test_each_level_has_an_anchor():
    for side in (5, 400):
        found = propose_anchors(yolo(), [image((side + i, side)) for i in range(6)])
        assert [len(mask) for mask in found.settings["MODEL.YOLO.ANCHOR_MASKS"]] == (
            [1, 5] if side == 5 else [5, 1]
        )


def test_another_number_of_anchors():
    dicts = [image(box) for box in YOLO_AT_416]
    for count in (2, 3, 9):
        assert len(anchors_of(dicts, count=count)) == count
    assert len(anchors_of(dicts, count=1)) == 2  # one a level
    single = ["MODEL.YOLO.ANCHORS", [[1, 1]] * 4]
    assert len(anchors_of(dicts, *single)) == 4


def test_only_what_the_mapper_leaves_is_counted():
    nothing = [
        image((50, 50), iscrowd=1),
        image((500, 10, 600, 40)),  # beside the image
        image((10, 10, 10, 40), (40, 10, 10, 40), (0, 0, math.nan, 5)),
    ]
    larger = image((-80, -10, 900, 20), width=416, height=100)
    (first, *_) = anchors_of([*nothing, larger])
    assert first == [416, 20]
    assert propose_anchors(yolo(), [*nothing, larger]).boxes == 1
    with pytest.raises(DataError, match="no box in the 3 training images"):
        propose_anchors(yolo(), nothing)


def test_box_modes_are_all_the_same():
    upright = image((30, 10, 60, 80))
    sized = image((30, 10, 30, 70))
    sized["annotations"][0]["bbox_mode"] = BoxMode.XYWH_ABS
    turned = image((45, 45, 30, 70))
    turned["annotations"][0]["bbox"].append(0)
    turned["annotations"][0]["bbox_mode"] = BoxMode.XYWHA_ABS
    assert anchors_of([upright])[0] == [30, 70]
    assert anchors_of([upright]) == anchors_of([sized]) == anchors_of([turned])
    relative = image((0.1, 0.1, 0.2, 0.2))
    relative["annotations"][0]["bbox_mode"] = BoxMode.XYXY_REL
    with pytest.raises(DataError, match="XYXY_REL cannot be measured"):
        anchors_of([relative])


def test_an_image_without_its_size_is_named():
    sample = image((3, 3))
    del sample["height"]
    with pytest.raises(DataError, match=r"a\.png has no width and height"):
        anchors_of([sample])
    assert anchors_of([{"file_name": "b.png"}, image((30, 70))])[0] == [30, 70]


def test_many_boxes_are_sampled_and_all_are_counted():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(10, 400, (12_000, 2))
    found = propose_anchors(yolo(), [image(*boxes)])
    assert found.boxes == 12_000
    few = propose_anchors(yolo(), [image(*boxes[:4000])])
    assert found.iou == pytest.approx(few.iou, abs=0.02)


# Anchors on a grid: RPN and RetinaNet.


def grid(name, dicts, *options):
    cfg = config(*ALL[name], "ADAPRUNER.AUTO_ANCHORS", True, *options)
    fit_to_data(cfg, dicts)
    return cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (100, 1000)])
def test_grid_boxes_are_measured_at_the_resized_scale(shape):
    height, width = shape
    sample = image((width / 4, height / 4), width=width, height=height)
    resize = ResizeShortestEdge([320], 500, "choice").get_transform(np.zeros((height, width, 3)))
    w, h = np.array([width / 4 * resize.new_w / width, height / 4 * resize.new_h / height])
    options = ["INPUT.MIN_SIZE_TRAIN", (320,), "INPUT.MAX_SIZE_TRAIN", 500]
    sizes, ratios = grid("faster_rcnn_c4", [sample], *options)
    assert sizes[0][0] == pytest.approx(math.sqrt(w * h), rel=0.01)
    assert h / w == pytest.approx(ratios[0][1], rel=0.05)


def test_all_sizes_of_training_count():
    dicts = [image((100, 100), width=400, height=400)]
    two = ["INPUT.MIN_SIZE_TRAIN", (200, 400)]
    assert grid("faster_rcnn_c4", dicts, *two)[0][0][:2] == [50, 100]
    ranged = [*two, "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"]
    ranged += ["MODEL.ANCHOR_GENERATOR.SIZES", [[1, 2, 3, 4, 5]]]
    assert grid("faster_rcnn_c4", dicts, *ranged)[0][0] == [50, 62.5, 75, 87.5, 100]
    assert grid("faster_rcnn_c4", dicts, "INPUT.MIN_SIZE_TRAIN", (0,))[0][0][0] == 100


def test_levels_get_sizes_that_they_can_predict():
    rng = np.random.default_rng(0)
    for low, high in ((5, 30), (20, 600), (300, 700)):
        dicts = [image((side, side), width=800, height=800) for side in rng.uniform(low, high, 60)]
        sizes, _ = grid("faster_rcnn_fpn", dicts, "INPUT.MIN_SIZE_TRAIN", (800,))
        for level, (size,) in enumerate(sizes):
            stride = 4 * 2**level
            assert level == 0 or size >= 2 * stride
            assert level == 4 or size <= 16 * stride
        assert sizes == sorted(sizes)
        sizes, _ = grid("retinanet", dicts, "INPUT.MIN_SIZE_TRAIN", (800,))
        flat = [size for own in sizes for size in own]
        assert [len(own) for own in sizes] == [2] * 5 and flat == sorted(set(flat))


def test_as_many_ratios_as_there_were():
    dicts = [image((10, 30)), image((30, 30)), image((30, 10))]
    assert grid("faster_rcnn_fpn", dicts)[1] == [[0.33, 1.0, 3.0]]
    assert grid("faster_rcnn_fpn", [image((30, 30))])[1] == [[0.5, 1.0, 2.0]]
    two = ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0, 2.0]]]
    of_all_sizes = [image((s, s), (s, 3 * s), width=999, height=999) for s in (10, 50, 250, 333)]
    assert grid("faster_rcnn_fpn", of_all_sizes, *two)[1] == [[1.0, 3.0]]
    one = ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0]], "INPUT.MIN_SIZE_TRAIN", (0,)]
    assert grid("faster_rcnn_fpn", [image((20, 40))], *one)[1] == [[2.0]]
    found = propose_anchors(config(*ALL["faster_rcnn_c4"], *one), [image((20, 40))])
    assert found.iou == pytest.approx(1, abs=0.01)
    assert found.iou_before == pytest.approx(20 * 20 / (20 * 40), abs=0.2)  # 8, 16 and 32 square


def test_a_detector_whose_anchors_are_not_known_is_refused():
    for options in (
        ["MODEL.META_ARCHITECTURE", "SemanticSegmentor"],
        ["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"],
        ["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"],
    ):
        with pytest.raises(DataError, match="AUTO_ANCHORS knows"):
            propose_anchors(config(*options), [image((3, 3))])


def test_a_level_that_the_backbone_does_not_have_is_named():
    cfg = config(*ALL["faster_rcnn_fpn"], "MODEL.RPN.IN_FEATURES", ["p2", "p9"])
    with pytest.raises(DataError, match="no feature 'p9'"):
        propose_anchors(cfg, [image((3, 3))])


# Whole configurations.


@pytest.mark.parametrize("name", OWN)
def test_own_configurations_learn_from_ten_images(name, tmp_path):
    cfg = own(name)
    dicts = squares(tmp_path, 10)
    lines = fit_to_data(cfg, dicts)
    assert cfg.SOLVER.IMS_PER_BATCH == 2
    assert len(lines) == 3 and "Anchors from 10 boxes" in lines[-1]
    torch.manual_seed(0)
    model = build_model(cfg).train()
    mapper = DatasetMapper(cfg, is_train=True)
    with EventStorage():
        losses = model([mapper(sample) for sample in dicts[:2]])
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())


@pytest.mark.parametrize("name", OWN)
def test_a_second_call_and_a_written_configuration_say_the_same(name, tmp_path):
    cfg = own(name)
    dicts = squares(tmp_path, 10)
    fit_to_data(cfg, dicts)
    once = cfg.clone()
    assert fit_to_data(cfg, dicts[:3]) == []
    assert cfg == once
    file = tmp_path / "config.yaml"
    file.write_text(cfg.dump())
    again = config()
    again.merge_from_file(str(file), allow_unsafe=False)
    assert yaml.safe_load(again.dump()) == yaml.safe_load(once.dump())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("boxes", [[(9, 9)], [(9, 20), (30, 7)], [(12, 12)] * 8, [(0.01, 0.01)]])
def test_however_few_boxes_the_detector_can_be_built(name, boxes):
    options = options_of(name, "") if name in DETECTORS else [*RETINANET, "MODEL.DEVICE", "cpu"]
    cfg = config(*options, "ADAPRUNER.AUTO_ANCHORS", True)
    fit_to_data(cfg, [image(*boxes, width=64, height=64)])
    assert not cfg.ADAPRUNER.AUTO_ANCHORS
    model = build_model(cfg)
    before = build_model(config(*options))
    sizes = {k: v.shape for k, v in model.state_dict().items() if "head" not in k}
    assert sizes == {k: v.shape for k, v in before.state_dict().items() if "head" not in k}
    if not name.startswith("yolo"):  # so that the head of other weights fits too
        assert {k: v.shape for k, v in model.state_dict().items()} == {
            k: v.shape for k, v in before.state_dict().items()
        }


def test_cocos_weights_have_a_place_in_the_model_that_begins_with_them(tmp_path):
    """All but the class-dependent layers are the model zoo's, shape by shape, read alike."""
    zoo = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    zoo.MODEL.DEVICE = "cpu"
    cfg = own("own_faster_rcnn_coco.yaml")
    fit_to_data(cfg, squares(tmp_path, 10))
    for key in ("PIXEL_MEAN", "PIXEL_STD", "BACKBONE", "RESNETS", "FPN"):
        assert cfg.MODEL[key] == zoo.MODEL[key], key
    assert cfg.INPUT.FORMAT == zoo.INPUT.FORMAT
    shapes = [
        {k: v.shape for k, v in build_model(c).state_dict().items() if "box_predictor" not in k}
        for c in (cfg, zoo)
    ]
    assert shapes[0] == shapes[1]


def test_random_states_are_left_alone(tmp_path):
    dicts = squares(tmp_path, 4)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for name in OWN:
        fit_to_data(own(name), dicts)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
