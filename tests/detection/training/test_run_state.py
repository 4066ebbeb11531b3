"""What tells runs apart, and how a signal ends one without loss."""

import errno
import hashlib
import logging
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch

from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.training import run_state
from adapruner_det.detection.training.run_state import (
    PRUNE,
    TRAIN,
    RunClock,
    RunState,
    StopHook,
    kind_of,
    run_identity,
    without_tracebacks,
)
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from adapruner_det.stopping import Stopped, StopRequest
from tests.detection.toy import squares, toy_cfg


@pytest.fixture
def index(tmp_path):
    return SampleIndex.from_dicts({"toy": squares(tmp_path, 4)})


def identity(index, *options, kind=PRUNE):
    return run_identity(kind, toy_cfg("yolo_darknet", "out", *options), index)


def test_a_run_is_the_same_wherever_it_writes_and_however_it_loads(index):
    assert identity(index) == identity(index)
    options = ("DATALOADER.NUM_WORKERS", 3, "OUTPUT_DIR", "elsewhere")
    assert identity(index) == identity(index, *options)
    assert identity(index)["threads"] == torch.get_num_threads() == 1


@pytest.mark.parametrize(
    "options",
    [
        ("ADAPRUNER.KEEP_RATIO", 0.5),
        ("ADAPRUNER.ON_BAD_SAMPLE", "skip"),
        ("SEED", 2),
        ("SOLVER.IMS_PER_BATCH", 2),
        ("SOLVER.MAX_ITER", 16),
        ("MODEL.WEIGHTS", "other.pth"),
    ],
    ids=lambda pair: pair[0],
)
def test_another_configuration_is_another_run(index, options):
    assert identity(index, *options)["config"] != identity(index)["config"]


def test_the_data_are_called_as_in_version_0_1(index):
    """Or its checkpoints could not be gone on from."""
    listed = repr(sorted(index.samples.datasets.items()))
    assert identity(index)["data"] == hashlib.sha256(listed.encode()).hexdigest()[:16]


def test_a_run_with_a_guide_is_called_by_its_kind():
    assert kind_of(None) == PRUNE
    assert kind_of(Recorder(3)) == "prune Recorder"


def test_the_clock_counts_the_time_in_training_and_that_before_a_resume(monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(run_state.time, "perf_counter", lambda: now.time)
    first, second = RunClock(), RunClock()
    now.time = 500.0  # before training
    first.before_train()
    now.time = 507.0
    state = first.state_dict()
    assert state == {"seconds": 7.0}
    now.time = 509.0
    first.after_train()
    now.time = 900.0  # behind it
    assert first.seconds == 9.0
    second.load_state_dict(state)
    second.before_train()
    now.time = 903.0
    assert second.seconds == second.state_dict()["seconds"] == 10.0


def test_other_data_and_another_kind_are_another_run(index, tmp_path):
    dicts = squares(tmp_path, 4)
    dicts[1]["annotations"][0]["category_id"] ^= 1
    other = SampleIndex.from_dicts({"toy": dicts})
    fewer = SampleIndex.from_dicts({"toy": squares(tmp_path, 3)})
    found = {identity(i)["data"] for i in (index, other, fewer)}
    assert len(found) == 3
    assert identity(index, kind=TRAIN) == {**identity(index), "kind": TRAIN}


def test_the_state_is_plain_and_another_runs_is_refused(index):
    hook = RunState(identity(index))
    state = hook.state_dict()
    assert {type(v) for v in state.values()} == {str, int}
    hook.load_state_dict(state)
    with pytest.raises(DataError, match="other data"):
        hook.load_state_dict({**state, "data": "x"})


class Run:
    """A trainer with no more than a StopHook asks of it."""

    def __init__(self, before_save=lambda: None):
        self.events, self.request = [], StopRequest()
        self.hook = StopHook(self.request, before_save)
        saver = SimpleNamespace(save=self.events.append, save_dir="out")
        self.hook.trainer = SimpleNamespace(iter=0, max_iter=10, checkpointer=saver)

    def step(self, number):
        self.hook.trainer.iter = number
        self.hook.after_step()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_once_the_step_is_done_and_tells_its_code(signum, code, caplog):
    events = []
    run = Run(lambda: events.append("gathered"))
    run.events = events
    run.hook.trainer.checkpointer.save = events.append
    before = signal.getsignal(signum)
    with run.request.listening():
        run.step(3)
        assert not events
        os.kill(os.getpid(), signum)
        with caplog.at_level(logging.WARNING), pytest.raises(Stopped) as stop:
            run.step(4)
    assert events == ["gathered", "model_0000004"]
    assert stop.value.code == code
    assert (
        f"Stopped by {signal.Signals(signum).name} after 5 of 10 steps, which are saved; to go on, "
        "give the same command with --resume as its first option" in caplog.text
    )
    assert signal.getsignal(signum) is before


def test_a_signal_in_the_last_step_lets_the_run_end_as_it_does():
    run = Run()
    run.request.signum = signal.SIGTERM
    run.step(9)
    assert not run.events


def test_a_signal_to_one_process_stops_all(monkeypatch):
    run = Run()
    monkeypatch.setattr(run_state.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(run_state.dist, "get_backend", lambda: "gloo")
    asked = []

    def reduced(numbers, op):
        asked.append(op)
        numbers.fill_(signal.SIGTERM)

    monkeypatch.setattr(run_state.dist, "all_reduce", reduced)
    with pytest.raises(Stopped):
        run.step(2)
    assert run.events == ["model_0000002"]
    assert asked == [run_state.dist.ReduceOp.MAX]  # a sum of two signals would be a third


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (DataError("x"), False),
        (FloatingPointError("x"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (OSError(errno.EIO, "broken"), True),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."), False),
        (RuntimeError("x"), True),
        (ValueError("x"), True),
    ],
)
def test_what_ends_a_run_as_one_line_has_no_traceback_in_the_log(caplog, error, is_logged):
    loop = logging.getLogger("detectron2.engine.train_loop")
    with caplog.at_level(logging.INFO, logger=loop.name), without_tracebacks():
        loop.info("Starting")
        try:
            raise error
        except Exception:
            loop.exception("Exception during training:")
    assert "Starting" in caplog.text
    assert ("Exception during training" in caplog.text) == is_logged
    assert not loop.filters


@pytest.mark.parametrize(
    ("error", "is_printed"), [(OSError(errno.ENOSPC, "full"), False), (ValueError("a fault"), True)]
)
def test_a_thread_that_meets_a_full_disk_prints_no_traceback(monkeypatch, error, is_printed):
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    before = threading.excepthook

    def fails():
        raise error

    with without_tracebacks():
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
    assert bool(printed) == is_printed and threading.excepthook is before
