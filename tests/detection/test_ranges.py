"""Where the numbers of a configuration must lie."""

import math

import pytest
from detectron2.config import get_cfg

from adapruner_det import add_adapruner_config
from adapruner_det.detection.ranges import CHOICES, LISTS, RANGES, check_ranges
from adapruner_det.errors import DataError
from adapruner_det.settings import _numbers, leaves

#: The parts of a configuration in which every number has a range.
PARTS = ("ADAPRUNER.", "MODEL.YOLO.", "MODEL.DARKNET.", "SOLVER.", "DATALOADER.", "SEED")

#: Lists that are empty by default but hold numbers.
EMPTY = ("SOLVER.STEPS",)


def config(*options):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_list(list(options))
    return cfg


def numeric_keys():
    return [
        key
        for key, value in leaves(config())
        if key.startswith(PARTS) and (any(True for _ in _numbers(value)) or key in EMPTY)
    ]


def test_the_defaults_are_within_their_ranges():
    check_ranges(config())


def test_every_number_of_ours_and_of_the_solver_has_a_range():
    keys = numeric_keys()
    assert len(keys) > 30
    assert [key for key in keys if key not in RANGES] == []


def test_every_word_with_choices_is_there_and_its_default_is_one_of_them():
    found = dict(leaves(config()))
    for key, words in CHOICES.items():
        assert found[key] in words


def test_no_range_is_for_a_key_that_never_was():
    """Those that one version of Detectron2 alone has are named here."""
    of_main = {"SOLVER.BASE_LR_END", "SOLVER.NUM_DECAYS"}
    of_main |= {"SOLVER.RESCALE_INTERVAL", "DATALOADER.RANDOM_SUBSET_RATIO"}
    assert set(RANGES) - {key for key, _ in leaves(config())} <= of_main


def outside(key):
    """Values beyond both ends of the range of ``key``."""
    span = RANGES[key]
    low = span.low if span.above else span.low - 1
    high = [] if math.isinf(span.high) else [span.high if span.below else span.high + 1]
    return [*([] if math.isinf(span.low) else [low]), *high]


def put(cfg, key, number):
    """Set a number, in a list where the key has one."""
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    value = node[name]
    if isinstance(value, (list, tuple)):
        deeper = value and isinstance(value[0], (list, tuple))
        node[name] = type(value)([[number]] if deeper else [number])
    else:
        node[name] = type(value)(number) if isinstance(value, float) else number


@pytest.mark.parametrize("key", numeric_keys())
def test_a_number_out_of_range_is_refused_by_its_key(key):
    numbers = outside(key)
    assert numbers
    for number in numbers:
        cfg = config()
        put(cfg, key, number)
        with pytest.raises(DataError, match=rf"^{key} is "):
            check_ranges(cfg)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("ADAPRUNER.CLASS_BAND", 1.0),
        ("ADAPRUNER.EPOCHS", -1),
        ("ADAPRUNER.WARMUP_EPOCHS", -2),
        ("ADAPRUNER.ALPHA_START", 0.0),
        ("SEED", 2**32),
        ("SOLVER.BASE_LR", 0.0),
        ("SOLVER.CHECKPOINT_PERIOD", 0),
        ("SOLVER.GAMMA", 0.0),
        ("SOLVER.IMS_PER_BATCH", 0),
        ("SOLVER.MAX_ITER", 0),
        ("SOLVER.MOMENTUM", 1.0),
        ("SOLVER.WARMUP_FACTOR", 1.5),
        ("DATALOADER.NUM_WORKERS", -1),
        ("MODEL.YOLO.IGNORE_THRESH", 1.5),
        ("MODEL.YOLO.NUM_CLASSES", 0),
        ("MODEL.YOLO.PRIOR_PROB", 1.0),
        ("MODEL.DARKNET.WIDTH", 0.0),
    ],
)
def test_a_number_that_no_run_can_have_is_out_of_range(key, number):
    with pytest.raises(DataError, match=rf"^{key} is "):
        check_ranges(config(key, number))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["SOLVER.BASE_LR", "MODEL.PIXEL_MEAN", "TEST.KEYPOINT_OKS_SIGMAS"])
def test_no_number_at_all_may_be_infinite_or_nan(key, number):
    cfg = config()
    put(cfg, key, number)
    with pytest.raises(DataError, match=rf"^{key} is .*it must be finite"):
        check_ranges(cfg)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("ADAPRUNER.ALPHA_START", 7.0), r"ALPHA_END is 5\.0, below ALPHA_START 7\.0"),
        (("ADAPRUNER.CONTROLLER", "pid"), "CONTROLLER is 'pid'; it must be one of dual, paper"),
        (("ADAPRUNER.ON_BAD_SAMPLE", "ignore"), "one of stop, skip"),
        (("OUTPUT_DIR", ""), "OUTPUT_DIR is ''; name a folder"),
        (("OUTPUT_DIR", "a\0b"), "OUTPUT_DIR is"),
        (("SOLVER.STEPS", (-5,)), r"^SOLVER\.STEPS is"),
        (("MODEL.YOLO.ANCHORS", [[10, 0]]), r"^MODEL\.YOLO\.ANCHORS is"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, match):
    with pytest.raises(DataError, match=match):
        check_ranges(config(*options))


@pytest.mark.parametrize("key", LISTS)
def test_a_list_that_a_yaml_leaves_without_a_value_is_refused_by_its_key(key):
    with pytest.raises(DataError, match=rf"^{key} is None; it must be a list"):
        check_ranges(config(key, None))


@pytest.mark.parametrize("names", [(1,), (("a", "b"),), ("a", None)])
def test_what_is_no_name_of_a_data_set_is_refused(names):
    with pytest.raises(DataError, match=r"^DATASETS\.TEST lists .*, which is no name"):
        check_ranges(config("DATASETS.TEST", names))


def test_proposals_from_files_which_no_loader_here_reads_are_refused():
    with pytest.raises(DataError, match="LOAD_PROPOSALS is True; proposals from files"):
        check_ranges(config("MODEL.LOAD_PROPOSALS", True))


def test_a_proposal_generator_that_makes_none_is_refused_where_some_are_needed():
    none = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
    with pytest.raises(DataError, match="'PrecomputedProposals', which makes no proposals"):
        check_ranges(config(*none))
    check_ranges(config(*none, "MODEL.META_ARCHITECTURE", "RetinaNet"))
