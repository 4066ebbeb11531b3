import logging
import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from adapruner_det.errors import DataError
from adapruner_det.stopping import SIGNALS, Stopped, StopRequest, heed_the_main_process
from tests import apart
from tests.apart import within

LINE = "{}: finishing this step and saving; a second signal stops at once.\n"

RUN = """
import os, time
from adapruner_det.stopping import Stopped, StopRequest
request = StopRequest()
with request.listening():
    worker = 0
    if sys.argv[1] == "with a worker":
        begun, begin = os.pipe()
        worker = os.fork()
        if not worker:
            os.write(begin, b"1")
            while True:
                time.sleep(0.01)
        os.read(begun, 1)  # Python forgets a signal that comes to a child before it has begun
    print("ready", worker, flush=True)
    while not request.signum:
        time.sleep(0.01)
    print("asked", int(request.signum), flush=True)
    if sys.argv[1] == "busy":
        time.sleep(30)
    if worker:
        time.sleep(0.1)
        print("worker", os.waitpid(worker, os.WNOHANG), flush=True)
        os.kill(worker, 15)
        print("worker", os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
    raise Stopped(request.signum)
"""


@contextmanager
def started(kind):
    with apart.start(RUN, kind, start_new_session=True) as process:
        try:
            word, worker = process.stdout.readline().split()
            assert word == "ready"
            yield process, int(worker)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request_and_the_code_tells_of_it(number):
    with started("idle") as (process, _):
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, f"asked {int(number)}\n")
    assert err == LINE.format(signal.Signals(number).name)


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(first, second):
    with started("busy") as (process, _), within(60):
        process.send_signal(first)
        assert process.stdout.readline() == f"asked {int(first)}\n"
        process.send_signal(second)
        assert process.wait() == -second


def test_ctrl_c_reaches_the_workers_too_and_they_leave_it_to_the_run():
    with started("with a worker") as (process, _):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "asked 2\nworker (0, 0)\nworker -15\n"  # it lived until it was told to go
    assert err == LINE.format("SIGINT")


def test_a_worker_that_is_told_to_go_goes_and_the_run_stays():
    with started("with a worker") as (process, worker):
        os.kill(worker, signal.SIGTERM)
        with within(60):
            while (
                Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z"
            ):  # gone, not waited for
                time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert out.splitlines()[1] == f"worker ({worker}, 15)"
    assert err.startswith(LINE.format("SIGTERM"))


# Processes that are forked from this one, as PyTorch's are.


def sleep_long():
    time.sleep(30)


def test_a_process_of_multiprocessing_can_be_terminated():
    with StopRequest().listening(), within(60):
        process = multiprocessing.get_context("fork").Process(target=sleep_long)
        process.start()
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)
        assert process.is_alive()
        process.terminate()
        process.join()
    assert process.exitcode == -signal.SIGTERM


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        time.sleep(0.02)
        return i


def test_a_loader_goes_on_after_ctrl_c(capfd):
    request = StopRequest()
    with request.listening(), within(20):
        batches = iter(torch.utils.data.DataLoader(Slow(), 2, num_workers=1))
        found = [next(batches).tolist()]
        (worker,) = batches._workers
        os.kill(worker.pid, signal.SIGINT)
        found += [batch.tolist() for batch in batches]
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert request.signum == 0
    assert capfd.readouterr() == ("", "")


def loader_with_a_worker():
    """Batches of Slow, and the process that makes them."""
    loader = torch.utils.data.DataLoader(
        Slow(), 2, num_workers=1, worker_init_fn=heed_the_main_process
    )
    batches = iter(loader)
    first = next(batches).tolist()
    return batches, first, batches._workers[0]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_outlasts_what_the_whole_job_gets(number):
    with StopRequest().listening() as request, within(30):
        others = multiprocessing.active_children()
        batches, first, worker = loader_with_a_worker()
        assert os.getpgid(worker.pid) != os.getpgid(0)
        apart.signal_job(number, others)
        found = [first] + [batch.tolist() for batch in batches]
    assert request.signum == number
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_main_process_can_end_a_worker():
    batches, _, worker = loader_with_a_worker()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0 and batches


LOST = "DataLoader worker (pid 7) is killed by signal: Terminated."


def test_a_lost_worker_is_named_with_what_to_do():
    naming = StopRequest().naming_lost_workers("WORKERS", "go on so")
    with pytest.raises(DataError) as error, naming:
        raise RuntimeError(LOST)
    assert str(error.value) == (
        f"a process that reads images has ended: {LOST}; if memory ran out, lower WORKERS; go on so"
    )


@pytest.mark.parametrize("late", [False, True])
def test_a_worker_lost_to_a_signal_to_all_is_a_stop(caplog, late):
    request = StopRequest()
    ask = threading.Timer(0.1 if late else 0, lambda: setattr(request, "signum", signal.SIGTERM))
    with pytest.raises(Stopped) as stop, request.naming_lost_workers("WORKERS", "go on so"):
        ask.start()
        if not late:
            ask.join()
        raise RuntimeError(LOST)
    assert stop.value.code == 143
    assert "Stopped; go on so" in caplog.text


def test_other_errors_stay_what_they_are():
    naming = StopRequest().naming_lost_workers("WORKERS", "go on so")
    with pytest.raises(RuntimeError, match="^a fault$"), naming:
        raise RuntimeError("a fault")


# In this process.


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", [None, *SIGNALS])
def test_the_handlers_before_come_back(number):
    before = handlers()
    request = StopRequest()
    with pytest.raises(KeyError), request.listening() as same:
        assert same is request and request.signum == 0
        assert not set(handlers()) & set(before)
        if number:
            os.kill(os.getpid(), number)
            assert handlers() == [signal.SIG_DFL] * 2
        raise KeyError
    assert handlers() == before
    assert request.signum == (number or 0)


def test_a_handler_from_outside_of_python_becomes_the_system_s(monkeypatch):
    before, real, calls = handlers(), signal.signal, []

    def unknown(number, handler):
        calls.append(handler)
        real(number, handler)  # and what was there cannot be told

    try:
        with monkeypatch.context() as patch:
            patch.setattr(signal, "signal", unknown)
            with StopRequest().listening():
                pass
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            real(number, handler)
    assert calls[2:] == [signal.SIG_DFL] * 2


def test_another_thread_changes_nothing():
    before, seen = handlers(), []

    def run():
        with StopRequest().listening() as request:
            seen.append((request.signum, handlers()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(0, before)] and handlers() == before


def test_a_log_that_takes_no_line_does_not_end_the_run(monkeypatch):
    class Busy(logging.Handler):
        def emit(self, record):
            raise RuntimeError("reentrant call")

    busy = Busy()
    logging.getLogger("adapruner_det.stopping").addHandler(busy)
    try:
        with StopRequest().listening() as request:
            os.kill(os.getpid(), signal.SIGTERM)
            assert request.signum == signal.SIGTERM
    finally:
        logging.getLogger("adapruner_det.stopping").removeHandler(busy)


def test_stopped_is_an_exit():
    assert issubclass(Stopped, SystemExit)
    assert (Stopped(signal.SIGTERM).code, Stopped(signal.SIGINT).code) == (143, 130)
