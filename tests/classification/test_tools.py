import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import prune
from adapruner_det.selection import Selection
from tests.classification.tiny import same_state, write_packed

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["MODEL.WIDTH", "4", "DATA.NUM_TRAIN", "300", "SOLVER.EPOCHS", "3"]
QUICK += ["ADAPRUNER.WARMUP_EPOCHS", "1"]


def command(tool, *args):
    return [sys.executable, str(ROOT / "tools" / tool), *map(str, args)]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a tool here, where the libraries are loaded already: (exit status, stdout, stderr)."""

    def call(tool, *args):
        monkeypatch.setattr(sys, "argv", command(tool, *args)[1:])
        status = 0
        try:
            runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def test_prune_then_train_on_the_kept_part(tmp_path, run):
    out = tmp_path / "out"
    status, text, _ = run("prune_cls.py", *QUICK, "OUTPUT_DIR", out, "ADAPRUNER.KEEP_RATIO", "0.8")
    assert status == 0 and "240 of 300 images (80.00%)" in text
    advice = text.strip().splitlines()[-1].removeprefix("train on it")
    tool, *args = shlex.split(advice)
    status, text, _ = run(Path(tool).name, *args)
    assert status == 0 and "after 3 epochs of 240 images" in text
    assert (tmp_path / "out_kept" / "result.json").is_file()
    args[args.index("--selection") :] = [
        *("--selection", out / "selection.json", "--keep-ratio", "0.5"),
        *(*QUICK, "OUTPUT_DIR", tmp_path / "half"),
    ]
    status, text, _ = run("train_cls.py", *args)
    assert status == 0 and "after 3 epochs of 150 images" in text


@pytest.mark.parametrize("flag", [[], ["--without", "warmup"]])
def test_an_ablation_is_a_flag(tmp_path, run, flag, caplog):
    with caplog.at_level("INFO"):
        status, _, _ = run("prune_cls.py", *flag, *QUICK, "OUTPUT_DIR", tmp_path / "out")
    first = next(text for text in caplog.messages if text.startswith("Epoch 1:"))
    stands_still = "soft ratio 0.5000 of" in first and " 0.0% binary" in first
    assert status == 0 and stands_still == (not flag)


def test_killed_in_mid_run_it_resumes_to_the_same_end(tmp_path, run):
    settings = ["SOLVER.EPOCHS", "20", "SOLVER.CHECKPOINT_PERIOD", "7", "DEVICE", "cpu"]
    settings += ["OUTPUT_DIR", str(tmp_path / "killed")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command("prune_cls.py", *settings), env=env, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    while not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "selection.json").exists()
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 20 * 23

    status, _, _ = run("prune_cls.py", "--resume", *settings)
    assert status == 0
    cfg = load_config(str(ROOT / "configs" / "classification" / "digits.yaml"), settings)
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    whole = prune(cfg, load_data(cfg).train)
    killed = Selection.load(tmp_path / "killed" / "selection.json")
    for name, column in whole.columns.items():
        assert column.tolist() == killed.columns[name].tolist()
    models = [
        torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "killed")
    ]
    assert same_state(*models)


def test_transfer_goes_from_one_packed_set_to_another(tmp_path, run):
    settings = []
    for name in ("a", "b"):
        write_packed(tmp_path / name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"DATA:\n  NAME: packed\n  ROOT: {tmp_path / name}\nMODEL:\n  NAME: small\n"
            "SOLVER:\n  EPOCHS: 2\n  BATCH_SIZE: 8\nDEVICE: cpu\n"
        )
        settings.append(path)
    status, text, _ = run(
        *("transfer_cls.py", "--config-file", settings[0], "--target-config-file", settings[1]),
        *("OUTPUT_DIR", tmp_path / "out"),
    )
    assert status == 0 and "target: " in text and "on b_test (12 images)" in text


@pytest.mark.parametrize(
    ("tool", "args", "message"),
    [
        ("prune_cls.py", ["ADAPRUNER.KEEP_RATIO", "1.5"], "keep ratio is 1.5"),
        ("prune_cls.py", ["ADAPRUNER.WARMUP_EPOCHS", "20"], "0 epochs left after warm-up"),
        ("prune_cls.py", ["DATA.NAME", "packed", "DATA.ROOT", "gone"], "there is no folder"),
        ("train_cls.py", ["--selection", "gone.json"], "there is no selection at gone.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, tool, args, message, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = run(tool, *args, "OUTPUT_DIR", "out")
    assert status == 2
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.iterdir())
