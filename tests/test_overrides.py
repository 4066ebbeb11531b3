"""What is said of overrides before a configuration takes them."""

import pytest
from detectron2.config import get_cfg

from adapruner_det.classification.config import get_config
from adapruner_det.classification.config import load_config as load_classification
from adapruner_det.detection.config import add_adapruner_config
from adapruner_det.detection.setup import load_config as load_detection
from adapruner_det.errors import DataError
from adapruner_det.overrides import checked_overrides


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_adapruner_config(cfg)
    return cfg


def test_what_can_be_taken_is_taken_as_it_is(cfg):
    given = ["SOLVER.STEPS", "(3, 5)", "DATASETS.TRAIN", ("a",), "OUTPUT_DIR", "x", "SEED", "7"]
    assert checked_overrides(cfg, given) == given
    assert checked_overrides(cfg, ()) == []


@pytest.mark.parametrize("value", ["1", "+1", "01"])
def test_a_whole_number_serves_a_decimal_key(cfg, value):
    for load in (load_classification, load_detection):
        found = load("", ["ADAPRUNER.KEEP_RATIO", value, "ADAPRUNER.ALPHA_END", "7"]).ADAPRUNER
        assert (found.KEEP_RATIO, found.ALPHA_END) == (1.0, 7.0)
        for beyond in ("0", "100", "-1"):
            with pytest.raises(DataError, match=rf"KEEP_RATIO is {beyond}.0; it must be above 0"):
                load("", ["ADAPRUNER.KEEP_RATIO", beyond])
    assert checked_overrides(cfg, ["SOLVER.MAX_ITER", "5"]) == ["SOLVER.MAX_ITER", "5"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SEED", "1", "--selection", "x.json"], "--selection stands behind KEY VALUE; give"),
        (["SEED", "1", "--resume"], "--resume stands behind KEY VALUE; give options before them"),
        (["SEED", "1", "OUTPUT_DIR"], "'OUTPUT_DIR', the last of the overrides, has no partner"),
        (["ADAPRUNER.KEPT_RATIO", "0.8"], "there is no key 'ADAPRUNER.KEPT_RATIO' in the conf"),
        (["ADAPRUNER.KEPT_RATIO", "0.8"], "did you mean ADAPRUNER.KEEP_RATIO?"),
        (["SOLVER.BASE_LR.X", "0.8"], "no key 'SOLVER.BASE_LR.X'"),
        (["QQQQ", "0.8"], "there is no key 'QQQQ' in the configuration"),
    ],
)
def test_what_cannot_is_said_alone(cfg, overrides, message):
    with pytest.raises(DataError) as error:
        checked_overrides(cfg, overrides)
    assert message in str(error.value) and len(str(error.value)) < 150
    with pytest.raises(DataError) as error:
        load_detection("", overrides)
    assert message in str(error.value) and len(str(error.value)) < 150


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ADAPRUNER.KEEP_RATIO", "80%", "is '80%'; it must be a number, such as 0.9"),
        (
            "DATASETS.TRAIN",
            "my_train",
            """is 'my_train'; it must be a list, such as "('my_train',)\"""",
        ),
        ("DATASETS.TRAIN", "(a,b)", """is '(a,b)'; it must be a list, such as "('a', 'b')\""""),
        (
            "ADAPRUNER.VOC_FOLDERS",
            "my_train=/data/of/mine:trainval",
            "it must be a list, such as \"('my_train=/data/of/mine:trainval',)\"",
        ),
        ("SOLVER.STEPS", "many", """is 'many'; it must be a list, such as "(30000,)\""""),
        ("SOLVER.STEPS", "7", """is 7; it must be a list, such as "(7,)\""""),
        ("SOLVER.MAX_ITER", "2.5", "is 2.5; it must be a whole number, such as 40000"),
        ("OUTPUT_DIR", "1", """is 1; it must be a text, such as "'1'\""""),
        ("TEST.AUG.ENABLED", "true", "is 'true'; it must be True or False"),
        ("SEED", "(" * 5000, "it must be a whole number, such as -1"),
    ],
)
def test_a_value_of_another_type_is_said_alone_and_in_plain_words(cfg, key, value, message):
    given = ["DATASETS.TEST", "('a',)", key, value]
    for take in (lambda: checked_overrides(cfg, given), lambda: load_detection("", given)):
        with pytest.raises(DataError) as error:
            take()
        said = str(error.value)
        assert said.startswith(f"{key} is ") and said.endswith(message) and len(said) < 180


def test_a_value_may_be_none_and_a_key_without_a_value_takes_any(cfg):
    for value in ("None", None):
        given = ["OUTPUT_DIR", value]
        assert checked_overrides(cfg, given) == given
    cfg.OUTPUT_DIR = None
    assert checked_overrides(cfg, ["OUTPUT_DIR", "7"]) == ["OUTPUT_DIR", "7"]


def test_a_node_and_an_unknown_key_are_told_apart():
    cfg = get_config()
    assert checked_overrides(cfg, ["SOLVER", "1"]) == ["SOLVER", "1"]
    with pytest.raises(DataError, match="there is no key 'SOLVE'"):
        checked_overrides(cfg, ["SOLVE", "1"])
