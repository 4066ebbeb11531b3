import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapruner_det.cli import compare as module
from adapruner_det.cli import tasks
from adapruner_det.cli.arguments import split_overrides
from adapruner_det.cli.compare import main
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

    def make(kind, config_file, overrides, trust_pickle=False):
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


def test_a_folder_that_cannot_be_written_to_is_named_by_its_option(made, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        main(words("--num-seeds", 1, root=tmp_path / "file" / "grid"))
    assert caught.value.code == 2
    assert_one_error_line(capsys.readouterr().err, "set another --folder")


def test_it_runs_then_tabulates(made, tmp_path, capsys):
    root = tmp_path / "grid"
    arguments = words("--methods", "random", "toy_loss", "--num-seeds", 2, root=root)
    assert states(capsys, *arguments) == ["waiting"] * 12 and not root.exists()
    main(arguments)
    table, said = capsys.readouterr()
    assert table == (root / "table.md").read_text() + "\n"
    assert f"12 cells in {root}, with the log in log.txt" in said and f"are in {root}." in said
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
        module, "run_parts", lambda parts, root, **rest: grids.append((parts[0].grid, root, rest))
    )
    monkeypatch.setattr(module, "write_results", lambda root, parts: "the table")
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
    monkeypatch.setattr(module, "run_parts", lambda parts, *_, **rest: grids.append(parts[0].grid))
    options = ["--methods", "random", "adapruner[WARMUP_EPOCHS=0]", "--seeds", 3, 1]
    options += ["--budgets", "epochs", "steps", "--dynamic", "infobatch"]
    options += ["--keep-ratios", 0.9, 0.2, "SOLVER.LR", 0.1]
    main(["run", *words("--task", "classification", *options, root=tmp_path / "grid")])
    (grid,) = grids
    assert grid.methods == ("random", "adapruner[WARMUP_EPOCHS=0]")
    assert (grid.seeds, grid.keep_ratios) == ((3, 1), (0.9, 0.2))
    assert grid.budgets == ("epochs", "steps") and grid.dynamic == ("infobatch",)
    assert made == [("classification", YAML, ["SOLVER.LR", "0.1"])]


def test_the_task_that_is_named_is_made(made, tmp_path, monkeypatch):
    cfg = SimpleNamespace(ADAPRUNER=SimpleNamespace(KEEP_RATIO=0.5), OUTPUT_DIR="")
    asked = []
    monkeypatch.setattr(module, "settings", lambda *words: asked.append(words) or cfg)
    main(["list", *words("--task", "detection", "DATA.NAME", "x", root=tmp_path / "grid")])
    assert made[0] == ("detection", YAML, ["DATA.NAME", "x"])
    assert asked == [("detection", YAML, ("DATA.NAME", "x"))]


def test_pickles_are_trusted_where_it_is_said_by_each_task(tmp_path, monkeypatch):
    asked = []

    def make_task(config_file, overrides, **options):
        asked.append(options)
        return toy.make_toy(tmp_path)

    monkeypatch.setattr(tasks, "_module", lambda kind, name: SimpleNamespace(make_task=make_task))
    monkeypatch.setattr(module, "settings_of", lambda *_: None)
    for own in ([], ["--trust-pickle"]):
        main(["list", *words("--task", "detection", "--keep-ratios", 0.5, *own, root=tmp_path)])
    main(
        [
            "list",
            *words(
                "--task",
                "detection",
                "--keep-ratios",
                0.5,
                "--trust-pickle",
                "--transfer",
                YAML,
                root=tmp_path,
            ),
        ]
    )
    trust = {"trust_pickle": True}
    assert asked == [{"trust_pickle": False}, trust, trust, {}]


