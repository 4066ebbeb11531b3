import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

from adapruner_det import add_adapruner_config
from adapruner_det.detection.catalog import SampleIndex, register_kept
from adapruner_det.detection.setup import check_datasets, check_pruning_inputs, load_config, run
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
        ("", [], "not valid"),
        ("- a list\n", [], "not valid"),
        ("VERSION: 2\n", ["SOLVER.NO_SUCH_KEY", "1"], "NO_SUCH_KEY.*pairs of KEY VALUE"),
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


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("ADAPRUNER.KEEP_RATIO", 0.0, r"keep ratio is 0.0; it must lie in \(0, 1\]"),
        ("ADAPRUNER.KEEP_RATIO", 1.5, r"keep ratio is 1.5"),
        ("ADAPRUNER.CONTROLLER", "pid", "controller is 'pid'.*ADAPRUNER"),
        ("ADAPRUNER.NORMALIZE", "mean", "normalize is 'mean'"),
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
    selection = random_selection(index.keys, index.digests, index.fingerprints(), 0.9, 0)
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


# Starting


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
