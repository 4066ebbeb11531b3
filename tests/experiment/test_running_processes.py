"""Grids that several processes run, or jobs of a cluster."""

import json
import os
import signal
import sys
import threading
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment import running as module
from adapruner_det.experiment.board import Part
from adapruner_det.experiment.cells import DONE, FAILED
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.running import run, submit
from adapruner_det.stopping import Stopped
from tests.experiment.toy import (
    SMALL,
    calls,
    limited,
    make_toy,
    until,
    values_of,
)

pytestmark = pytest.mark.usefixtures("no_endless_loop")


def in_process(grid, make, root, processes=1):
    """Run a grid in another process."""
    process = get_context("spawn").Process(
        target=run, args=(grid, make, root), kwargs={"processes": processes}
    )
    process.start()
    return process


def ended(process):
    process.join(120)
    return process.exitcode


def paused_in(path):
    until(Path(path).exists)
    return int(Path(path).read_text())


@pytest.mark.slow
def test_processes_that_share_a_grid_never_run_a_cell_twice(make, root, tmp_path):
    grid = Grid(("random", "toy_loss"), (0.7, 0.4), (0, 1))
    met = partial(make, meet=2)  # none goes on before both have begun
    first, second = in_process(grid, met, root), in_process(grid, met, root)
    assert (ended(first), ended(second)) == (0, 0)
    found = calls(tmp_path)
    assert len({call["pid"] for call in found}) == 2
    assert sorted(call["cell"] for call in found) == sorted({call["cell"] for call in found})
    assert len(found) == 2 * (1 + 1 + 4)
    run(grid, make, tmp_path / "alone")
    assert values_of(grid, make, root) == values_of(grid, make, tmp_path / "alone")


@pytest.mark.slow
def test_a_cell_whose_process_was_killed_is_taken_up_by_the_next_run(make, root, tmp_path):
    pause = str(tmp_path / "paused")
    grid = Grid(("random", "toy_guided"), (0.7,))
    process = in_process(grid, partial(make, pause=pause), root)
    os.kill(paused_in(pause), signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    assert not list(root.glob(f"cells/*/{DONE}"))
    run(grid, make, root)
    found = calls(tmp_path)
    assert found[0]["cell"] == found[1]["cell"] and (found[0]["from"], found[1]["from"]) == (0, 2)
    run(grid, make, tmp_path / "whole")
    assert values_of(grid, make, root) == values_of(grid, make, tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_cell_to_the_others(make, root, tmp_path, caplog):
    pause = str(tmp_path / "paused")
    killer = threading.Thread(target=lambda: os.kill(paused_in(pause), signal.SIGKILL))
    killer.start()
    run(SMALL, partial(make, pause=pause, meet=2), root, processes=2)
    killer.join()
    assert "A worker ended with exit code -9" in caplog.text
    assert len(values_of(SMALL, make, root)) == 3
    assert 2 in [call["from"] for call in calls(tmp_path)]


@pytest.mark.slow
def test_a_signal_stops_all_workers_once_they_have_saved(make, root, tmp_path):
    pause = str(tmp_path / "paused")
    process = in_process(SMALL, partial(make, pause=pause), root, processes=2)
    paused_in(pause)
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process) == 128 + signal.SIGTERM
    run(SMALL, make, root)
    assert len(values_of(SMALL, make, root)) == 3
    assert 3 in [call["from"] for call in calls(tmp_path)]  # the third epoch was finished


@pytest.mark.parametrize("told", [False, True])
def test_a_lost_worker_of_a_loader_is_a_failure_unless_a_signal_came(make, root, monkeypatch, told):
    def lose(*_):
        if told:
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    monkeypatch.setattr(module, "_train", lose)
    with pytest.raises(Stopped if told else DataError):
        run(SMALL, make, root)
    failures = [json.loads(path.read_text())["error"] for path in root.rglob(FAILED)]
    assert bool(failures) != told
    assert all("has ended: DataLoader worker" in line for line in failures)


def test_a_signal_between_cells_stops_too(make, root, monkeypatch, tmp_path, caplog):
    once = limited(module._run_next, 1)

    def then_a_signal(*arguments):
        found = once(*arguments)
        if found[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(module, "_run_next", then_a_signal)
    with pytest.raises(Stopped) as caught:
        run(SMALL, make, root)
    assert caught.value.code == 128 + signal.SIGTERM and len(calls(tmp_path)) == 1
    assert f"Stopped; the same command goes on with what is in {root}." in caplog.text


@pytest.mark.slow
def test_workers_tell_their_own_file_and_have_one_thread(make, root, tmp_path, capfd):
    run(SMALL, partial(make_and_tell, tmp_path), root, processes=2)
    logs = [path.read_text() for path in sorted(root.glob("logs/worker-*.txt"))]
    assert len(logs) == 2 and all("1 thread(s)" in text for text in logs)
    assert "thread(s)" in capfd.readouterr().out  # of this process, which makes the task too
    assert len(values_of(SMALL, make, root)) == 3


def make_and_tell(folder):
    import torch

    print(f"{torch.get_num_threads()} thread(s)", flush=True)
    return make_toy(folder)


def test_without_submitit_a_line_says_how_to_get_it(make, root, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(DataError, match=r"pip install 'adapruner-det\[slurm\]'"):
        submit([Part(SMALL, make)], root, 1)
    assert not root.exists()


@pytest.mark.slow
def test_jobs_of_a_cluster_share_the_grid(make, root, tmp_path):
    pytest.importorskip("submitit", reason="submitit is an extra and is not installed")
    with pytest.raises(DataError):
        part = Part(Grid(("toy_margin",), (0.7,)), partial(make, given=()))
        submit([part], root, 1, cluster="local")
    jobs = [Part(SMALL, partial(make, meet=2))]
    numbers = submit(jobs, root, 2, cluster="local", timeout_min=5)
    until(lambda: len(values_of(SMALL, make, root)) == 3)
    found = calls(tmp_path)
    assert len({call["pid"] for call in found}) == len(numbers) == 2
    assert len({call["cell"] for call in found}) == len(found) == 3


def test_a_job_whose_time_is_over_is_submitted_again(make, root):
    helpers = pytest.importorskip("submitit.helpers", reason="submitit is an extra")
    job = module._Job([Part(SMALL, make)], root)
    again = job.checkpoint()
    assert isinstance(again, helpers.DelayedSubmission) and again.function is job