def test_a_model_selects_and_another_is_trained(made, tmp_path, capsys, monkeypatch):
    def make(kind, config_file, overrides, trust_pickle=False):
        made.append((kind, config_file, list(overrides)))
        folder = tmp_path / f"task{len(made) % 2}"
        folder.mkdir(exist_ok=True)
        return toy.make_toy(folder, title=f"60 points, model {len(made) % 2}")

    monkeypatch.setattr(module, "make", make)
    options = ["--transfer", YAML, "--transfer-opts", "MODEL.NAME=resnet18", "SOLVER.LR=0.2"]
    options += ["--methods", "random", "--num-seeds", 1, "--keep-ratios", 0.5, "SOLVER.LR", 0.1]
    main(words(*options, root=tmp_path / "grid"))
    assert made[:2] == [
        ("classification", YAML, ["SOLVER.LR", "0.1"]),
        (
            "classification",
            YAML,
            ["SOLVER.LR", "0.1", "MODEL.NAME", "resnet18", "SOLVER.LR", "0.2"],
        ),
    ]
    assert "# 60 points, model 0, selected by model 1" in capsys.readouterr().out
    assert not toy.calls(tmp_path / "task1") and len(toy.calls(tmp_path / "task0")) == 2


def test_overrides_of_a_lazy_transfer_stay_one_word_each(tmp_path):
    lazy = str(tmp_path / "lazy.py")
    options = ["--config-file", YAML, "--transfer", lazy, "--transfer-opts", "train.max_iter=7"]
    words, overrides = split_overrides([*options, "SOLVER.MOMENTUM", "0.8"])
    plan = module.plan_of(module._parser().parse_args(words), overrides)
    (task,) = plan.tasks
    assert task.train_overrides == ("train.max_iter=7",) and task.overrides == (
        "SOLVER.MOMENTUM",
        "0.8",
    )


