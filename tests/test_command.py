import os
import shlex
import sys

import pytest
from detectron2.config import LazyConfig
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from adapruner_det import command
from adapruner_det.command import (
    config_path,
    help_text,
    program,
    recorded,
    shipped_config,
    sibling_command,
    with_output,
    without,
)
from tests import apart


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an interpreter ``python3``, which runs; PATH leads to it alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "python3")
    monkeypatch.setattr(sys, "executable", str(folder / "python3"))
    monkeypatch.setattr(sys, "argv", ["tools/prune_net.py", "ignored"])
    monkeypatch.setenv("PATH", str(folder))
    return folder


def executable(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def first_word(*arguments):
    return shlex.split(sibling_command("cut.py", arguments))[0]


def test_python_is_the_word_where_it_is_the_interpreter_that_runs(place):
    (place / "python").symlink_to("python3")
    assert sibling_command("cut.py", ["--n", "2"]) == "python tools/cut.py --n 2"


def test_another_python_in_the_same_folder_is_not(place):
    executable(place / "python")
    assert first_word() == str(place / "python3")


def test_another_python_in_front_is_not(place, tmp_path, monkeypatch):
    (place / "python").symlink_to("python3")
    other = tmp_path / "venv"
    other.mkdir()
    (other / "python").symlink_to(place / "python3")  # of a virtual environment on the same one
    monkeypatch.setenv("PATH", f"{other}{os.pathsep}{place}")
    assert first_word() == str(place / "python3")


def test_without_a_python_it_is_the_path(place):
    assert first_word() == str(place / "python3")


# --- the three ways to call a tool ---------------------------------------------------------------

WAYS = [
    ("tools/prune_net.py", "python tools/cut.py", "tools/cut.py"),
    ("/a b/prune_cls.py", "python '/a b/cut.py'", "/a b/cut.py"),
    ("demo.py", "python cut.py", "cut.py"),
    ("BIN/adapruner", "adapruner cut", "adapruner cut"),
    ("/p/adapruner_det/__main__.py", "python -m adapruner_det cut", "python -m adapruner_det cut"),
    # neither of them: a script of the user's, a notebook, a test
    ("my_script.py", "python -m adapruner_det cut", "python -m adapruner_det cut"),
    ("tools/__init__.py", "python -m adapruner_det cut", "python -m adapruner_det cut"),
    ("tasks.py", "python -m adapruner_det cut", "python -m adapruner_det cut"),
    ("", "python -m adapruner_det cut", "python -m adapruner_det cut"),
]


@pytest.mark.parametrize(("running", "expected", "name"), WAYS)
def test_a_tool_is_called_as_the_running_one_was(place, monkeypatch, running, expected, name):
    (place / "python").symlink_to("python3")
    executable(place / "adapruner")
    monkeypatch.setattr(sys, "argv", [running.replace("BIN", str(place))])
    assert sibling_command("cut.py", ["--a", "b c"]) == f"{expected} --a 'b c'"
    assert program("cut.py") == name


def test_dashes_stand_for_the_underscores_of_a_file(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/adapruner"])
    assert program("train_pruned.py") == "adapruner train-pruned"
    monkeypatch.setattr(sys, "argv", ["tools/cut.py"])
    assert program("train_pruned.py") == "tools/train_pruned.py"


def test_the_script_is_a_word_where_the_shell_finds_that_one(place, tmp_path, monkeypatch):
    own, other = place / "adapruner", tmp_path / "other"
    executable(own)
    other.mkdir()
    monkeypatch.setattr(sys, "argv", [str(own)])
    assert shlex.split(sibling_command("cut.py", [])) == ["adapruner", "cut"]
    executable(other / "adapruner")  # of another installation, and first on the path
    monkeypatch.setenv("PATH", f"{other}{os.pathsep}{place}")
    assert shlex.split(sibling_command("cut.py", [])) == [str(own), "cut"]
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["adapruner"])  # python adapruner
    assert shlex.split(sibling_command("cut.py", [])) == [str(own), "cut"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(sibling_command("cut.py", [])) == [str(own), "cut"]


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ("bin/adapruner", "adapruner cut --x; adapruner train-pruned, adapruner nothing"),
        ("tools/cut.py", "tools/cut.py --x; tools/train_pruned.py, adapruner nothing"),
        (
            "adapruner_det/__main__.py",
            "python -m adapruner_det cut --x; python -m adapruner_det train-pruned, "
            "adapruner nothing",
        ),
    ],
)
def test_a_help_names_the_commands_as_they_are_called(monkeypatch, running, expected):
    monkeypatch.setattr(sys, "argv", [running])
    text = "adapruner cut --x; adapruner train-pruned, adapruner nothing"
    assert help_text(text) == expected
    other = "-m adapruner_det cut, myadapruner cut, adapruner  cut, adapruner init"
    assert help_text(other) == other
    assert help_text(None) == ""


@given(
    arguments=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4)
)
def test_a_shell_gives_back_the_arguments(arguments):
    before, sys.argv = sys.argv, ["cut.py"]
    try:
        assert shlex.split(sibling_command("cut.py", arguments))[2:] == arguments
    finally:
        sys.argv = before


