import filecmp
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

from adapruner_det.classification.trainer import Trainer
from adapruner_det.files import locked
from adapruner_det.selection import Selection
from tests.classification.tiny import write_folder, write_packed

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["MODEL.WIDTH", "4", "DATA.NUM_TRAIN", "300", "SOLVER.EPOCHS", "3"]
QUICK += ["ADAPRUNER.WARMUP_EPOCHS", "1"]
DIGITS = "configs/classification/digits.yaml"
DIGITS_TWICE = ["--config-file", DIGITS, "--target-config-file", DIGITS]


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


def next_command(text):
    """What the summary says to do next."""
    return text.strip().splitlines()[-1].removeprefix("train on it").strip()


def test_prune_then_train_on_the_kept_part(tmp_path, run):
    out = tmp_path / "out"
    status, text, _ = run("prune_cls.py", *QUICK, "OUTPUT_DIR", out, "ADAPRUNER.KEEP_RATIO", "0.8")
    assert status == 0 and "240 of 300 images (80.00%)" in text
    assert f"report            {out}/report.html" in text
    assert (out / "report.html").read_text().count("data:image/webp") == 300
    _, tool, *args = shlex.split(next_command(text))
    status, text, _ = run(Path(tool).name, *args)
    assert status == 0 and "after 3 epochs of 240 images" in text
    assert (tmp_path / "out_kept" / "result.json").is_file()
    args[args.index("--selection") :] = [
        *("--selection", out / "selection.json", "--keep-ratio", "0.5"),
        *(*QUICK, "OUTPUT_DIR", tmp_path / "half"),
    ]
    status, text, _ = run("train_cls.py", *args)
    assert status == 0 and "after 3 epochs of 150 images" in text


def test_the_next_command_works_word_for_word_where_the_first_was_given(tmp_path, run, monkeypatch):
    """From a folder with a blank, with relative paths, an ablation and a file left out."""
    here = tmp_path / "my work"
    write_folder(here / "it's data", per_class=12)
    (here / "it's data" / "train" / "red" / "x.png").write_bytes(b"no image")
    (here / "my.yaml").write_text(
        'DATA: {NAME: folder, ROOT: "it\'s data", SIZE: 8}\nMODEL: {NAME: small, WIDTH: 4}\n'
        "SOLVER: {EPOCHS: 2, BATCH_SIZE: 8}\nDEVICE: cpu\n"
    )
    monkeypatch.chdir(here)
    status, text, _ = run(
        *("prune_cls.py", "--config-file", "my.yaml", "--without", "warmup"),
        *("ADAPRUNER.ON_BAD_SAMPLE", "skip", "OUTPUT_DIR", "out of it", "DATA.SIZE", "6"),
    )
    assert status == 0 and "left out          folder_train/red\\x.png" in text
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        next_command(text), shell=True, cwd=here, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "after 2 epochs of 32 images" in done.stdout
    own = "Warning: 8 steps on the kept part are few"  # of this run, not of a library
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr.replace(own, "")
    assert (here / "out of it_kept" / "result.json").is_file()


def test_a_selection_of_other_data_is_refused_before_its_steps_are_spoken_of(tmp_path, run, caplog):
    other = [*QUICK, "DATA.NUM_TRAIN", "200", "SOLVER.EPOCHS", "2"]
    assert run("prune_cls.py", *other, "OUTPUT_DIR", tmp_path / "other")[0] == 0
    caplog.clear()
    given = ["--selection", tmp_path / "other" / "selection.json", *QUICK]
    status, text, errors = run("train_cls.py", *given, "OUTPUT_DIR", tmp_path / "out")
    assert (status, text) == (2, "") and "made from other data" in errors
    assert "steps on the kept part" not in caplog.text + errors
    assert not (tmp_path / "out").exists()


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
    assert run("prune_cls.py", *settings, "OUTPUT_DIR", tmp_path / "whole")[0] == 0
    for name in ("selection.json", "selection.npz", "model.pt"):
        assert filecmp.cmp(tmp_path / "whole" / name, tmp_path / "killed" / name, shallow=False)


def test_a_signal_ends_a_tool_with_its_own_code_and_one_line(tmp_path, run, monkeypatch, caplog):
    args = [*QUICK, "OUTPUT_DIR", tmp_path / "out"]
    own = Trainer._train_step

    def train_step(self, ids, images):
        if self.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, ids, images)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", train_step)
        assert run("prune_cls.py", *args)[0] == 143
    assert "stopped after step 7 of 15" in caplog.messages[-1]
    assert run("prune_cls.py", "--resume", *args)[0] == 0
    assert Selection.load(tmp_path / "out" / "selection.json").num_kept == 270


def test_a_second_run_in_a_folder_is_one_line(tmp_path, run):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        status, _, errors = run("prune_cls.py", *QUICK, "OUTPUT_DIR", tmp_path / "out")
    assert status == 2 and "error: another run is writing to" in errors


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
    assert status == 0 and "target: " in text and "on packed_test (12 images)" in text


@pytest.mark.parametrize(
    ("tool", "args", "message"),
    [
        ("prune_cls.py", ["ADAPRUNER.KEEP_RATIO", "1.5"], "KEEP_RATIO is 1.5"),
        ("prune_cls.py", ["ADAPRUNER.WARMUP_EPOCHS", "20"], "none is left to prune in"),
        ("prune_cls.py", ["DATA.NAME", "packed", "DATA.ROOT", "gone"], "there is no folder"),
        ("prune_cls.py", ["OUTPUT_DIR", "/proc/no"], "OUTPUT_DIR '/proc/no' cannot be written to"),
        ("prune_cls.py", ["MODEL.WIDTH", "many"], "is 'many'; it must be a whole number"),
        ("prune_cls.py", ["SEED", "1", "--resume"], "give options before them"),
        ("prune_cls.py", ["MODEL.WEIGHTS", "gone.pt"], "there are no weights at gone.pt"),
        ("prune_cls.py", ["--config-file", "gone.yaml"], "there is no configuration file"),
        ("train_cls.py", ["--selection", "gone.json"], "there is no selection at gone.json"),
        ("train_cls.py", ["--selection", ""], "is not a selection"),
        ("transfer_cls.py", [*DIGITS_TWICE, "--selection", ""], "is not a selection"),
        ("train_cls.py", ["--keep-ratio", "0.5"], "give one with --selection"),
        ("train_cls.py", ["--selection", "s", "--keep-ratio", "80%"], "the keep ratio is '80%'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, tool, args, message, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = () if "OUTPUT_DIR" in args or "--resume" in args else ("OUTPUT_DIR", "out")
    status, _, errors = run(tool, *args, *output)
    assert status == 2
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.iterdir())
