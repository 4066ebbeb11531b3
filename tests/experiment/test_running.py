import logging
import os
import signal
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment import running as module
from adapruner_det.experiment.board import rows_of
from adapruner_det.experiment.cells import DONE, FAILED, claim, write_done
from adapruner_det.experiment.evidence import TaskEvidence, record
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.running import run
from adapruner_det.experiment.tables import report
from adapruner_det.files import FolderInUse
from adapruner_det.methods import base
from adapruner_det.methods.base import Choice, Method, get_dynamic, select
from adapruner_det.stopping import Stopped
from tests.experiment.toy import EPOCHS, SMALL, N, board_of, calls, cell_of, limited, values_of

pytestmark = pytest.mark.usefixtures("no_endless_loop")


def test_a_dynamic_reference_trains_under_its_guide_and_is_no_method(make, root):
    grid = replace(SMALL, dynamic=("infobatch",))
    run(grid, make, root)
    rows = {row.method: row for row in rows_of(board_of(grid, make, root))}
    assert rows["infobatch"].dynamic and not rows["random"].dynamic and not rows["full"].dynamic
    assert rows["infobatch"].select_seconds == 0.0 and rows["infobatch"].keep_ratio == 1.0
    assert 0.5 * N < rows["infobatch"].images < N == rows["full"].images
    task, guide = make(), get_dynamic("infobatch")(N, EPOCHS, 0)
    expected = task.train(0, root / "alone", guide=guide)
    assert rows["infobatch"].value == expected.value and rows["infobatch"].images == guide.images
    text = report(list(rows.values()), "t", "accuracy", 5, 5)
    assert "| infobatch (dynamic) |" in text and "infobatch at" not in text
    assert values_of(SMALL, make, root).keys() == {
        *(("full", 1.0, 0), ("random", 0.7, 0), ("random", 0.4, 0))
    }


def test_a_grid_gives_what_the_same_calls_by_hand_give(make, root, tmp_path):
    grid = Grid(("random", "toy_loss", "toy_guided[ALPHA_END=2]"), (0.7, 0.4), (3,))
    run(grid, make, root)
    task = make()
    run_recorded = record(task, 3, tmp_path / "by hand", ["loss"])
    evidence = TaskEvidence(
        task,
        3,
        tmp_path / "own",
        options={"ALPHA_END": 2.0},
        places={"loss": tmp_path / "by hand"},
    )
    expected = {("full", 1.0, 3): run_recorded.value}
    for name in ("random", "toy_loss", "toy_guided"):
        for ratio in (0.7, 0.4):
            kept = select(name, evidence, ratio)
            assert kept.num_kept == round(ratio * N)
            trained = task.train(3, tmp_path / f"{name}{ratio}" / "run", kept=kept)
            label = "toy_guided[ALPHA_END=2.0]" if name == "toy_guided" else name
            expected[label, ratio, 3] = trained.value
    assert values_of(grid, make, root) == expected
    assert len(set(expected.values())) > 3


def test_a_part_is_trained_on_for_the_budget(make, root):
    run(Grid(("random",), (0.5,), budgets=("epochs", "steps")), make, root)
    done = [board_of(Grid(("random",), (0.5,), budgets=("epochs", "steps")), make, root)]
    found = {
        c.budget: done[0].result(c) for c in done[0].cells if c.method == "random" and c.budget
    }
    assert (found["epochs"]["epochs"], found["steps"]["epochs"]) == (EPOCHS, 2 * EPOCHS)
    assert found["steps"]["images"] == N // 2


def test_what_is_done_is_not_done_again(make, root, tmp_path):
    run(SMALL, make, root)
    before = calls(tmp_path)
    assert len(before) == 3 and len({call["cell"] for call in before}) == 3
    run(SMALL, make, root)
    assert calls(tmp_path) == before
    run(Grid(("random",), (0.7, 0.4, 0.2)), make, root)
    assert [call["cell"][:16] for call in calls(tmp_path)[3:]] == ["train-random-0.2"]


def test_where_nothing_is_left_no_process_is_started(make, root, monkeypatch):
    run(SMALL, make, root)
    monkeypatch.setattr(module, "get_context", None)
    run(SMALL, make, root, processes=2)


def test_one_recorded_training_serves_all_methods_and_ratios_of_a_seed(make, root, tmp_path):
    grid = Grid(("toy_loss", "toy_margin"), (0.7, 0.4), (0, 1))
    run(grid, make, root)
    trained = [call["cell"].split("-")[0] for call in calls(tmp_path)]
    assert trained.count("record") == 2 and trained.count("select") == 0
    assert len(trained) == 2 + 2 + 2 * 2 * 2
    board = board_of(grid, make, root)
    recorded = {c.seed: board.result(c)["seconds"] for c in board.cells if c.kind == "record"}
    for row, cell in zip(
        rows_of(board), (c for c in board.cells if c.kind == "train"), strict=True
    ):
        own = board.result(cell.needs[0])["seconds"] if cell.needs else 0
        assert row.select_seconds == own + (recorded[row.seed] if cell.needs else 0)
        assert row.train_seconds == board.result(cell)["seconds"] > 0


