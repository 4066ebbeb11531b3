import json
import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from tqdm.contrib.logging import logging_redirect_tqdm

from adapruner_det.cli import compare as module
from adapruner_det.cli.compare import guess_task, main, split_overrides
from adapruner_det.errors import DataError
from adapruner_det.methods import method_names
from tests.experiment import toy
from tests.tools.running import assert_one_error_line

ROOT = Path(__file__).resolve().parents[2]
YAML = str(ROOT / "configs" / "classification" / "digits.yaml")


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The toy in place of a real task; what it was asked for."""
    asked = []

    def make(kind, config_file, overrides):
        asked.append((kind, config_file, list(overrides)))
        return toy.make_toy(tmp_path)

    monkeypatch.setattr(module, "make", make)
    monkeypatch.setattr(module, "log_to", lambda path: None)
    yield asked
    toy.forget_methods()


def words(*options, root):
    return ["--config-file", YAML, "--folder", str(root), *map(str, options)]


def states(capsys, *arguments):
    main(["list", *arguments])
    return [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()]


def test_it_runs_then_tabulates(made, tmp_path, capsys):
    root = tmp_path / "grid"
    arguments = words("--methods", "random", "toy_loss", "--num-seeds", 2, root=root)
    assert states(capsys, *arguments) == ["waiting"] * 12 and not root.exists()
    main(arguments)
    table = capsys.readouterr().out
    assert table == (root / "table.md").read_text() + "\n"
    assert "# 60 points, softmax" in table and "| toy_loss" in table and "seeds 0, 1." in table
    assert states(capsys, *arguments) == ["done"] * 12
    found = json.loads((root / "cells.json").read_text())
    assert len(found) == 12 and found[0]["config"]["method"] == "full"
    assert found[0]["result"]["metric"] == "accuracy"
    assert {name for name, *_ in made} == {"classification"}


def test_each_word_does_its_part(made, tmp_path, capsys):
    root = tmp_path / "grid"
    arguments = words("--methods", "random", "--seeds", 4, "--keep-ratios", 0.5, root=root)
    main(["table", *arguments])
    assert "Not complete: 0 of 3 cells" in capsys.readouterr().out and not toy.calls(tmp_path)
    main(["run", *arguments])
    assert capsys.readouterr().out == "" and [c["seed"] for c in toy.calls(tmp_path)] == [4, 4]
    main(["table", *arguments])
    assert "| random" in capsys.readouterr().out and len(toy.calls(tmp_path)) == 2


def test_defaults_are_those_of_the_configuration(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        module, "run", lambda grid, make, root, **rest: grids.append((grid, root, rest))
    )
    monkeypatch.setattr(module, "write_results", lambda board, task: "the table")
    grids = []
    out = str(tmp_path / "out")
    opts = ["ADAPRUNER.KEEP_RATIO", "0.35", "OUTPUT_DIR", out]
    main(["--config-file", YAML, "--processes", "3", *opts])
    ((grid, root, rest),) = grids
    assert (grid.methods, grid.keep_ratios) == (("random", "adapruner"), (0.35,))
    assert (grid.seeds, grid.budgets, root) == ((0, 1, 2), ("epochs",), Path(out))
    assert rest["processes"] == 3
    assert made == [("classification", YAML, opts)]


def test_what_is_given_is_taken(made, tmp_path, monkeypatch):
    grids = []
    monkeypatch.setattr(module, "run", lambda grid, make, root, **rest: grids.append(grid))
    options = ["--methods", "random", "adapruner[WARMUP_EPOCHS=0]", "--seeds", 3, 1]
    options += ["--budgets", "epochs", "steps", "--keep-ratios", 0.9, 0.2, "SOLVER.LR", 0.1]
    main(["run", *words("--task", "classification", *options, root=tmp_path / "grid")])
    (grid,) = grids
    assert grid.methods == ("random", "adapruner[WARMUP_EPOCHS=0]")
    assert (grid.seeds, grid.keep_ratios) == ((3, 1), (0.9, 0.2))
    assert grid.budgets == ("epochs", "steps")
    assert made == [("classification", YAML, ["SOLVER.LR", "0.1"])]


def test_the_task_that_is_named_is_made(made, tmp_path, monkeypatch):
    cfg = SimpleNamespace(ADAPRUNER=SimpleNamespace(KEEP_RATIO=0.5), OUTPUT_DIR="")
    asked = []
    monkeypatch.setattr(module, "settings", lambda *words: asked.append(words) or cfg)
    main(["list", *words("--task", "detection", "DATA.NAME", "x", root=tmp_path / "grid")])
    assert made[0] == ("detection", YAML, ["DATA.NAME", "x"])
    assert asked == [("detection", YAML, ["DATA.NAME", "x"])]


def test_jobs_are_submitted_in_place_of_running(made, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        module, "submit", lambda *a, **rest: asked.append((a, rest)) or ["17", "18"]
    )
    options = ["--slurm", 2, "--slurm-partition", "gpu", "--slurm-gpus", 1, "--slurm-minutes", 30]
    main(words(*options, root=tmp_path / "grid"))
    (((_, make, root, jobs), rest),) = asked
    assert (root, jobs) == (tmp_path / "grid", 2) and make().name == "toy"
    assert rest == {"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 30}
    assert capsys.readouterr().out.startswith("submitted 17, 18; ")
    assert not toy.calls(tmp_path)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--num-seeds", 0], "must be 1 or more"),
        (["--processes", 0], "must be 1 or more"),
        (["--slurm", 0], "must be 1 or more"),
        (["--methods", "nobody"], "no method 'nobody'"),
        (["--keep-ratios", 1.5], "(0, 1]"),
        (["--budgets", "hours"], "no budget 'hours'"),
        (["--seeds", 1, 1], "each once"),
    ],
)
def test_what_cannot_be_compared_is_one_line_before_anything_is_written(
    made, tmp_path, capsys, options, part
):
    with pytest.raises(SystemExit) as caught:
        main(words(*options, root=tmp_path / "grid"))
    assert caught.value.code == 2
    assert_one_error_line(capsys.readouterr().err, part)
    assert not (tmp_path / "grid").exists()


def test_a_configuration_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--config-file", str(tmp_path / "gone.yaml")])
    assert_one_error_line(capsys.readouterr().err, "no configuration file")


def test_the_help_lists_the_methods(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = "".join(capsys.readouterr().out.split())  # a line may end at any hyphen
    assert f"of{','.join(method_names())};default:randomadapruner" in listed


def test_failures_are_one_line_after_all_others_are_done(made, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(words("--methods", "random", "toy_fails", "--num-seeds", 1, root=tmp_path / "grid"))
    assert_one_error_line(capsys.readouterr().err, "1 of 5 cells failed and 1 more were not run")
    assert len(toy.calls(tmp_path)) == 2


CONFIGS = [p for p in (ROOT / "configs").rglob("*.yaml") if not p.name.startswith("base_")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_task_is_guessed_from_the_configuration(path):
    expected = "classification" if path.parent.name == "classification" else "detection"
    assert guess_task(str(path)) == expected


def test_the_task_is_guessed_from_overrides_and_what_a_yaml_is_based_on(tmp_path):
    (tmp_path / "empty.yaml").write_text("VERSION: 2\n")
    (tmp_path / "base.yaml").write_text("DATA: {NAME: digits}\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nSEED: 1\n")
    (tmp_path / "lazy.py").write_text("raise AssertionError\n")
    guess = partial(guess_task, str(tmp_path / "empty.yaml"))
    assert (guess(), guess(["DATASETS.TRAIN", "DATA.x"])) == ("detection", "detection")
    assert guess(["SEED", "1", "DATA.NAME", "digits"]) == "classification"
    assert guess_task(str(tmp_path / "own.yaml")) == "classification"
    assert guess_task(str(tmp_path / "lazy.py"), ["DATA.x=1"]) == "detection"
    with pytest.raises(DataError, match="no configuration file"):
        guess_task(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("text", "own", "overrides"),
    [
        ("", "", ""),
        ("--seeds 0 1", "--seeds 0 1", ""),
        ("--seeds 0 1 SEED 3", "--seeds 0 1", "SEED 3"),
        ("--methods random A.B_C 3 x", "--methods random", "A.B_C 3 x"),
        ("--methods random adapruner[A=0]", "--methods random adapruner[A=0]", ""),
        ("--folder OUT --seeds 1", "--folder OUT --seeds 1", ""),
        ("--seeds 1 train.max_iter=7", "--seeds 1", "train.max_iter=7"),
        ("--seeds 1 -- a b", "--seeds 1", "a b"),
    ],
)
def test_options_of_several_words_leave_the_overrides(text, own, overrides):
    assert split_overrides(text.split()) == (own.split(), overrides.split())


@pytest.mark.parametrize("beside_a_bar", [False, True])
def test_logs_go_to_a_file_and_warnings_to_the_terminal_too(
    beside_a_bar, tmp_path, monkeypatch, capsys
):
    root = logging.Logger("of this test")
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging, "captureWarnings", lambda on: None)
    module.log_to(tmp_path / "log.txt")
    with logging_redirect_tqdm() if beside_a_bar else nullcontext():
        root.info("one")
        root.warning("two")
    err = capsys.readouterr().err
    assert "two" in err and "one" not in err
    text = (tmp_path / "log.txt").read_text()
    assert "INFO: one" in text and "WARNING: two" in text
