import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.classification.config import (
    ABLATIONS,
    CHOICES,
    RANGES,
    ablate,
    check_config,
    get_config,
    load_config,
    resolve_device,
)
from adapruner_det.classification.data import SOURCES
from adapruner_det.classification.models import build_model
from adapruner_det.classification.run import build_pruner
from adapruner_det.errors import DataError
from adapruner_det.settings import leaves
from tests.classification.tiny import tiny_set

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "classification").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_a_run(path):
    cfg = load_config(str(path))
    assert build_pruner(cfg, tiny_set(10)).schedule.epochs == cfg.SOLVER.EPOCHS
    cfg.MODEL.PRETRAINED = False  # no download in a test
    with torch.device("meta"):
        build_model(cfg, 3, 10)


def test_the_paper_s_protocol():
    cfg = load_config(str(next(path for path in CONFIGS if path.stem == "cifar10_resnet18")))
    solver, pruner = cfg.SOLVER, cfg.ADAPRUNER
    assert (solver.EPOCHS, solver.BATCH_SIZE, solver.LR) == (200, 256, 0.1)
    assert (solver.MOMENTUM, solver.WEIGHT_DECAY) == (0.9, 5e-4)
    assert (pruner.ALPHA_START, pruner.ALPHA_END, pruner.PAPER_SCALE) == (0.1, 5.0, 100.0)
    assert (cfg.AUGMENT.CROP, cfg.AUGMENT.FLIP, cfg.AUGMENT.CUTOUT) == (4, True, 16)
    assert pruner.NORMALIZE == "none"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ADAPRUNER.KEEP_RATIO", "0.0"], "KEEP_RATIO is 0.0; it must be above 0 and at most 1"),
        (["ADAPRUNER.KEEP_RATIO", "1.2"], "KEEP_RATIO is 1.2"),
        (["SOLVER.EPOCH", "3"], "no key 'SOLVER.EPOCH' .* did you mean SOLVER.EPOCHS?"),
        (["SOLVER.EPOCHS", "many"], "EPOCHS is 'many'; it must be a whole number, such as"),
        (["SOLVER.EPOCHS"], "'SOLVER.EPOCHS', the last of the overrides, has no partner"),
        (["SOLVER.BATCH_SIZE", "1"], "SOLVER.BATCH_SIZE is 1; it must be 2 or more"),
        (["DATA.WRONG_LABELS", "1.0"], "DATA.WRONG_LABELS is 1.0; it must be 0 to 0.99"),
        (["ADAPRUNER.CONTROLLER", "pid"], "must be one of dual, paper"),
        (["MODEL.NAME", "vgg"], "MODEL.NAME is 'vgg'; it must be one of small, resnet18"),
        (["DATA.NAME", "imagenet"], "must be one of digits, mnist"),
        (["DATA.NAME", "None"], "DATA.NAME is None; it must be of the type str"),
        (["SOLVER.EPOCHS", "None"], "SOLVER.EPOCHS is None; it must be of the type int"),
        (["SOLVER.EPOCHS", "9" * 400], "SOLVER.EPOCHS is an integer of more than 64 bits"),
        (["SOLVER.EPOCHS", "9" * 5000], "it must be a whole number"),
        (["SOLVER.EPOCHS", "(" * 500 + ")" * 500], "it must be a whole number"),
        (["SOLVER.LR", "1e999"], "SOLVER.LR is inf; it must be finite"),
        (["SEED", "-1"], "SEED is -1; it must be 0 to"),
        (["DATA.NAME.digits", "1"], "there is no key 'DATA.NAME.digits'"),
        (["DATA", "1"], "not valid"),
        (["DEVICE", "tpu"], "DEVICE is 'tpu'; it must be cpu, cuda or cuda:<number>"),
        (["DEVICE", "cuda:-1"], "it must be cpu"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR is empty"),
        (["MODEL.PRETRAINED", "True", "MODEL.NAME", "small"], "PRETRAINED is for ResNets"),
        (["ADAPRUNER.CLASS_BAND", "1.0"], "CLASS_BAND is 1.0; it must be 0 or more and below 1"),
        (
            ["ADAPRUNER.CLASS_BAND", "0.1", "ADAPRUNER.CONTROLLER", "paper"],
            "CLASS_BAND 0.1 needs ADAPRUNER.CONTROLLER dual",
        ),
    ],
)
def test_what_is_wrong_is_named(overrides, message):
    with pytest.raises(DataError, match=message):
        load_config("", overrides)


