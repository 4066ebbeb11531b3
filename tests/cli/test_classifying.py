import shlex
import sys
import warnings

import pytest
import torch

from adapruner_det.cli import classifying
from adapruner_det.cli.classifying import beside, parser, running, train_command
from adapruner_det.errors import DataError
from tests.classification.tiny import tiny_config
from tests.tools.running import run_apart


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("two\nlines"), 2, "error: two lines"),
        (MemoryError("Unable to allocate 9 TiB"), 2, "error: memory ran out: Unable to allocate"),
        (torch.OutOfMemoryError("CUDA out of memory."), 2, "lower SOLVER.BATCH_SIZE"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "error: memory ran out"),
        (KeyboardInterrupt(), 130, "SIGINT: stopped outside of training"),
    ],
)
def test_what_is_the_user_s_ends_a_tool_with_one_line(capsys, error, code, line):
    with pytest.raises(SystemExit) as stop, running():
        raise error
    text = capsys.readouterr().err
    assert stop.value.code == code and line in text and text.count("\n") == 1


def test_a_fault_in_the_code_keeps_its_traceback():
    for error in (RuntimeError("shapes differ"), TypeError("x")):
        with pytest.raises(type(error)), running():
            raise error


def test_libraries_say_nothing_of_themselves():
    filters = [f for f in warnings.filters if f[0] == "ignore"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifying.silence_libraries()
        warnings.warn_explicit("`torch.jit.script` is deprecated.", FutureWarning, "x.py", 1, "x")
        warnings.warn_explicit("old", UserWarning, "x.py", 1, "torchvision.models._utils")
        assert not caught
        warnings.warn_explicit("ours", UserWarning, "x.py", 1, "adapruner_det.x")
        assert len(caught) == 1
    assert filters == [f for f in warnings.filters if f[0] == "ignore"]


@pytest.mark.parametrize("tool", ["prune_cls", "train_cls", "transfer_cls"])
def test_a_tool_has_them_silenced_before_it_imports_them(tool):
    done = run_apart("-c", f"import adapruner_det.cli.{tool}")
    assert (done.returncode, done.stderr) == (0, "")


def test_arguments_end_with_the_overrides():
    found = parser("prune_cls.py", "x")
    found.add_argument("--selection")
    args = found.parse_args(["--selection", "s.json", "--resume", "SEED", "1", "--odd", "2"])
    assert (args.selection, args.resume, args.opts) == (
        *("s.json", True),
        ["SEED", "1", "--odd", "2"],
    )


@pytest.mark.parametrize(
    ("tool", "output", "want"),
    [
        ("tools/prune_cls.py", "out/it's", "tools/train_cls.py"),
        ("/a b/tools/prune_cls.py", "out", "/a b/tools/train_cls.py"),
        ("prune_cls.py", "out/", "train_cls.py"),
    ],
)
def test_the_next_command_is_whole_and_quoted(monkeypatch, tool, output, want):
    monkeypatch.setattr(sys, "argv", [tool])
    opts = ["OUTPUT_DIR", output, "DATA.ROOT", "my data; x", "SEED", "1"]
    words = shlex.split(train_command("c.yaml", f"{output}/selection.json", opts, output))
    assert words[1:] == [
        *(want, "--config-file", "c.yaml", "--selection", f"{output}/selection.json"),
        *("DATA.ROOT", "my data; x", "SEED", "1", "OUTPUT_DIR", f"{output.rstrip('/')}_kept"),
    ]


def test_python_is_named_shortly_where_the_shell_finds_the_same(monkeypatch, tmp_path):
    words = ["c.yaml", "s.json", [], "out"]
    for name, first in (("python", "python"), ("other", str(tmp_path / "python"))):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        assert shlex.split(train_command(*words))[0] == first
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("folder", "other"),
    [("out", "out_kept"), ("a/b/", "a/b_kept"), (".", "./kept"), ("..", "../kept"), ("/", "/kept")],
)
def test_the_training_writes_beside_the_pruning(folder, other):
    assert beside(folder) == other


@pytest.mark.parametrize(
    ("settings", "images", "said"),
    [
        ({"SOLVER__EPOCHS": 10, "SOLVER__BATCH_SIZE": 10}, 100, "100 steps on the kept part"),
        ({"SOLVER__EPOCHS": 150, "SOLVER__BATCH_SIZE": 10}, 100, ""),
        ({"SOLVER__EPOCHS": 1, "MODEL__WEIGHTS": "model.pt"}, 100, ""),
        ({"SOLVER__EPOCHS": 1, "MODEL__PRETRAINED": True}, 100, ""),
    ],
)
def test_a_short_training_from_random_weights_is_said(settings, images, said, caplog):
    classifying.warn_of_few_steps(tiny_config(**settings), images)
    assert said in caplog.text and bool(said) == bool(caplog.records)
