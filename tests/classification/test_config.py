from pathlib import Path

import pytest
import torch

from adapruner_det.classification.config import (
    ABLATIONS,
    ablate,
    config_digest,
    get_config,
    load_config,
    resolve_device,
)
from adapruner_det.classification.models import build_model
from adapruner_det.classification.run import build_pruner
from adapruner_det.errors import DataError

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "classification").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_a_run(path):
    cfg = load_config(str(path))
    assert build_pruner(cfg, 10).schedule.epochs == cfg.SOLVER.EPOCHS
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
        (["ADAPRUNER.KEEP_RATIO", "0.0"], "keep ratio is 0"),
        (["ADAPRUNER.KEEP_RATIO", "1.2"], "must lie in"),
        (["SOLVER.EPOCH", "3"], "Non-existent key"),
        (["SOLVER.EPOCHS", "many"], "not valid"),
        (["SOLVER.EPOCHS"], "not valid"),
        (["SOLVER.BATCH_SIZE", "1"], "SOLVER.BATCH_SIZE is 1; it must be 2 or more"),
        (["DATA.WRONG_LABELS", "1.0"], "DATA.WRONG_LABELS is 1.0; it must be 0 to 0.99"),
        (["ADAPRUNER.CONTROLLER", "pid"], "must be one of dual, paper"),
    ],
)
def test_what_is_wrong_is_named(overrides, message):
    with pytest.raises(DataError, match=message):
        load_config("", overrides)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no configuration file"):
        load_config(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("DATA: [")
    with pytest.raises(DataError, match=r"x\.yaml"):
        load_config(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_takes_one_part_away(name):
    cfg = get_config()
    ablate(cfg, name)
    pruner = build_pruner(cfg, 10)
    left = (
        pruner.schedule.warmup_epochs > 0,
        pruner.terms.classification,
        pruner.terms.selection,
        pruner.terms.compression,
    )
    assert [part for part, on in zip(ABLATIONS, left, strict=True) if not on] == [name]
    assert pruner.schedule.epochs == cfg.SOLVER.EPOCHS


def test_the_digest_tells_settings_but_not_the_output_folder():
    one, two = get_config(), get_config()
    two.OUTPUT_DIR = "elsewhere"
    assert config_digest(one) == config_digest(two)
    two.SEED = 1
    assert config_digest(one) != config_digest(two)


def test_without_a_gpu_the_cpu_is_used_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert resolve_device(get_config()).type == "cpu"
    assert "No GPU found" in caplog.text