def test_a_method_that_needs_nothing_makes_no_record(make, root):
    run(SMALL, make, root)
    assert not list(root.glob("cells/record*"))


def test_a_method_that_trains_is_charged_for_it(make, root, monkeypatch):
    task, grid = make(), Grid(("toy_guided",), (0.7,))
    train = task.train
    monkeypatch.setattr(task, "train", lambda *a, **rest: replace(train(*a, **rest), seconds=50.0))
    run(grid, make, root, task=task)
    (row,) = (row for row in rows_of(board_of(grid, make, root)) if row.method == "toy_guided")
    assert 50.0 <= row.select_seconds < 100.0


def test_what_is_wanted_is_shown_and_nothing_else(make, root, monkeypatch):
    shown = []

    def look(evidence, keep_ratio):
        shown.append(evidence.features("thumbnails").shape[0])
        with pytest.raises(ValueError, match="'loss' but is not registered"):
            evidence.signal("loss")
        return Choice(np.arange(N))

    looking = Method("looks", look, wants=lambda options: ["thumbnails"])
    monkeypatch.setitem(base._METHODS, "looks", looking)
    run(Grid(("toy_loss", "looks"), (0.7,)), make, root)
    assert shown == [N]


def checkpoints(root):
    return sorted(path.parts[-3].split("-")[0] for path in root.glob("cells/*/run*/checkpoint.pt"))


def test_of_trainings_that_are_done_with_what_others_read_stays_alone(make, root):
    grid = Grid(("random", "toy_loss", "toy_guided"), (0.7,), (0, 1))
    run(grid, make, root)
    assert checkpoints(root) == ["record", "record"]
    before = values_of(grid, make, root)
    run(Grid((*grid.methods, "toy_margin"), (0.7,), (0, 1)), make, root)
    assert before.items() <= values_of(grid, make, root).items()


def test_what_a_killed_process_left_is_tidied_up_later(make, root, tmp_path):
    tidy = []
    task = make()
    run(SMALL, make, root, task=task)
    (
        root / "cells" / cell_of(SMALL, make, "train", "full", 1.0).name / "run" / "checkpoint.pt"
    ).touch()
    task.tidy = lambda folder, model: tidy.append((folder.parent.name.split("-")[1], model))
    run(SMALL, make, root, task=task)
    assert sorted(tidy) == [("full", False), ("random", False), ("random", False)]
    assert len(calls(tmp_path)) == 3


def test_what_a_task_does_not_give_is_refused_before_anything_is_written(make, root, tmp_path):
    with pytest.raises(DataError, match="'toy_margin' needs margin"):
        run(Grid(("random", "toy_margin"), (0.7,)), partial(make, given=()), root)
    assert not root.exists() and not calls(tmp_path)


def test_when_a_cell_fails_the_others_go_on(make, root, caplog):
    grid = Grid(("toy_fails", "random"), (0.7, 0.4))
    with pytest.raises(DataError, match="1 of 7 cells failed and 2 more were not run"):
        run(grid, make, root)
    (told,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert told.startswith("select-toy_fails-s0-")
    assert told.endswith(" failed: RuntimeError: it went wrong")
    assert len(values_of(grid, make, root)) == 3


def test_what_failed_is_tried_again_when_asked(make, root, tmp_path):
    grid = Grid(("random",), (0.7,), (0, 1))
    with pytest.raises(DataError, match="2 of 6 cells failed and 0 more"):
        run(grid, partial(make, broken=1), root)
    before = len(calls(tmp_path))
    with pytest.raises(DataError, match="2 of 6 cells failed"):
        run(grid, make, root, retry=False)
    assert len(calls(tmp_path)) == before
    run(grid, make, root)
    assert len(calls(tmp_path)) == before + 2
    assert len(values_of(grid, make, root)) == 4


def test_an_evaluation_without_a_number_is_no_result(make, root, monkeypatch):
    task = make()
    task.test_labels = task.test_labels[:0]
    task.test_x = task.test_x[:0]
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning), pytest.raises(DataError):
        run(SMALL, make, root, task=task)
    errors = [path.read_text() for path in root.glob(f"cells/*/{FAILED}")]
    assert len(errors) == 3 and "the evaluation gave nan accuracy" in errors[0]


def test_a_record_whose_evaluation_has_no_number_fails_and_the_others_run(make, root):
    task = make()
    task.test_labels = task.test_labels[:0]
    task.test_x = task.test_x[:0]
    grid = Grid(("toy_loss", "random"), (0.4,))
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning), pytest.raises(DataError):
        run(grid, make, root, task=task)
    failed = {
        path.parent.name.split("-")[0]: path.read_text() for path in root.glob(f"cells/*/{FAILED}")
    }
    assert failed.keys() == {"record", "train"}
    assert "the evaluation gave nan accuracy" in failed["record"]
    assert list(root.glob("cells/select-random*/done.json"))


