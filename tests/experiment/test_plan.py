from pathlib import Path

import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment.plan import TaskPlan, read_plan

ROOT = Path(__file__).resolve().parents[2]
GRIDS = sorted((ROOT / "configs" / "grids").glob("*.yaml"))

FULL = """
tasks:
  - {name: one, config_file: own.yaml, overrides: [SOLVER.LR, 0.1, DATA.DOWNLOAD, true]}
  - {config_file: configs/classification/digits.yaml, train_on: own.yaml,
     train_overrides: [MODEL.NAME, resnet18]}
methods: [random, 'adapruner[WARMUP_EPOCHS=0]']
keep_ratios: [0.9, 1]
seeds: [0, 3]
budgets: [epochs, steps]
dynamic: [infobatch]
folder: somewhere
"""


@pytest.fixture
def plan_of(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("SEED: 1\n")
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "plan.yaml").write_text(text)
        return read_plan(tmp_path / "plan.yaml")

    return read


def test_all_that_it_says_is_taken(plan_of, tmp_path):
    plan = plan_of(FULL)
    own = str(tmp_path / "own.yaml")
    first, second = plan.tasks
    assert first == TaskPlan(own, "one", ("SOLVER.LR", "0.1", "DATA.DOWNLOAD", "True"))
    assert Path(second.config_file).samefile(ROOT / "configs/classification/digits.yaml")
    assert (second.name, second.train_on) == ("digits", own)
    assert second.train_overrides == ("MODEL.NAME", "resnet18")
    assert plan.methods == ("random", "adapruner[WARMUP_EPOCHS=0]")
    assert plan.keep_ratios == (0.9, 1.0) and plan.seeds == (0, 3)
    assert plan.budgets == ("epochs", "steps") and plan.folder == "somewhere"
    assert plan.dynamic == ("infobatch",)


def test_what_it_leaves_out_is_empty_and_the_folder_is_named_after_it(plan_of):
    plan = plan_of("tasks: [{config_file: own.yaml}]")
    assert plan.methods == plan.keep_ratios == plan.seeds == plan.budgets == plan.dynamic == ()
    assert plan.folder == "output/plan" and plan.tasks[0].train_on == ""


def test_what_is_trained_on_stands_once_for_all_tasks(plan_of, tmp_path):
    plan = plan_of(
        "tasks: [{config_file: own.yaml}, {config_file: own.yaml, name: b, "
        "train_on: configs/x.yaml}]\ntrain_on: own.yaml\ntrain_overrides: [SEED, 3]"
    )
    own = str(tmp_path / "own.yaml")
    assert [task.train_on for task in plan.tasks] == [own, "configs/x.yaml"]
    assert [task.train_overrides for task in plan.tasks] == [("SEED", "3"), ()]


def test_overrides_alone_train_the_same_configuration_with_them(plan_of, tmp_path):
    plan = plan_of(
        "tasks: [{config_file: own.yaml, train_overrides: [MODEL.NAME, x]}]\n"
        "train_on: own.yaml\ntrain_overrides: [SEED, 3]"
    )
    (task,) = plan.tasks
    assert (task.train_on, task.train_overrides) == (
        str(tmp_path / "own.yaml"),
        ("MODEL.NAME", "x"),
    )
    plan = plan_of("tasks: [{config_file: own.yaml, train_overrides: [SEED, 3]}]")
    assert plan.tasks[0].train_on == str(tmp_path / "own.yaml")


def test_a_name_can_be_that_of_a_file(plan_of):
    plan = plan_of("tasks: [{config_file: own.yaml, name: 'a b/../c'}]")
    assert plan.tasks[0].name == "a_b_.._c"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("methods: [random]", "`tasks` must be a list"),
        ("tasks: []", "`tasks` must be a list"),
        ("tasks: own.yaml", "`tasks` must be a list"),
        ("tasks: [own.yaml]", "task 1 has no config_file"),
        ("tasks: [{config_file: own.yaml}, {name: x}]", "task 2 has no config_file"),
        ("tasks: [{config_file: 3}]", "task 1 has no config_file"),
        ("tasks: [{config_file: own.yaml, ratio: 3}]", "task 1 has ratio; there are config_file"),
        ("tasks: [{config_file: own.yaml}]\nmethod: x", "plan.yaml has method; there are tasks"),
        ("tasks: [{config_file: own.yaml}]\nseeds: [a]", "seeds is ['a']; it must be a list of wh"),
        ("tasks: [{config_file: own.yaml}]\nseeds: [true]", "must be a list of whole numbers"),
        ("tasks: [{config_file: own.yaml}]\nkeep_ratios: [x]", "must be a list of numbers"),
        ("tasks: [{config_file: own.yaml}]\nmethods: [1]", "must be a list of words"),
        ("tasks: [{config_file: own.yaml}]\nfolder: [x]", "folder is ['x']; it must be a word"),
        ("tasks: [{config_file: own.yaml, overrides: SEED}]", "must be a list of KEY, VALUE"),
        ("tasks: [{config_file: own.yaml, overrides: [{SEED: 1}]}]", "a list of KEY, VALUE"),
        ("tasks: [{config_file: own.yaml}, {config_file: own.yaml}]", "called own, own"),
        ("tasks: [", "is not valid"),
    ],
)
def test_what_is_of_another_form_is_said_in_one_line(plan_of, text, part):
    with pytest.raises(DataError) as caught:
        plan_of(text)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_one_value_stands_for_a_list_of_it(plan_of):
    plan = plan_of("tasks: [{config_file: own.yaml}]\nkeep_ratios: 0.5\nmethods: random")
    assert plan.keep_ratios == (0.5,) and plan.methods == ("random",)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no configuration file"):
        read_plan(tmp_path / "gone.yaml")


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_those_that_come_along_can_be_read_and_name_files(path):
    plan = read_plan(path)
    for task in plan.tasks:
        for name in filter(None, (task.config_file, task.train_on)):
            assert Path(name).is_file()


@pytest.mark.parametrize("name", ["methods", "keep_ratios", "seeds", "budgets"])
def test_an_empty_list_is_not_a_default(plan_of, name):
    with pytest.raises(DataError, match=f": {name} is empty; give one or more, or leave it out"):
        plan_of(f"tasks: [config_file: own.yaml]\n{name}: []")