def test_every_number_has_a_range_and_every_word_its_choices():
    numbers, words = [], []
    for key, value in leaves(get_config()):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append(key)
        elif isinstance(value, str):
            words.append(key)
    assert sorted(numbers) == sorted(RANGES)
    free = {"DATA.ROOT", "MODEL.WEIGHTS", "OUTPUT_DIR", "DEVICE"}
    assert set(words) == set(CHOICES) | free
    assert set(CHOICES["DATA.NAME"]) == set(SOURCES)


@pytest.mark.parametrize("key", RANGES)
def test_what_is_out_of_range_is_refused_and_the_bounds_are_not(key):
    bounds, default = RANGES[key], dict(leaves(get_config()))[key]
    kind, step = type(default), 1 if isinstance(default, int) else 1e-9

    def accepted(value):
        try:
            load_config("", [key, repr(kind(value)), "ADAPRUNER.CONTROLLER", "dual"])
        except DataError as error:
            assert key in str(error) or "keep ratio" in str(error)
            return False
        return True

    assert accepted(default)
    assert accepted(bounds.low) != bounds.above and not accepted(bounds.low - step)
    if math.isfinite(bounds.high):
        assert accepted(bounds.high) != bounds.below and not accepted(bounds.high + step)
    if kind is float:
        assert not accepted(math.inf) and not accepted(-math.inf)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_seed_in_range_is_taken_by_all_generators(seed):
    cfg = load_config("", ["SEED", str(seed), "DATA.SEED", str(seed)])
    torch.Generator().manual_seed(cfg.SEED)
    np.random.default_rng([cfg.SEED, 1]).permutation(3)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    for path in (tmp_path / "x.yaml", tmp_path):
        with pytest.raises(DataError, match="there is no configuration file"):
            load_config(str(path))


LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"DATA: [", r"x\.yaml is not valid"),
        (b"", r"x\.yaml holds no KEY: VALUE"),
        (b"- 1\n- 2\n", r"x\.yaml holds no KEY: VALUE"),
        (b"1: 2\n", r"x\.yaml .*not valid"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"x\.yaml is not valid"),
        (b"DATA: {ROOT: !!python/object/apply:os.system ['touch ran']}", r"x\.yaml is not valid"),
        (LAUGHS.encode(), r"x\.yaml is not valid: it comes to more than"),
        (b"DATA: &d {ROOT: *d}", r"x\.yaml is not valid: it comes to more than"),
        (b"[" * 5000, r"x\.yaml is not valid"),
        (b"SEED: 1\nDATA:\n  SEED: 1\n  SEED: 2\n", "line 4 has SEED a second time"),
        (b"_BASE_: x.yaml\n", r"x\.yaml is based on itself"),
        (b"_BASE_: y.yaml\n", r"there is no configuration file .*y\.yaml"),
        (b"_BASE_: 3\n", r"_BASE_ is 3; it must be a path"),
        (b"_BASE_: [x.yaml]\n", r"x\.yaml is based on itself"),
        (b"DATA: {ROOT: 3}", r"not valid: Type mismatch"),
        (b"DATA: 3", r"not valid"),
        (b"SOLVER: {LR: .nan}", r"SOLVER\.LR is nan; it must be finite"),
        (b'OUTPUT_DIR: "a\\0b"', r"OUTPUT_DIR is 'a\\x00b'; it must have no null"),
        (b"x: " + b"1" * 2_000_000, r"x\.yaml is larger than"),
    ],
)
def test_a_yaml_that_cannot_be_meant_is_one_line(tmp_path, text, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_bytes(text)
    with pytest.raises(DataError, match=message) as error:
        load_config("x.yaml")
    assert len(str(error.value)) < 800
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["_BASE_", "DATA", "SOLVER", "SEED", "NAME", "LR", "EPOCHS", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_a_yaml_holds_is_a_configuration_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        cfg = load_config(str(path))
    except DataError:
        return
    check_config(cfg)


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_takes_one_part_away(name):
    cfg = get_config()
    ablate(cfg, name)
    pruner = build_pruner(cfg, tiny_set(10))
    left = (
        pruner.schedule.warmup_epochs > 0,
        pruner.terms.classification,
        pruner.terms.selection,
        pruner.terms.compression,
    )
    assert [part for part, on in zip(ABLATIONS, left, strict=True) if not on] == [name]
    assert pruner.schedule.epochs == cfg.SOLVER.EPOCHS


def test_without_a_gpu_the_cpu_is_used_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert resolve_device(get_config()).type == "cpu"
    assert "No GPU found" in caplog.text


def test_a_gpu_that_is_not_among_those_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device(load_config("", ["DEVICE", "cuda:1"])).index == 1
    with pytest.raises(DataError, match="^DEVICE is 'cuda:2', which this machine lacks"):
        resolve_device(load_config("", ["DEVICE", "cuda:2"]))
