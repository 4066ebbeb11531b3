"""The command `adapruner`: its list, its sub-commands, and the three ways to call each."""

import ast
import importlib
import os
import pickle
import runpy
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from adapruner_det import cli
from adapruner_det.command import SHARED
from adapruner_det.errors import DataError
from tests.tools.running import ROOT, assert_one_error_line, run_apart

#: Files of tools/ that are none of the command's: they need the checkout, or run before anything is
#: installed.
NO_SUB_COMMAND = {"demo", "install_detectron2", "detectron2_stub"}
MODULES = [name.replace("-", "_") for name in cli.NAMES]

#: As pip writes it into bin/ for the entry point.
SCRIPT = f"#!{sys.executable}\nimport sys\nfrom adapruner_det.cli import main\nsys.exit(main())\n"


def refused(capsys, *words):
    """The error line of the command with ``words``, which is all that it prints."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


# --- the list ------------------------------------------------------------------------------------


def test_every_tool_is_a_sub_command_and_every_sub_command_a_tool():
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")} - NO_SUB_COMMAND
    modules = {path.stem for path in (ROOT / "adapruner_det/cli").glob("[!_]*.py")}
    assert tools == {*MODULES} == modules - {*SHARED, "demo"}
    assert len(cli.NAMES) == len({*cli.NAMES})


@pytest.mark.parametrize("flag", ["-h", "--help", "help"])
def test_help_lists_every_sub_command_with_the_line_that_its_module_begins_with(capsys, flag):
    cli.main([flag])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    for name, module in zip(cli.NAMES, MODULES, strict=True):
        (line,) = (line for line in lines if line.split()[:1] == [name])
        doc = importlib.import_module(f"adapruner_det.cli.{module}").__doc__.splitlines()[0]
        assert line.split(None, 1)[1] == doc
        assert doc.endswith(".") and len(doc) > 20


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["prune"], []])
def test_it_answers_without_waiting_for_a_library(words):
    code = (
        "import sys\nfrom adapruner_det.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('torch', 'detectron2', 'numpy', 'PIL', 'yaml') if n in sys.modules])\n"
    )
    found = run_apart("-c", code, *words)
    assert found.returncode == 0 and found.stdout.splitlines()[-1] == "[]"


def test_the_version_line_names_what_runs(capsys, monkeypatch):
    known = {"adapruner-det": "1.2.3", "torch": "4.5"}

    def version(name):
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(cli, "version", version)
    monkeypatch.setattr(cli.platform, "python_version", lambda: "3.77.1")
    cli.main(["--version"])
    expected = "adapruner-det 1.2.3 (Python 3.77.1, torch 4.5, detectron2 not installed)\n"
    assert capsys.readouterr().out == expected
    known.clear()
    cli.main(["-V"])
    assert capsys.readouterr().out.startswith("adapruner-det not installed (")


# --- which sub-command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["the sub-command is missing; there are prune-net, train-pruned,"]),
        (["prune"], ["no sub-command 'prune'; did you mean prune-", "prune-net, train-pruned"]),
        (["train-prune"], ["'train-prune'; did you mean train-pruned? "]),
        (["--resume"], ["there is no sub-command '--resume'"]),
        (["arguments"], ["there is no sub-command 'arguments'"]),
        (["tasks"], ["there is no sub-command 'tasks'"]),
        (["demo"], ["there is no sub-command 'demo'"]),
        (["\x1b[31m"], ["no sub-command '\\x1b[31m'; there are"]),
    ],
)
def test_what_is_no_sub_command_is_one_line_with_those_that_are(capsys, words, parts):
    err = refused(capsys, *words)
    assert_one_error_line(err, *parts, "`adapruner --help`")


def test_without_words_it_takes_those_of_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["adapruner", "nothing"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "'nothing'" in capsys.readouterr().err
    cli.main(["--version"])  # and none of them otherwise
    assert "adapruner-det" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train-cls", "train_cls", "train_cls.py"])
def test_the_rest_of_the_words_goes_to_the_sub_command(monkeypatch, name):
    calls = []
    monkeypatch.setattr("adapruner_det.cli.train_cls.main", calls.append)
    cli.main([name, "--selection", "s.json", "A", "--help"])
    assert calls == [["--selection", "s.json", "A", "--help"]]


def test_an_error_of_a_sub_command_is_its_own(capsys):
    err = refused(capsys, "cut", "--selection", "none.json", "--keep-ratio", "0.5")
    assert_one_error_line(err, "there is no selection at none.json")


@pytest.mark.parametrize("missing", ["detectron2", "detectron2.engine"])
def test_without_detectron2_what_needs_it_says_so_in_one_line(monkeypatch, missing):
    def absent(*_):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli, "import_module", absent)
    with pytest.raises(DataError, match="prune-net needs Detectron2, which is not .*pip install"):
        cli.command("prune-net")


def test_another_module_that_is_missing_is_not_hidden(monkeypatch):
    def absent(*_):
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(cli, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match="'x'"):
        cli.command("prune-net")


# --- three ways to call one ----------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("way", ["tools/{}.py", "bin/adapruner", "adapruner_det/__main__.py"])
def test_its_help_names_it_as_it_was_called(capsys, monkeypatch, module, way):
    monkeypatch.setattr(sys, "argv", [way.format(module)])
    name = module.replace("_", "-")
    called = {
        "tools/{}.py": f"tools/{module}.py",
        "bin/adapruner": f"adapruner {name}",
        "adapruner_det/__main__.py": f"python -m adapruner_det {name}",
    }[way]
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"usage: {called} [-h]")
    assert cli.summary(name) in out
    examples = out.split(cli.summary(name))[1]
    assert called in examples
    if way != "bin/adapruner":
        assert f"{cli.SCRIPT} {name}" not in examples.replace(called, "")


@pytest.mark.parametrize("module", [*MODULES, "demo"])
def test_a_file_of_tools_calls_its_module_when_it_is_run_and_not_when_it_is_imported(
    monkeypatch, module
):
    """A process that is spawned imports it under another name."""
    calls = []
    monkeypatch.setattr(f"adapruner_det.cli.{module}.main", lambda *a: calls.append(a))
    file = str(ROOT / "tools" / f"{module}.py")
    runpy.run_path(file, run_name="__mp_main__")
    assert calls == []
    runpy.run_path(file, run_name="__main__")
    assert calls == [(file,) if module == "demo" else ()]
    assert os.access(file, os.X_OK)


@pytest.mark.parametrize("module", [*MODULES, "demo"])
def test_a_file_of_tools_says_what_its_module_says(module):
    doc = ast.get_docstring(ast.parse((ROOT / "tools" / f"{module}.py").read_text()))
    assert doc == importlib.import_module(f"adapruner_det.cli.{module}").__doc__.splitlines()[0]


@pytest.mark.parametrize("module", ["prune_net.prune", "train_pruned.train"])
def test_what_each_process_of_a_run_does_can_be_sent_to_it(module):
    name, _, function = module.partition(".")
    target = getattr(importlib.import_module(f"adapruner_det.cli.{name}"), function)
    assert pickle.loads(pickle.dumps(target)) is target
    assert target.__module__ == f"adapruner_det.cli.{name}"  # and not __main__


DETECTION = "configs/own_yolov3tiny.yaml"
CLASSIFICATION = "configs/classification/digits.yaml"


@pytest.mark.parametrize(
    "words",
    [
        ["prune-net", "--config-file", DETECTION],
        ["train-pruned", "--config-file", DETECTION],
        ["check-data", "--config-file", DETECTION],
        ["anchors", "--config-file", DETECTION],
        ["prune-cls", "--config-file", CLASSIFICATION],
        ["train-cls", "--config-file", CLASSIFICATION],
        ["compare", "--config-file", DETECTION],
        ["compare", "--config-file", CLASSIFICATION],
        ["transfer-cls", "--config-file", CLASSIFICATION, "--target-config-file", CLASSIFICATION],
    ],
    ids=lambda words: words[0],
)
def test_it_finds_the_configurations_of_the_package_from_any_folder(
    capsys, monkeypatch, tmp_path, words
):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, *words, "NO_SUCH_KEY", "1")
    assert_one_error_line(err, "NO_SUCH_KEY")  # which is looked at once the file is read
    gone = [word.replace("configs/", "configs/gone_") for word in words]
    assert_one_error_line(refused(capsys, *gone), "no configuration file", "gone_")


@pytest.fixture
def ways(tmp_path, monkeypatch):
    """The first words of each way, from a folder ``here`` that is not the checkout's."""
    script = tmp_path / "bin" / "adapruner"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(script.parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "here").mkdir()
    return {
        "script": ["adapruner", "{}"],
        "module": [sys.executable, "-m", "adapruner_det", "{}"],
        "tool": [sys.executable, str(ROOT / "tools/{}.py")],
    }


