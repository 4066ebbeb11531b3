import logging

import pytest
import torch
from detectron2.config import get_cfg

from adapruner_det import add_adapruner_config
from adapruner_det.detection.config import resolve_device
from adapruner_det.errors import DataError
from adapruner_det.settings import config_digest


def config(*overrides):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


def test_what_is_detectron2s_stays_as_it_is():
    cfg, plain = config(), get_cfg()
    del cfg["ADAPRUNER"], cfg.MODEL["YOLO"], cfg.MODEL["DARKNET"]
    assert cfg == plain


def test_the_defaults_are_the_papers_with_the_ratio_held():
    node = config().ADAPRUNER
    assert (node.ALPHA_START, node.ALPHA_END, node.PAPER_SCALE) == (0.1, 5.0, 100.0)
    assert (node.CONTROLLER, node.NORMALIZE) == ("dual", "median")
    assert node.CLASSIFICATION_LOSS and node.SELECTION_LOSS and node.COMPRESSION_LOSS


def test_two_configurations_do_not_share_a_node():
    first, second = config(), config()
    first.ADAPRUNER.VOC_FOLDERS.append("a=b:c")
    first.MODEL.YOLO.ANCHORS[0][0] = -1
    assert second.ADAPRUNER.VOC_FOLDERS == []
    assert second.MODEL.YOLO.ANCHORS[0][0] == 10


def test_a_gpu_that_is_not_there_becomes_the_cpu_with_one_log_line(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = config("MODEL.DEVICE", "cuda")
    with caplog.at_level(logging.INFO):
        resolve_device(cfg)
        resolve_device(cfg)
    assert cfg.MODEL.DEVICE == "cpu"
    assert [r.message for r in caplog.records] == [
        "No GPU found: MODEL.DEVICE is 'cpu' in place of 'cuda'."
    ]


def have_gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_mixed_precision_goes_with_the_gpu(monkeypatch, caplog):
    cfg = config("SOLVER.AMP.ENABLED", True)
    have_gpus(monkeypatch, 1)
    resolve_device(cfg)
    assert cfg.SOLVER.AMP.ENABLED
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        resolve_device(cfg)
    assert not cfg.SOLVER.AMP.ENABLED and "no mixed precision on a CPU" in caplog.text


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_there_is_used(monkeypatch, caplog, device):
    have_gpus(monkeypatch, 2)
    cfg = config("MODEL.DEVICE", device)
    resolve_device(cfg)
    assert cfg.MODEL.DEVICE == device
    assert not caplog.records
    with pytest.raises(DataError, match="^MODEL.DEVICE is 'cuda:2', which this machine lacks"):
        resolve_device(config("MODEL.DEVICE", "cuda:2"))


def test_the_digest_is_of_what_a_run_does_and_not_of_where_it_writes():
    digest = config_digest(config())
    assert len(bytes.fromhex(digest)) == 32
    assert config_digest(config("OUTPUT_DIR", "/elsewhere")) == digest
    assert config_digest(config("ADAPRUNER.KEEP_RATIO", 0.5)) != digest
    assert config_digest(config("SOLVER.BASE_LR", 0.5)) != digest


def test_the_digest_leaves_the_configuration_alone():
    cfg = config("OUTPUT_DIR", "/elsewhere")
    cfg.freeze()
    config_digest(cfg)
    assert cfg.is_frozen()
    assert cfg.OUTPUT_DIR == "/elsewhere"