@pytest.mark.parametrize("damage", [b"", b"{", b"{}"])
def test_a_cell_whose_result_is_damaged_is_run_again(make, root, tmp_path, caplog, damage):
    run(SMALL, make, root)
    before = values_of(SMALL, make, root)
    cell = cell_of(SMALL, make, "train", "random", 0.4)
    (cell.folder(root) / DONE).write_bytes(damage)
    run(SMALL, make, root)
    assert [call["cell"] for call in calls(tmp_path)[3:]] == [cell.name]
    assert "is damaged; the cell is run again" in caplog.text
    assert values_of(SMALL, make, root) == before


def test_what_another_process_holds_is_waited_for_and_not_run(make, root, tmp_path, monkeypatch):
    cell = cell_of(SMALL, make, "train", "random", 0.7)
    held, waited = claim(cell.folder(root)), []

    def other_process_ends(seconds):
        waited.append(len(calls(tmp_path)))
        result = {"value": 1.0, "images": 42, "seconds": 9.0}
        write_done(cell, root, result)

    monkeypatch.setattr(module.time, "sleep", other_process_ends)
    with held:
        run(SMALL, make, root)
    assert waited == [2]
    assert cell.name not in {call["cell"] for call in calls(tmp_path)}
    assert values_of(SMALL, make, root)["random", 0.7, 0] == 1.0


def test_what_another_process_did_since_the_look_is_not_run(make, root, tmp_path, monkeypatch):
    cell = cell_of(SMALL, make, "train", "random", 0.7)

    def late(folder):
        if folder == cell.folder(root):
            write_done(cell, root, {"value": 1.0, "images": 42, "seconds": 9.0})
        return claim(folder)

    monkeypatch.setattr(module, "claim", late)
    run(SMALL, make, root)
    assert cell.name not in {call["cell"] for call in calls(tmp_path)}
    assert values_of(SMALL, make, root)["random", 0.7, 0] == 1.0


def test_a_cell_that_was_taken_over_is_left_to_who_has_it(make, root, monkeypatch, caplog):
    cell = cell_of(SMALL, make, "train", "full", 1.0)
    monkeypatch.setattr("adapruner_det.experiment.cells.Claim.still_held", lambda self: False)
    monkeypatch.setattr(module, "_run_next", limited(module._run_next, 1))
    with pytest.raises(DataError, match="0 of 4 cells failed and 4 more"):
        run(SMALL, make, root)
    assert (cell.folder(root) / "run").exists() and not (cell.folder(root) / DONE).exists()


def test_what_fails_once_it_was_taken_over_is_no_failure_of_who_has_it(make, root, monkeypatch):
    def fails(*_):
        raise DataError("its files are another's by now")

    cell = cell_of(SMALL, make, "train", "full", 1.0)
    monkeypatch.setattr(module, "run_cell", fails)
    monkeypatch.setattr("adapruner_det.experiment.cells.Claim.still_held", lambda self: False)
    monkeypatch.setattr(module, "_run_next", limited(module._run_next, 1))
    with pytest.raises(DataError, match="0 of 4 cells failed and 4 more"):
        run(SMALL, make, root)
    assert cell.folder(root).exists() and board_of(SMALL, make, root).error(cell) is None


@pytest.mark.parametrize("times", [1, 3])
def test_a_folder_that_another_run_is_writing_to_is_waited_for(
    make, root, monkeypatch, times, caplog
):
    cell, run_cell = cell_of(SMALL, make, "train", "full", 1.0), module.run_cell
    refused = []

    def busy(own, *arguments):
        if own.name == cell.name and len(refused) < times:
            refused.append(own.name)
            raise FolderInUse("another run is writing")
        return run_cell(own, *arguments)

    monkeypatch.setattr(module, "run_cell", busy)
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    monkeypatch.setattr(module, "POLL", 0.01)
    run(SMALL, make, root)
    assert len(refused) == times and len(values_of(SMALL, make, root)) == 3
    said = [line for line in caplog.messages if "has to wait" in line]
    assert said == [f"{cell.name} has to wait: another run is writing"]
    assert board_of(SMALL, make, root).error(cell) is None


def test_a_signal_ends_the_wait_for_a_folder(make, root, monkeypatch):
    def busy(*_):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        raise FolderInUse("another run is writing")

    monkeypatch.setattr(module, "run_cell", busy)
    monkeypatch.setattr(module, "HEARTBEAT", 1e9)
    monkeypatch.setattr(module, "POLL", 0.01)
    with pytest.raises(Stopped):
        run(SMALL, make, root)


def test_what_nobody_waits_for_is_not_recorded_anew(make, root, tmp_path):
    run(Grid(("toy_loss", "toy_margin"), (0.7,)), make, root)
    before = len(calls(tmp_path))
    fewer = Grid(("toy_loss",), (0.7,))
    run(fewer, make, root)
    assert len(calls(tmp_path)) == before and not board_of(fewer, make, root).left()
    (cell_of(fewer, make, "select", "toy_loss").folder(root) / DONE).unlink()
    run(fewer, make, root)
    (again,) = calls(tmp_path)[before:]
    assert again["cell"].startswith("record-")