def started(words, name, here, *arguments):
    words = [word.format(name if "tools" not in word else name.replace("-", "_")) for word in words]
    return subprocess.run(
        [*words, *map(str, arguments)], cwd=here, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "module", "tool"])
def test_the_line_that_it_ends_with_goes_on_in_the_same_way(ways, tmp_path, way):
    here = tmp_path / "here"
    quick = ["MODEL.WIDTH", 4, "DATA.NUM_TRAIN", 300, "SOLVER.EPOCHS", 3, "DEVICE", "cpu"]
    quick += ["ADAPRUNER.WARMUP_EPOCHS", 1, "OUTPUT_DIR", "it's out"]
    pruned = started(ways[way], "prune-cls", here, *quick)
    assert pruned.returncode == 0, pruned.stderr
    line = pruned.stdout.strip().splitlines()[-1].removeprefix("train on it").strip()
    begins = {"script": ["adapruner", "train-cls"], "module": ["-m", "adapruner_det", "train-cls"]}
    expected = begins.get(way, [str(ROOT / "tools/train_cls.py")])
    words = shlex.split(line)
    assert words[way != "script" :][: len(expected)] == expected
    done = subprocess.run(line, shell=True, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "after 3 epochs of 270 images" in done.stdout
    assert (here / "it's out_kept" / "result.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "module", "tool"])
def test_an_error_is_one_line_and_2_in_every_way(ways, tmp_path, way):
    here = tmp_path / "here"
    found = started(ways[way], "cut", here, "--selection", "none.json", "--keep-ratio", 0.5)
    assert (found.returncode, found.stdout) == (2, "")
    assert_one_error_line(found.stderr, "there is no selection at none.json")
