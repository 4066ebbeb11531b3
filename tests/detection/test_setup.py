from contextlib import nullcontext

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.structures import BoxMode
from detectron2.utils import comm

from adapruner_det import add_adapruner_config
from adapruner_det.detection import setup
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.data.own_sets import register_from_config
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import (
    check_datasets,
    check_pruning_inputs,
    check_training_inputs,
    load_config,
    run,
)
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from tests.detection.toy import register, squares, toy_cfg, write_voc_folder

# Reading a configuration


def test_a_configuration_is_detectron2s_defaults_then_the_file_then_the_overrides(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("SOLVER:\n  MAX_ITER: 7\n  BASE_LR: 0.5\nADAPRUNER:\n  KEEP_RATIO: 0.8\n")
    cfg = load_config(str(file), ["SOLVER.BASE_LR", "0.25"])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.ADAPRUNER.KEEP_RATIO) == (7, 0.25, 0.8)
    assert cfg.SOLVER.MOMENTUM == get_cfg().SOLVER.MOMENTUM
    expected = get_cfg()
    add_adapruner_config(expected)
    assert load_config("") == expected


def test_a_configuration_registers_its_folders_and_takes_the_number_of_classes(tmp_path):
    write_voc_folder(tmp_path / "own", train=3)
    folders = f"['own_train={tmp_path}/own:train']"
    cfg = load_config("", ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", "('own_train',)"])
    assert len(DatasetCatalog.get("own_train")) == 3
    assert cfg.MODEL.YOLO.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


@pytest.mark.parametrize(
    ("text", "overrides", "match"),
    [
        (None, [], "no configuration file .*own.yaml"),
        ("SOLVER: [", [], "not valid"),
        ("SOLVER:\n  NO_SUCH_KEY: 1\n", [], "NO_SUCH_KEY"),
        ("_BASE_: gone.yaml\n", [], "gone.yaml"),
        ("SOLVER:\n  MAX_ITER: many\n", [], "MAX_ITER"),
        ("", [], "holds no KEY: VALUE"),
        ("ADAPRUNER:\n  LAZY_CONFIG: its.py\n", [], "that of a run of its.py: give --config-file"),
        ("DATA:\n  NAME: digits\n", [], "own.yaml has DATA: it is of a classifier"),
        ("VERSION: 2\n", ["ADAPRUNER.LAZY_CONFIG", "its.py"], "give --config-file its.py"),
        ("- a list\n", [], "holds no KEY: VALUE"),
        ("VERSION: 2\n", ["SOLVER.NO_SUCH_KEY", "1"], "no key 'SOLVER.NO_SUCH_KEY' in"),
        ("VERSION: 2\n", ["SOLVER.MAX_ITER"], "pairs of KEY VALUE"),
        ("VERSION: 2\n", ["ADAPRUNER.KEEP_RATIO", "most"], "KEEP_RATIO"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_used_is_named(tmp_path, text, overrides, match):
    if text is not None:
        (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(DataError, match=match):
        load_config(str(tmp_path / "own.yaml"), overrides)


# Before anything is written


def test_good_inputs_give_the_index_of_the_run(toy):
    index = check_pruning_inputs(toy_cfg("yolo_darknet", "unused"))
    assert len(index) == 10


def test_images_without_objects_are_said_once_a_run(tmp_path, caplog):
    dicts = squares(tmp_path, 6)
    dicts[1]["annotations"] = []
    dicts[4]["annotations"][0]["iscrowd"] = 1
    dicts[5]["annotations"][0]["bbox"] = [9, 9, 9, 20]  # no area, so none is left
    register("toy", dicts)
    cfg = toy_cfg("yolo_darknet", "unused")
    assert len(check_training_inputs(cfg)) == 3
    check_training_inputs(cfg)  # as the trials of DROP auto do
    SampleIndex.from_config(cfg)  # as each process of a run, and each cell of a grid
    said = [text for text in caplog.messages if "without objects" in text]
    assert said == [
        "toy: 3 image(s) without objects are left out (DATALOADER.FILTER_EMPTY_ANNOTATIONS), "
        f"the first is {dicts[1]['file_name']}"
    ]
    caplog.clear()
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(check_training_inputs(cfg)) == 6
    assert "without objects" not in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("ADAPRUNER.KEEP_RATIO", 0.0, "KEEP_RATIO is 0.0; it must be above 0 and at most 1"),
        ("ADAPRUNER.KEEP_RATIO", 1.5, "KEEP_RATIO is 1.5"),
        ("ADAPRUNER.CONTROLLER", "pid", "CONTROLLER is 'pid'; it must be one of dual, paper"),
        ("ADAPRUNER.NORMALIZE", "mean", "NORMALIZE is 'mean'"),
        ("ADAPRUNER.ALPHA_START", 7.0, "α goes from 7.0"),
        ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", "use 'TrainingSampler'"),
        ("SOLVER.MAX_ITER", 7, "raise SOLVER.MAX_ITER or lower ADAPRUNER.WARMUP_EPOCHS"),
        ("DATASETS.TRAIN", ("elsewhere",), "no data set named 'elsewhere'"),
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN names no data set"),
        ("DATASETS.TEST", ("elsewhere",), "no data set named 'elsewhere'"),
        ("DATASETS.TEST", ("toy",), "evaluator type None; known are voc_folder"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_cure(toy, key, value, match):
    with pytest.raises(DataError, match=match):
        check_pruning_inputs(toy_cfg("yolo_darknet", "unused", key, value))


def test_a_test_set_of_rotated_boxes_is_refused_and_a_training_set_is_not(toy, tmp_path):
    dicts = squares(tmp_path / "turned", 4)
    for own in (a for sample in dicts for a in sample["annotations"]):
        own["bbox"], own["bbox_mode"] = [20.0, 20.0, 10.0, 6.0, 30.0], BoxMode.XYWHA_ABS
    register("turned", dicts)
    MetadataCatalog.get("turned").set(evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TEST", ("turned",))
    with pytest.raises(DataError, match="turned has rotated boxes.*leave it out of DATASETS.TEST"):
        check_datasets(cfg)
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", ("turned",))
    assert len(check_datasets(cfg)["turned"].dicts) == 4


@pytest.mark.parametrize("kind", ["coco", "voc_folder", "pascal_voc"])
def test_a_detector_of_proposals_is_tested_by_a_coco_evaluator_alone(toy, tmp_path, kind):
    cfg = toy_cfg("faster_rcnn_fpn", "unused", "MODEL.META_ARCHITECTURE", "ProposalNetwork")
    register(f"held_{kind}", squares(tmp_path / "held", 2))
    MetadataCatalog.get(f"held_{kind}").evaluator_type = kind
    cfg.DATASETS.TEST = (f"held_{kind}",)
    said = pytest.raises(DataError, match=f"ProposalNetwork gives no instances.* on held_{kind} ")
    with nullcontext() if kind == "coco" else said:
        check_datasets(cfg, train=False)


def test_data_sets_whose_classes_differ_are_refused(toy, tmp_path):
    register("more", squares(tmp_path / "more", 4))
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", ("toy", "more"))
    assert len(check_pruning_inputs(cfg)) == 14
    register("turned", squares(tmp_path / "more", 4))
    MetadataCatalog.remove("turned")
    MetadataCatalog.get("turned").set(thing_classes=["green", "blue"])
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", ("toy", "turned"))
    with pytest.raises(DataError, match="classes of 'toy' and 'turned' differ"):
        check_pruning_inputs(cfg)


def test_a_data_set_whose_reader_fails_is_named():
    def fail():
        return {}["annotations"]

    DatasetCatalog.register("broken", fail)
    MetadataCatalog.get("broken").set(thing_classes=[])
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", ("broken",))
    with pytest.raises(DataError, match="'broken' cannot be read: KeyError: 'annotations'"):
        check_datasets(cfg)


def test_detectron2s_own_voc_sets_are_read_as_folders_and_name_what_is_broken(tmp_path):
    from detectron2.data.datasets import register_pascal_voc

    root = write_voc_folder(tmp_path / "VOC", trainval=3)
    register_pascal_voc("voc_own", str(root), "trainval", 2007, class_names=["blue", "green"])
    MetadataCatalog.get("voc_own").evaluator_type = "pascal_voc"
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", ("voc_own",))
    check_datasets(cfg)
    (root / "Annotations" / "im1.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="im1.xml does not parse"):
        check_datasets(cfg)


def test_a_pruned_split_of_other_data_is_refused(toy):
    index = SampleIndex.from_config(toy_cfg("yolo_darknet", "unused"))
    selection = random_selection(index.samples, 0.9, 0)
    cfg = toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", tuple(register_kept(selection)))
    check_datasets(cfg)
    toy[0]["height"] += 1
    with pytest.raises(DataError, match="made from other data.*toy/im0"):
        check_datasets(cfg)


def test_only_the_test_sets_are_needed_for_an_evaluation(toy):
    register("test", toy, evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", (), "DATASETS.TEST", ("test",))
    check_datasets(cfg, train=False)
    cfg.DATASETS.TEST = ()
    with pytest.raises(DataError, match="DATASETS.TEST names no data set"):
        check_datasets(cfg, train=False)


def test_a_test_set_on_which_nothing_can_be_evaluated_is_named(toy, caplog):
    register("test", toy, evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", "x", "DATASETS.TEST", ("test",))
    check_datasets(cfg)
    assert "nothing can be evaluated" not in caplog.text
    for sample in toy:
        sample["annotations"] = []
    check_datasets(cfg, train=False)
    assert "test: nothing can be evaluated on it" in caplog.text


# Starting


def test_a_batch_that_the_processes_cannot_share_is_refused(toy):
    cfg = toy_cfg("yolo_darknet", "unused", "SOLVER.IMS_PER_BATCH", 4)
    with pytest.raises(DataError, match="IMS_PER_BATCH is 4, which 3 processes cannot share"):
        check_training_inputs(cfg, processes=3)
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 2
    assert len(check_training_inputs(cfg, processes=3)) == 10


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_a_data_set_without_an_image_is_refused(toy, part):
    """Detectron2's loaders take none."""
    register("bare", [], evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", "unused")
    cfg.DATASETS[part] = ("bare",) if part == "TEST" else ("toy", "bare")
    with pytest.raises(DataError, match=rf"^the data set 'bare' has no image .* DATASETS\.{part}"):
        check_datasets(cfg)


def test_main_gets_a_frozen_configuration_and_the_folders_are_registered(tmp_path):
    write_voc_folder(tmp_path / "own", train=3)
    folders = [f"own_train={tmp_path}/own:train"]
    cfg = toy_cfg(
        "yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("own_train",),
        "ADAPRUNER.VOC_FOLDERS", folders, "MODEL.DEVICE", "cuda:7",
    )  # fmt: skip

    got = []

    def main(cfg, args, more):
        assert cfg.is_frozen()
        assert cfg.MODEL.DEVICE == "cpu"
        assert cfg.MODEL.YOLO.NUM_CLASSES == 2
        got.append((args.config_file, more, len(DatasetCatalog.get("own_train"))))

    args = default_argument_parser().parse_args(["--num-gpus", "0"])
    run(args, cfg, main, "more")
    assert got == [("", "more", 3)]
    assert (tmp_path / "out" / "config.yaml").exists()


# Class ids against heads


@pytest.mark.parametrize("detector", ["yolo_darknet", "faster_rcnn_fpn", "retinanet", "mask_rcnn"])
def test_a_head_with_fewer_classes_than_the_data_is_refused_for_every_detector(toy, detector):
    toy[3]["annotations"][0]["category_id"] = 2
    cfg = toy_cfg("yolo_darknet" if detector == "yolo_darknet" else "faster_rcnn_fpn", "unused")
    if detector == "retinanet":
        cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
        cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
        cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
        cfg.MODEL.RETINANET.NUM_CLASSES = 2
    elif detector == "mask_rcnn":
        cfg.MODEL.MASK_ON = True
        cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
        cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
        with pytest.raises(DataError, match="without a mask, which MODEL.MASK_ON needs"):
            check_pruning_inputs(cfg)
        for annotation in (own for sample in toy for own in sample["annotations"]):
            annotation["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    with pytest.raises(DataError, match=r"3 classes \(blue, green, class 2\), but NUM_CLASSES of"):
        check_pruning_inputs(cfg)
    for node in (cfg.MODEL.YOLO, cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
        node.NUM_CLASSES = 3
    assert len(check_pruning_inputs(cfg)) == 10


def test_a_model_that_cannot_be_built_is_one_line(toy):
    cfg = toy_cfg("yolo_darknet", "unused", "MODEL.BACKBONE.NAME", "build_no_such_backbone")
    with pytest.raises(
        DataError, match="the model that the configuration describes .* cannot be made: KeyError"
    ) as caught:
        check_pruning_inputs(cfg)
    assert "\n" not in str(caught.value)


def test_a_yaml_that_would_run_code_is_refused(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{tmp_path}/ran"]\n')
    with pytest.raises(DataError, match="own.yaml"):
        load_config(str(file))
    assert not (tmp_path / "ran").exists()


# What a process that is spawned knows


@pytest.mark.parametrize(("bad", "left"), [("im1", (2, 3)), ("im4", (3, 2))])
def test_a_process_that_is_spawned_leaves_out_of_its_sets_what_the_check_did(
    tmp_path, monkeypatch, bad, left
):
    """It has a catalogue of its own."""
    write_voc_folder(tmp_path / "own", train=3, test=3)
    (tmp_path / "own" / "JPEGImages" / f"{bad}.png").write_bytes(b"")
    cfg = toy_cfg(
        "yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("own_train",),
        "DATASETS.TEST", ("own_test",), "ADAPRUNER.ON_BAD_SAMPLE", "skip",
        "ADAPRUNER.VOC_FOLDERS", [f"own_{s}={tmp_path}/own:{s}" for s in ("train", "test")],
    )  # fmt: skip
    register_from_config(cfg)
    for name in ("own_train", "own_test"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    seen = []
    monkeypatch.setattr(setup, "default_setup", lambda cfg, args: None)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    (tmp_path / "out").mkdir()
    args = default_argument_parser().parse_args(["--num-gpus", "0"])

    def main(cfg, args):
        names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
        seen.append(tuple(len(DatasetCatalog.get(name)) for name in names))

    setup._start(cfg, args, main, ())
    assert seen == [left]


def test_a_process_that_is_spawned_runs_the_file_that_registers_its_sets(tmp_path, monkeypatch):
    """Before it registers parts of them, which a selection may name."""
    events = []
    monkeypatch.setattr(setup, "register_from_file", lambda cfg: events.append("file"))
    monkeypatch.setattr(setup, "register_from_config", lambda cfg: events.append("config"))
    monkeypatch.setattr(setup, "default_setup", lambda cfg, args: None)
    args = default_argument_parser().parse_args([])
    setup._start(toy_cfg("yolo_darknet", tmp_path), args, lambda *_: events.append("main"), ())
    assert events == ["file", "config", "main"]


@pytest.mark.parametrize(
    ("steps", "weights", "said"), [(1499, "", True), (1500, "", False), (9, "a.pth", False)]
)
def test_a_short_training_from_random_weights_is_said(steps, weights, said):
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = weights
    assert bool(setup.few_steps(cfg, steps)) == said


@pytest.mark.parametrize(
    ("warmup", "steps", "file", "said"),
    [(300, 300, "", True), (299, 300, "", False), (1000, 300, "a.py", False)],
)
def test_a_learning_rate_that_never_rises_to_its_own_is_said(warmup, steps, file, said):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER, cfg.ADAPRUNER.LAZY_CONFIG = warmup, steps, file
    line = setup.long_warmup(cfg)
    assert bool(line) == said
    assert not said or "set WARMUP_ITERS to 30" in line


def test_a_run_says_that_its_learning_rate_never_rises_to_its_own(toy):
    lines = []
    options = ("SOLVER.WARMUP_ITERS", 8, "SOLVER.MAX_ITER", 8)
    check_training_inputs(toy_cfg("yolo_darknet", "unused", *options), say=lines.append)
    assert any(line.startswith("warning: the learning rate rises") for line in lines)
