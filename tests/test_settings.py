import math
import re
from fractions import Fraction

import numpy as np
import pytest
from detectron2.config import CfgNode as DetectionNode
from fvcore.common.config import CfgNode
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode as YacsNode

from adapruner_det import add_adapruner_config
from adapruner_det.classification.config import get_config
from adapruner_det.errors import DataError
from adapruner_det.settings import (
    AUTO_NEEDS,
    PRUNER_OPTIONS,
    WITHOUT_EFFECT,
    Range,
    build_pruner,
    check_settings,
    config_digest,
    differences,
    leaves,
    settings_text,
)
from tests import apart
from tests.methods.evidence import OPTIONS, samples

INF, NAN = math.inf, math.nan


# --- Range ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "text"),
    [
        (Range(), [-INF, -1, 0, 1e308, INF], [NAN], "a number"),
        (Range(1), [1, 1.0, 2, INF], [0, 1 - 1e-9, -INF, NAN], "1 or more"),
        (Range(0, above=True), [5e-324, 1, INF], [0, -0.0, -1, NAN], "above 0"),
        (Range(high=3), [-INF, 3], [3 + 1e-9, INF, NAN], "at most 3"),
        (Range(high=3, below=True), [-INF, 3 - 1e-9], [3, INF, NAN], "below 3"),
        (Range(0, 1), [0, 0.5, 1], [-1e-9, 1 + 1e-9, NAN], "0 to 1"),
        (Range(0, 1, above=True), [1e-9, 1], [0, 1 + 1e-9], "above 0 and at most 1"),
        (Range(0, 1, below=True), [0, 1 - 1e-9], [-1e-9, 1], "0 or more and below 1"),
        (Range(0, 1, True, True), [1e-9, 1 - 1e-9], [0, 1, NAN], "above 0 and below 1"),
        (Range(-1, 2**32 - 1), [-1, 2**32 - 1], [-2, 2**32], "-1 to 4294967295"),
        (Range(0, 2**63 - 1), [2**63 - 1], [2**63], "0 to 9223372036854775807"),
        (Range(0.25, 0.75), [0.25, 0.75], [0.2499, 0.7501], "0.25 to 0.75"),
    ],
)
def test_a_range_holds_what_its_words_say(interval, inside, outside, text):
    assert str(interval) == text
    assert all(value in interval for value in inside)
    assert not any(value in interval for value in outside)


# --- check_settings ------------------------------------------------------------------------------


def config(**values):
    """{"A.B": value} as a node."""
    cfg = CfgNode()
    for key, value in values.items():
        cfg[key] = CfgNode({"X": value}) if key.isupper() else value
    return cfg


RANGES = {"A.X": Range(0, 10, below=True), "B.X": Range(0, unset=True)}
CHOICES = {"C.X": ("one", "two")}


@pytest.mark.parametrize(
    "value",
    [
        *[0, 9.99, [1, 2], (), [], (1, [2, (3,)]), [[]]],
        *[np.float64(1), [np.int64(1), np.float32(0.5), np.uint8(9)], [Fraction(1, 2)]],
    ],
)
def test_what_can_be_meant_passes(value):
    check_settings({"A": {"X": value}}, RANGES, CHOICES)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (10, "A.X is 10; it must be 0 or more and below 10"),
        (-1e-9, "A.X is -1e-09; it must be 0 or more and below 10"),
        ([1, (2, [11])], "A.X is [1, (2, [11])]; it must be 0 or more and below 10"),
        (NAN, "A.X is nan; it must be finite"),
        (-INF, "A.X is -inf; it must be finite"),
        ([0, [NAN]], "A.X is [0, [nan]]; it must be finite"),
        (np.float32(NAN), "A.X is nan; it must be finite"),
        (np.float32(10), "A.X is 10.0; it must be 0 or more and below 10"),
        (np.int64(-1), "A.X is -1; it must be 0 or more and below 10"),
        (10**400, "A.X has more than 64 bits; it must be below 2^63"),
        (-(2**63), "A.X has more than 64 bits; it must be below 2^63"),
        ("5", "A.X is '5'; it must be a number, 0 or more and below 10"),
        (None, "A.X is None; it must be a number, 0 or more and below 10"),
        (True, "A.X is True; it must be a number, 0 or more and below 10"),
        (np.True_, f"A.X is {np.True_!r}; it must be a number, 0 or more and below 10"),
        ([1, "a"], "A.X is [1, 'a']; it must be a number, 0 or more and below 10"),
        ([1, [False]], "A.X is [1, [False]]; it must be a number, 0 or more and below 10"),
    ],
)
def test_what_cannot_be_meant_is_one_line(value, message):
    with pytest.raises(DataError) as caught:
        check_settings({"A": {"X": value}}, RANGES, CHOICES)
    assert str(caught.value) == message