def test_the_command_runs_as_it_is_printed(tmp_path):
    (tmp_path / "my tools").mkdir()
    (tmp_path / "my tools" / "cut.py").write_text("import sys; print(sys.argv[1:], sys.prefix)")
    code = """
from adapruner_det.command import sibling_command
sys.argv[0] = "my tools/prune_cls.py"
print(sibling_command("cut.py", sys.argv[1:]))
"""
    arguments = ["a b", "$HOME", "('x',)"]
    code, line, err = apart.run(code, *arguments, cwd=tmp_path)
    assert (code, err) == (0, "")
    output = os.popen(f"cd {shlex.quote(str(tmp_path))} && {line}").read()
    assert output == f"{arguments} {sys.prefix}\n"


# --- configurations -------------------------------------------------------------------------------


@pytest.fixture(params=["installed", "checkout"])
def brought(request, tmp_path, monkeypatch):
    """A package with a configuration, as pip installs it or in its project; a folder elsewhere."""
    package = tmp_path / "project" / "adapruner_det"
    configs = (package if request.param == "installed" else package.parent) / "configs"
    (configs / "classification").mkdir(parents=True)
    package.mkdir(exist_ok=True)
    for name in ("a.yaml", "classification/b.yaml"):
        (configs / name).write_text("")
    monkeypatch.setattr(command, "__file__", str(package / "command.py"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return configs


def test_a_configuration_that_the_package_brings_is_found_from_anywhere(brought):
    for name in ("a.yaml", "classification/b.yaml"):
        assert config_path(f"configs/{name}") == shipped_config(name) == str(brought / name)


@pytest.mark.parametrize(
    "name", ["", "a.yaml", "configs/gone.yaml", "configs", "my/configs/a.yaml", "/configs/a.yaml"]
)
def test_any_other_name_is_left_as_it_is(brought, name):
    assert config_path(name) == name


def test_a_file_of_the_users_own_comes_first(brought):
    os.mkdir("configs")
    open("configs/a.yaml", "w").close()
    assert config_path("configs/a.yaml") == "configs/a.yaml"
    assert config_path("configs/classification/b.yaml") == str(brought / "classification/b.yaml")


# --- with_output ---------------------------------------------------------------------------------


def test_the_output_folder_is_replaced_wherever_it_stands():
    overrides = ["OUTPUT_DIR", "a", "SEED", "1", "OUTPUT_DIR", "b", "X.OUTPUT_DIR", "OUTPUT_DIR"]
    before = list(overrides)
    assert with_output(overrides, "new") == [
        *("SEED", "1", "X.OUTPUT_DIR", "OUTPUT_DIR", "OUTPUT_DIR", "new"),
    ]
    assert overrides == before
    assert with_output([], "new") == ["OUTPUT_DIR", "new"]


def test_overrides_are_left_out_by_their_keys_alone():
    pairs = ["A.B", "C", "C", "A.B", "A.B", "2", "A.BC", "3"]
    assert without(pairs, ["A.B", "X"]) == ["C", "A.B", "A.BC", "3"]
    words = ["a.b=c", "c=a.b", "+a.b=2", "a.bc=3", "~c"]
    assert without(words, ["a.b", "X"], lazy=True) == ["c=a.b", "a.bc=3", "~c"]


@pytest.mark.parametrize("running", [way[0] for way in WAYS])
def test_what_is_on_record_is_the_same_whichever_way_a_tool_is_called(monkeypatch, running):
    monkeypatch.setattr(sys, "argv", [running, "ignored"])
    assert recorded("prune_net.py", ["--config-file", "a b"], ["SEED", "1"]) == (
        "adapruner prune-net --config-file 'a b' SEED 1"
    )


def test_half_a_pair_is_not_lost_in_silence():
    with pytest.raises(ValueError, match="zip"):
        with_output(["SEED"], "new")


def output_of(overrides):
    cfg = OmegaConf.create({"train": {"output_dir": "default", "output_dir_2": ""}, "seed": 0})
    return LazyConfig.apply_overrides(cfg, overrides)


def test_the_output_folder_of_a_lazy_config_is_replaced():
    overrides = ["train.output_dir=a", "seed=1", "++train.output_dir=b", "train.output_dir_2=c"]
    words = with_output(overrides, "out/run_kept", lazy=True)
    assert words == ["seed=1", "train.output_dir_2=c", "train.output_dir=out/run_kept"]
    assert output_of(words).train == {"output_dir": "out/run_kept", "output_dir_2": "c"}


ODD = ["a b", "a(1)", "a,b", "a=b", "it's", "ü", "[x]", "{x}", "null", "True", "1e3", ".5", "-inf"]
ODD += ["1_000", "~/x", "a#b", 'a"b', "a\\", "a\\'b", "a'\\", " a ", "a:b", "x$", "-1", "nan"]


@pytest.mark.parametrize("folder", ODD)
def test_any_name_of_a_folder_reaches_a_lazy_config(folder):
    assert output_of(with_output([], folder, lazy=True)).train.output_dir == folder


@given(folder=st.text("abc01 ._/-'\"\\()[]{},=:~#eé+*?!&|;<>@%^`\t", min_size=1, max_size=8))
def test_any_text_reaches_a_lazy_config(folder):
    assert output_of(with_output([], folder, lazy=True)).train.output_dir == folder


@pytest.mark.parametrize("folder", ["out", "./a-b/c_1.d", "/abs/x", "../x", "output", "info", "1a"])
def test_a_plain_name_stays_plain(folder):
    assert with_output([], folder, lazy=True) == [f"train.output_dir={folder}"]
