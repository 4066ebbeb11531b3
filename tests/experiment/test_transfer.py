from functools import partial

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment.board import Part, board_of, rows_of, selection_of
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.running import run, run_parts
from adapruner_det.experiment.transfer import Transfer, chooser_of, learner_of
from tests.experiment.toy import EPOCHS, Half, N, calls, make_samples, make_toy

GRID = Grid(("random", "toy_loss", "toy_guided"), (0.7, 0.4))


def make_other(folder, **settings):
    """Another model on the same samples, whose data point elsewhere."""
    task = make_toy(folder, identity="toy-2", title="60 points, other", **settings)
    task.x, task.test_x = task.x[:, ::-1].copy(), task.test_x[:, ::-1].copy()
    return task


def make_both(folder):
    chooser, learner = folder / "chooser", folder / "learner"
    for own in (chooser, learner):
        own.mkdir(exist_ok=True)
    return Transfer(make_toy(chooser), make_other(learner))


def test_one_model_selects_and_the_other_is_trained(tmp_path):
    run(GRID, partial(make_both, tmp_path), tmp_path / "grid")
    chose = [call["cell"].split("-")[0] for call in calls(tmp_path / "chooser")]
    learnt = [call["cell"].split("-")[0] for call in calls(tmp_path / "learner")]
    assert sorted(chose) == ["record", "select", "select"]
    assert learnt == ["train"] * 7


def test_a_dynamic_reference_is_of_the_model_that_is_trained(tmp_path):
    run(Grid(("random",), (0.7,), dynamic=("infobatch",)), partial(make_both, tmp_path), tmp_path)
    learnt = [call["cell"] for call in calls(tmp_path / "learner")]
    assert sum("infobatch" in cell for cell in learnt) == 1
    assert not calls(tmp_path / "chooser")


def test_its_selections_are_those_of_the_model_alone_and_are_shared_with_it(tmp_path):
    root = tmp_path / "grid"
    alone = Part(GRID, partial(make_toy, tmp_path))
    both = Part(GRID, partial(make_both, tmp_path))
    run_parts([alone], root)
    run_parts([both], root)
    assert not calls(tmp_path / "chooser")  # what it would select is there
    assert len(calls(tmp_path / "learner")) == 7
    tasks = [alone.make_task(), both.make_task()]
    kept = [
        [selection_of(c, root, 0.4).kept_keys for c in board_of([p], [t], root)[0].cells
         if c.kind == "select" and c.keep_ratio in (None, 0.4)]
        for p, t in zip((alone, both), tasks, strict=True)
    ]  # fmt: skip
    assert kept[0] == kept[1] and len(kept[0]) == 3
    values = [
        [row.value for row in rows_of(board_of([p], [t], root)[0])]
        for p, t in zip((alone, both), tasks, strict=True)
    ]
    assert len(values[0]) == len(values[1]) == 7 and values[0] != values[1]


def test_each_of_several_parts_is_run_on_its_own_task(tmp_path):
    parts = [Part(GRID, partial(make_toy, tmp_path)), Part(GRID, partial(make_both, tmp_path))]
    run_parts(parts, tmp_path / "grid")
    assert len(calls(tmp_path)) == 1 + 2 + 7  # recorded, guided, trained
    assert not calls(tmp_path / "chooser") and len(calls(tmp_path / "learner")) == 7


def test_trainings_of_a_model_that_another_selects_for_are_cells_of_their_own(tmp_path):
    both = make_both(tmp_path)
    of = [cells(GRID, task) for task in (both.chooser, both.learner, both)]
    names = [{(c.kind, c.method): c.name for c in own} for own in of]
    assert names[2]["train", "full"] == names[1]["train", "full"] != names[0]["train", "full"]
    assert names[2]["select", "random"] == names[0]["select", "random"]
    assert names[2]["record", ""] == names[0]["record", ""]
    assert len({own["train", "random"] for own in names}) == 3


def test_it_is_a_task_of_both(tmp_path):
    both = make_both(tmp_path)
    assert both.title == "60 points, other, selected by softmax"
    assert both.signals == both.chooser.signals and both.offers == both.chooser.offers
    assert both.identity not in ("toy-1", "toy-2") and len(both.samples) == N
    assert chooser_of(both) is both.chooser and learner_of(both) is both.learner
    assert chooser_of(both.chooser) is learner_of(both.chooser) is both.chooser
    guided = both.train(0, tmp_path / "a" / "run", guide=Half())
    plain = both.train(0, tmp_path / "b" / "run")
    assert guided.epochs == plain.epochs == EPOCHS
    assert (len(calls(tmp_path / "chooser")), len(calls(tmp_path / "learner"))) == (1, 1)
    expected = both.chooser.features(tmp_path / "a" / "run")
    np.testing.assert_array_equal(both.features(tmp_path / "a" / "run"), expected)
    assert both.predictions(tmp_path / "a" / "run").shape == (N, 3)


def test_either_model_and_their_order_make_another_task(tmp_path):
    one, other = make_toy(tmp_path), make_other(tmp_path)
    third = make_toy(tmp_path, identity="toy-3")
    pairs = [(one, other), (other, one), (third, other), (one, third)]
    assert len({Transfer(*pair).identity for pair in pairs}) == 4


def test_tasks_of_other_samples_or_of_another_kind_are_refused(tmp_path):
    samples = make_samples()
    samples.datasets["toy"] = "0" * 64
    with pytest.raises(DataError, match="60 samples and the one that is trained has 60, and they"):
        Transfer(make_toy(tmp_path), make_toy(tmp_path, samples=samples))
    with pytest.raises(DataError, match="by a model for toy cannot be .* one for detection"):
        Transfer(make_toy(tmp_path), make_toy(tmp_path, name="detection"))


@pytest.mark.slow
def test_processes_side_by_side_share_all_parts(tmp_path):
    root = tmp_path / "grid"
    parts = [Part(GRID, partial(make_toy, tmp_path)), Part(GRID, partial(make_both, tmp_path))]
    run_parts(parts, root, processes=2)
    board, tasks = board_of(parts, [part.make_task() for part in parts], root)
    assert not board.left() and len(board.cells) == len(tasks) == 1 + 1 + 4 + 6 + 1 + 6
    trained = [
        call["cell"] for own in (".", "chooser", "learner") for call in calls(tmp_path / own)
    ]
    assert len(trained) == len(set(trained))