def test_where_there_is_no_range_anything_finite_passes():
    fine = ["text", None, True, -1, [None, ["a", 1]], "nan", 2**63 - 1]
    for value in fine:
        check_settings(config(D=value), RANGES, CHOICES)
    for value in (NAN, [[INF]], 2**63):
        with pytest.raises(DataError, match=r"D\.X "):
            check_settings(config(D=value), RANGES, CHOICES)


def test_some_numbers_may_be_unset():
    check_settings(config(B=None), RANGES, CHOICES)
    with pytest.raises(DataError, match=r"B\.X is \[None\]; it must be a number, 0 or more"):
        check_settings(config(B=[None]), RANGES, CHOICES)


def test_words_must_be_those_that_are_known():
    check_settings(config(C="two"), RANGES, CHOICES)
    for value in ("Two", "", None, ["one"], 1):
        with pytest.raises(DataError, match=r"C\.X is .*; it must be one of one, two"):
            check_settings(config(C=value), RANGES, CHOICES)


nested = st.recursive(
    st.floats() | st.integers() | st.text(max_size=3) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@given(value=nested)
def test_whatever_a_value_is_it_passes_or_is_one_line(value):
    cfg = {"A": {"X": value}, "D": {"X": value}}
    try:
        check_settings(cfg, RANGES, CHOICES)
    except DataError as error:
        assert "\n" not in str(error).replace(repr(value), "")
    else:
        flat = repr(value)
        assert "nan" not in flat and "inf" not in flat and "None" not in flat and "'" not in flat


def test_leaves_are_those_of_any_kind_of_node():
    cfg = CfgNode({"A": {"B": {"C": 1}}, "D": "x"})
    cfg.E = YacsNode({"F": [2]})
    cfg.G = DetectionNode({"H": NAN})
    assert list(leaves(cfg))[:3] == [("A.B.C", 1), ("D", "x"), ("E.F", [2])]
    with pytest.raises(DataError, match=r"G\.H is nan"):
        check_settings(cfg, {}, {})


# --- config_digest -------------------------------------------------------------------------------


def detection_config():
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_adapruner_config(cfg)
    return cfg


def other_than(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return type(value)([*value, 1])
    return "set"


@pytest.mark.parametrize("make", [get_config, detection_config])
def test_every_key_counts_but_those_without_effect(make):
    cfg = make()
    digest = config_digest(cfg)
    keys = dict(leaves(cfg))
    assert len(keys) > 40
    free = set(keys) & {*WITHOUT_EFFECT, "DATA.DOWNLOAD"}
    tried = {*free, *list(keys)[:: len(keys) // 40]}
    seen = set()
    for key in tried:
        cfg.merge_from_list([key, other_than(keys[key])])
        changed = config_digest(cfg)
        assert (changed == digest) == (key in free), key
        seen.add(changed)
        cfg.merge_from_list([key, None])  # of any type
        cfg.merge_from_list([key, keys[key]])
    assert config_digest(cfg) == digest
    assert len(seen) == 1 + len(tried) - len(free)


def test_without_effect_are_places_and_means_and_nothing_else():
    keys = {*dict(leaves(get_config())), *dict(leaves(detection_config()))}
    assert set(WITHOUT_EFFECT) <= keys
    places = {"OUTPUT_DIR", "DATA.ROOT", "ADAPRUNER.VOC_FOLDERS", "ADAPRUNER.COCO_SETS"}
    means = {"DATALOADER.NUM_WORKERS", "DATA.WORKERS", "DATA.MEMORY_MB"}
    means |= {"SOLVER.CHECKPOINT_PERIOD"}
    assert set(WITHOUT_EFFECT) == places | means


@pytest.mark.parametrize(
    ("make", "key"), [(get_config, "DEVICE"), (detection_config, "MODEL.DEVICE")]
)
def test_the_number_of_a_gpu_is_not_of_the_configuration(make, key):
    """Two of a machine may go on with one run, or share a comparison."""
    cfg = make()
    digests = {}
    for device in ("cuda", "cuda:0", "cuda:11", "cpu"):
        cfg.merge_from_list([key, device])
        digests[device] = config_digest(cfg)
    assert len({*digests.values()}) == 2 and digests["cpu"] != digests["cuda"]


def test_a_digest_leaves_the_configuration_as_it_is():
    cfg = get_config()
    cfg.OUTPUT_DIR = "mine"
    cfg.freeze()
    before = cfg.dump()
    assert re.fullmatch("[0-9a-f]{64}", config_digest(cfg))
    assert cfg.dump() == before and cfg.is_frozen()


def test_a_digest_is_of_values_and_not_of_how_they_are_kept():
    one = CfgNode({"A": {"X": (1, 2), "Y": 0.1}, "B": "é", "OUTPUT_DIR": "a"})
    other = CfgNode({"OUTPUT_DIR": "b", "B": "é", "A": {"Y": 0.1, "X": [1, 2]}})
    assert config_digest(one) == config_digest(other)
    for key, value in (("B", "1"), ("A", 0.1), ("A.X", [2, 1]), ("A.Y", 0.1 + 1e-16)):
        changed = one.clone()
        node = changed if "." not in key else changed.A
        node[key[-1]] = value
        assert config_digest(changed) != config_digest(one)


def test_a_configuration_that_was_written_and_read_again_is_the_same(tmp_path):
    """As a run's config.yaml is, given in place of its own file."""
    cfg = detection_config()
    cfg.merge_from_list(["MODEL.YOLO.ANCHORS", [[1.5, 2], [3, 4e-5]], "SOLVER.STEPS", (7, 9)])
    cfg.merge_from_list(["DATASETS.TRAIN", ("a", "b"), "SOLVER.BASE_LR", 1e-7])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = detection_config()
    again.merge_from_file(str(tmp_path / "config.yaml"))
    assert config_digest(again) == config_digest(cfg)


def test_settings_that_differ_are_named_with_both_values():
    cfg = CfgNode({"A": {"X": (1, 2), "Y": 0.1}, "B": "é", "C": None, "OUTPUT_DIR": "a"})
    here = settings_text(cfg)
    assert differences(here, here) == differences("", here) == ""
    cfg.A.X, cfg.OUTPUT_DIR = [1, 3], "b"
    there = settings_text(cfg)
    assert differences(there, here) == " (A.X is [1, 3] there and [1, 2] here)"
    cfg.A.X = list(range(99))
    there, cfg.A.X[50] = settings_text(cfg), 0  # in what is not shown
    assert differences(there, settings_text(cfg)).startswith(" (A.X is [0, 1, 2, ")
    cfg.A.Y, cfg.B, cfg.D = 0.2, "e", "x" * 99
    del cfg["C"]
    text = differences(settings_text(cfg), here)
    assert "A.Y is 0.2 there and 0.1 here, B is 'e' there and 'é' here, and 2 more)" in text
    text = differences(settings_text(cfg), here, 9)
    assert "C is not set there and None here, D is 'xxxx" in text and len(text) < 250


def test_a_digest_is_the_same_in_every_process():
    code = """
from fvcore.common.config import CfgNode
from adapruner_det.settings import config_digest
print(config_digest(CfgNode({"A": {"X": (1, 2), "Y": 0.1}, "B": "é", "C": None})))
"""
    mine = config_digest(CfgNode({"A": {"X": (1, 2), "Y": 0.1}, "B": "é", "C": None}))
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"}
        assert apart.run(code, env=environment) == (0, f"{mine}\n", "")


# --- build_pruner --------------------------------------------------------------------------------


def mask(epochs=9, keep_ratio=None, **options):
    return build_pruner({**OPTIONS, **options}, samples(12), epochs, keep_ratio, length="EPOCHS")


def test_a_mask_is_of_the_nodes_ratio_or_of_the_one_that_is_asked_for():
    assert (mask().keep_ratio, mask(keep_ratio=0.25).keep_ratio) == (0.5, 0.25)
    assert (mask().num_samples, mask().schedule.epochs, mask().schedule.warmup_epochs) == (12, 9, 1)


def test_objects_are_counted_only_where_the_node_says_so():
    many = samples(12)
    object.__setattr__(many, "classes", [[0] * (1 + i % 3) for i in range(12)])
    for counted in (True, False):
        pruner = build_pruner({**OPTIONS, "NORMALIZE_BY_OBJECTS": counted}, many, 9)
        assert pruner._typical.by_size == counted
        assert pruner.mask.levels.tolist() == [1, 2, 3]
    assert build_pruner(OPTIONS, many, 9).mask.levels.tolist() == [1]


class Watched(dict):
    """A node that remembers what was read of it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)


def test_the_options_that_a_mask_is_made_of_are_those_that_are_listed():
    node = Watched({**OPTIONS, "OBJECTIVE": "inclusion", "CLASS_BAND": 0.1})
    build_pruner(node, samples(12), 9, look=False)
    assert node.read == {*PRUNER_OPTIONS, "KEEP_RATIO"}


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_run_without_an_epoch_to_prune_in_says_what_to_raise(epochs):
    with pytest.raises(DataError) as caught:
        mask(epochs, WARMUP_EPOCHS=3)
    assert str(caught.value) == (
        f"the run makes {epochs} epochs of 12 images, of which 3 are warm-up: none is left to "
        "prune in; raise EPOCHS or lower ADAPRUNER.WARMUP_EPOCHS"
    )
    assert mask(4, WARMUP_EPOCHS=3).schedule.pruning_epochs == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ALPHA_START": 6.0}, "α goes from 6.0 to 5.0"),
        ({"CONTROLLER": "paper", "CLASS_BAND": 0.1}, "balance needs the controller 'dual'"),
    ],
)
def test_values_that_make_no_mask_point_to_the_configuration(options, message):
    with pytest.raises(DataError, match=f"{message}.*see ADAPRUNER"):
        mask(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"NORMALIZE": "mean"}, "NORMALIZE is 'mean'; it must be one of median, none"),
        ({"OBJECTIVE": "Inclusion"}, "OBJECTIVE is 'Inclusion'; it must be one of paper, inclusi"),
        ({"DROP": "middle"}, "DROP is 'middle'; it must be one of"),
        ({"DROP": "twins"}, "DROP twins needs ADAPRUNER.OBJECTIVE inclusion, .* is 'paper'"),
        ({"WARMUP_EPOCHS": -1}, "WARMUP_EPOCHS is -1; it must be 0 or more"),
        ({"DROP": "easy", "CLASS_BAND": 0.1}, "CLASS_BAND 0.1 holds .*DROP is 'easy'; set one"),
    ],
)
def test_a_value_of_the_node_that_cannot_be_meant_makes_no_mask(options, message):
    with pytest.raises(DataError, match=rf"^ADAPRUNER\.{message}"):
        mask(**options)


def test_samples_that_are_too_few_to_hold_a_tenth_out_are_said_before_a_run():
    few, enough = samples(AUTO_NEEDS - 1), samples(AUTO_NEEDS)
    with pytest.raises(DataError, match="19 samples are too few to hold a tenth out"):
        build_pruner({**OPTIONS, "DROP": "auto"}, few, 10)
    for options, own in (({"DROP": "auto"}, enough), ({}, few)):
        assert build_pruner({**OPTIONS, **options}, own, 10).num_samples == len(own)