PLAN = """
tasks:
  - {name: a, config_file: %s}
  - {name: b, config_file: %s, overrides: [SOLVER.LR, 0.2]}
methods: [random, toy_loss]
keep_ratios: [0.5]
seeds: [3]
folder: %s
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN % (YAML, YAML, tmp_path / "grid"))
    return path


def test_a_grid_file_is_run_and_tabulated(made, tmp_path, capsys, plan):
    main(["--grid", str(plan), "SOLVER.MOMENTUM", "0.8"])
    out = capsys.readouterr().out
    assert out.count("# a: 60 points, softmax") == out.count("# b: 60 points, softmax") == 1
    assert [own[2] for own in made[:2]] == [
        ["SOLVER.MOMENTUM", "0.8"],
        ["SOLVER.LR", "0.2", "SOLVER.MOMENTUM", "0.8"],
    ]
    root = tmp_path / "grid"
    assert (root / "accuracy-a-epochs.png").is_file() and (root / "changes.md").is_file()
    assert {call["seed"] for call in toy.calls(tmp_path)} == {3}


def test_options_come_before_what_a_grid_file_says(made, tmp_path, monkeypatch, plan):
    parts = []
    monkeypatch.setattr(module, "run_parts", lambda found, root, **_: parts.extend(found))
    main(["run", "--grid", str(plan), "--methods", "toy_thumb", "--num-seeds", "9",
          "--budgets", "steps", "--folder", str(tmp_path / "other")])  # fmt: skip
    first, second = (part.grid for part in parts)
    assert first == second and first.methods == ("toy_thumb",) and first.budgets == ("steps",)
    assert first.keep_ratios == (0.5,) and first.seeds == tuple(range(9))
    assert (tmp_path / "other").is_dir() and not (tmp_path / "grid").exists()


def test_jobs_are_submitted_in_place_of_running(made, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        module, "submit", lambda *a, **rest: asked.append((a, rest)) or ["17", "18"]
    )
    options = ["--slurm", 2, "--slurm-partition", "gpu", "--slurm-gpus", 1, "--slurm-minutes", 30]
    main(words(*options, root=tmp_path / "grid"))
    ((((part,), root, jobs), rest),) = asked
    assert (root, jobs) == (tmp_path / "grid", 2) and part.make_task().name == "toy"
    assert rest == {"slurm_partition": "gpu", "gpus_per_node": 1, "timeout_min": 30}
    assert capsys.readouterr().out.startswith("submitted 17, 18; ")
    assert not toy.calls(tmp_path)


def test_jobs_are_of_so_many_minutes_unless_it_is_said(made, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "submit", lambda *a, **rest: asked.append(rest) or [])
    main(words("--slurm", 1, root=tmp_path / "grid"))
    assert asked == [{"timeout_min": module.MINUTES}]


@pytest.mark.parametrize("action", ["list", "table"])
def test_jobs_are_not_submitted_by_what_runs_nothing(made, tmp_path, capsys, action):
    with pytest.raises(SystemExit):
        main([action, *words("--slurm", 2, root=tmp_path / "grid")])
    assert_one_error_line(capsys.readouterr().err, f"leave it out of {action}")


def test_what_failed_keeps_nothing_else_out_of_the_table(made, tmp_path, capsys):
    methods = ["--methods", "random", "toy_fails", "--keep-ratios", 0.5, "--seeds", 4]
    with pytest.raises(SystemExit) as caught:
        main(words(*methods, root=tmp_path / "grid"))
    found = capsys.readouterr()
    assert caught.value.code == 2 and "1 of 5 cells failed and 1 more were not run" in found.err
    assert "Not complete: 3 of 5 cells" in found.out and "| random" in found.out
    assert (tmp_path / "grid" / "table.md").read_text() in found.out
    with pytest.raises(SystemExit):
        main(["run", *words(*methods, root=tmp_path / "grid")])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--num-seeds", 0], "must be 1 or more"),
        (["--processes", 0], "must be 1 or more"),
        (["--slurm", 0], "must be 1 or more"),
        (["--slurm", 2, "--processes", 3], "--processes are of this machine"),
        (["--slurm-minutes", 5], "--slurm-minutes is of the jobs that --slurm JOBS submits"),
        (["--slurm-partition", "gpu"], "--slurm-partition is of the jobs"),
        (["--slurm-gpus", 1], "--slurm-gpus is of the jobs"),
        (["--slurm", 1, "--slurm-gpus", 0], "must be 1 or more"),
        (["--slurm", 1, "--slurm-minutes", -5], "must be 1 or more"),
        (["--methods", "random[ALPHA_END=1]"], "ALPHA_END has no effect on the method 'random'"),
        (["--methods", "nobody"], "no method 'nobody'"),
        (["--keep-ratios", 1.5], "(0, 1]"),
        (["--keep-ratios", 0.9, "80%"], "the keep ratio is '80%'; it must be a number in (0, 1]"),
        (["--budgets", "hours"], "no budget 'hours'"),
        (["--dynamic", "adapruner"], "no dynamic reference 'adapruner'"),
        (["--seeds", 1, 1], "each once"),
        (["SEED", 5], "SEED has no effect in a comparison: give --seeds"),
        (["--keep-ratios", 0.5, "ADAPRUNER.KEEP_RATIO", 0.7], "KEEP_RATIO has no effect beside"),
        (["--seeds", 1, "--num-seeds", 2], "give either --seeds or --num-seeds"),
        (["--folder", "other", "OUTPUT_DIR", "x"], "OUTPUT_DIR has no effect beside --grid or"),
        (["--grid", YAML], "or --grid FILE"),
        (["--transfer-opts", "SEED=1"], "overrides of what --transfer names: give that too"),
        (["--transfer", YAML, "--transfer-opts", "SEED", 1], "has 'SEED'; its words are KEY=VALUE"),
        (["--transfer", YAML, "--transfer-opts", "SEED=1"], "SEED has no effect in a comparison"),
        (["--transfer", YAML, "--transfer-opts", "OUTPUT_DIR=x"], "OUTPUT_DIR has no effect for"),
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


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["train.max_iter=5", "train.seed=3"], "train.seed has no effect in a comparison"),
        (["--keep-ratios", "0.5", "+ADAPRUNER.KEEP_RATIO=0.7"], "KEEP_RATIO has no effect beside"),
        (["--folder", "other", "train.output_dir=x"], "train.output_dir has no effect beside"),
        (["--transfer", "b.py", "--transfer-opts", "train.seed=3"], "train.seed has no effect"),
    ],
)
def test_overrides_of_a_lazy_config_that_have_no_effect_are_refused(options, part):
    words, overrides = split_overrides(["--config-file", "a.py", *options])
    args = module._parser().parse_args(words)
    with pytest.raises(DataError, match=re.escape(part)):
        module.plan_of(args, (*args.opts, *overrides))


def test_an_action_that_is_none_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["lst", "--config-file", YAML])
    assert_one_error_line(capsys.readouterr().err, "'lst' is no action; there are list, run, table")


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
