import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment import cells as module
from adapruner_det.experiment.cells import (
    DONE,
    Cell,
    claim,
    holder,
    read_done,
    write_done,
)
from tests.experiment.toy import until

RESULT = {"value": 1.5, "images": 7, "seconds": 2.0}
CELL = Cell(
    "train", "abc", 3, "adapruner", (("B", 1.5), ("A", True)), 0.6, "epochs", ("loss", "el2n")
)
NAMES = "from tests.experiment.test_cells import CELL; print(CELL.name)"


@pytest.mark.parametrize("seed", ["0", "1"])
def test_a_cell_has_the_same_folder_in_every_process(seed):
    found = subprocess.run(
        [sys.executable, "-c", NAMES],
        env=os.environ | {"PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == CELL.name
    assert CELL.name == "train-adapruner_A=True_B=1.5_-0.6-epochs-s3-45680e32"


def test_the_order_of_options_and_signals_is_no_other_cell():
    other = replace(CELL, options=CELL.options[::-1], signals=CELL.signals[::-1])
    assert other.name == CELL.name and other.config == CELL.config


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "select"},
        {"task": "abd"},
        {"seed": 4},
        {"method": "random"},
        {"options": ()},
        {"options": (("B", 1.5), ("A", False))},
        {"keep_ratio": 0.60000001},
        {"keep_ratio": None},
        {"budget": "steps"},
        {"signals": ("loss",)},
    ],
)
def test_whatever_decides_the_result_is_another_cell(change):
    assert replace(CELL, **change).name[-8:] != CELL.name[-8:]


def test_what_it_reads_and_costs_is_no_other_cell():
    assert replace(CELL, needs=(CELL,), visits=5.0).name == CELL.name


def test_a_name_is_one_folder_whatever_the_method_is_called():
    name = replace(CELL, method="../a b/ü" + 300 * "x").name
    assert "/" not in name and name.isascii() and len(name) < 100


def test_what_is_written_is_read(tmp_path):
    assert read_done(CELL, tmp_path) is None
    write_done(CELL, tmp_path, RESULT)
    assert read_done(CELL, tmp_path) == RESULT


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-3],
        lambda text: b"\xff" + text,
        lambda text: b"[1]",
        lambda text: b"{}",
        lambda text: text.replace(b'"result": {', b'"other": {'),
        lambda text: text.replace(b'"seed": 3', b'"seed": 4'),
        lambda text: text.replace(b'"value": 1.5', b'"other": 1.5'),
        lambda text: text.replace(b'"value": 1.5', b'"value": null'),
        lambda text: text.replace(b'"value": 1.5', b'"value": "77"'),
        lambda text: text.replace(b'"value": 1.5', b'"value": NaN'),
        lambda text: b"[" * 100_000,
    ],
)
def test_what_is_damaged_or_of_another_cell_is_not_done(tmp_path, damage):
    write_done(CELL, tmp_path, RESULT)
    path = CELL.folder(tmp_path) / DONE
    path.write_bytes(damage(path.read_bytes()))
    assert read_done(CELL, tmp_path) is None


def lock(folder, number=1, *, age=0.0, **content):
    """A lock as another process left it."""
    folder.mkdir(exist_ok=True)
    path = folder / f".lock-{number}"
    path.write_text(json.dumps({**module._machine(), "pid": os.getpid(), **content}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_one_holds_a_cell_at_a_time(tmp_path):
    with claim(tmp_path / "cell"):
        assert claim(tmp_path / "cell") is None
        assert holder(tmp_path / "cell").startswith(f"process {os.getpid()} on ")
    assert holder(tmp_path / "cell") is None
    with claim(tmp_path / "cell"):
        assert claim(tmp_path / "cell") is None


def test_a_cell_is_free_again_whatever_ends_it(tmp_path):
    with pytest.raises(SystemExit), claim(tmp_path):
        raise SystemExit(143)
    assert claim(tmp_path) is not None


@pytest.mark.parametrize(("age", "held"), [(0, True), (200, True), (400, False)])
def test_a_lock_without_a_sign_of_life_is_stale(tmp_path, age, held):
    lock(tmp_path, age=age, host="elsewhere", pid=1)
    assert (holder(tmp_path) is not None) == held
    assert (claim(tmp_path) is None) == held


def test_the_clock_is_that_of_the_disk(tmp_path, monkeypatch):
    lock(tmp_path, host="elsewhere")
    monkeypatch.setattr(time, "time", lambda: 1e10)
    assert claim(tmp_path) is None


def test_a_lock_that_is_not_written_yet_is_held(tmp_path):
    path = lock(tmp_path)
    path.write_text("")
    assert claim(tmp_path) is None
    os.utime(path, (1, 1))
    assert claim(tmp_path) is not None


def test_the_lock_of_a_process_that_ended_is_stale_at_once(tmp_path):
    lock(tmp_path, pid=ended_process())
    assert claim(tmp_path) is not None


def test_a_disk_that_is_full_leaves_no_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.json, "dump", full)
        with pytest.raises(OSError, match="No space"):
            claim(tmp_path)
    assert list(tmp_path.glob(".lock-*")) == [] and claim(tmp_path) is not None


@pytest.mark.parametrize("pid", [None, "x"])
def test_a_lock_without_a_number_is_held_until_it_is_stale(tmp_path, pid):
    path = lock(tmp_path, pid=pid)
    assert claim(tmp_path) is None
    os.utime(path, (1, 1))
    assert claim(tmp_path) is not None


def test_what_lies_beside_a_lock_is_none(tmp_path):
    for name in (".lock-1~", ".lock-2 (conflicted copy)", ".lock-x"):
        (tmp_path / name).write_text("{}")
    with claim(tmp_path):
        assert claim(tmp_path) is None


@pytest.mark.parametrize("name", ["host", "boot", "numbers"])
def test_a_number_means_nothing_on_another_machine(tmp_path, name):
    lock(tmp_path, pid=ended_process(), **{name: "other"})
    assert claim(tmp_path) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it asks /proc")
def test_a_process_that_was_halted_keeps_its_cell_on_its_own_machine(tmp_path):
    with claim(tmp_path) as halted:
        os.utime(halted.path, (1, 1))
        assert holder(tmp_path) and claim(tmp_path) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it asks /proc")
def test_a_process_that_ended_holds_nothing_though_nobody_has_asked_for_its_end(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        lock(tmp_path, pid=process.pid, started=module._started(process.pid))
        until(lambda: module._stat(process.pid)[0] == "Z")
        assert holder(tmp_path) is None and claim(tmp_path) is not None
    finally:
        process.wait()


def test_a_process_of_which_nothing_can_be_read_is_known_by_its_signs_of_life(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_stat", lambda pid: [])
    path = lock(tmp_path, started="12345")
    assert holder(tmp_path) and claim(tmp_path) is None
    os.utime(path, (1, 1))
    assert holder(tmp_path) is None


def test_a_cell_that_cannot_be_let_go_of_is_free_in_time(tmp_path, monkeypatch):
    def full(*_):
        raise DataError("cannot be written")

    with monkeypatch.context() as patched, claim(tmp_path) as held:
        patched.setattr(module, "write_json", full)
    assert holder(tmp_path)
    os.utime(held.path, (1, 1))
    assert holder(tmp_path) is None and claim(tmp_path) is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it asks /proc")
def test_a_number_that_is_another_processs_by_now_holds_nothing(tmp_path):
    lock(tmp_path, started="1")
    assert holder(tmp_path) is None and claim(tmp_path) is not None


def test_another_users_process_is_alive(tmp_path, monkeypatch):
    def kill(pid, signum):
        raise PermissionError

    lock(tmp_path)
    monkeypatch.setattr(os, "kill", kill)
    assert claim(tmp_path) is None


def test_a_heartbeat_keeps_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    with claim(tmp_path) as held:
        os.utime(held.path, (1, 1))
        until(lambda: held.path.stat().st_mtime > 1)
        assert claim(tmp_path) is None


def test_who_was_halted_learns_that_the_cell_is_anothers_and_leaves_it_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 1e9)
    with claim(tmp_path) as halted:
        assert halted.still_held()
        os.utime(halted.path, (1, 1))
        halted.path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        os.utime(halted.path, (1, 1))
        taker = claim(tmp_path)
        with taker:
            assert not halted.still_held() and taker.still_held()
            halted.__exit__()
            assert halted.lost and holder(tmp_path) and claim(tmp_path) is None


def test_of_many_that_find_a_stale_lock_one_takes_over(tmp_path):
    for trial in range(20):
        folder = tmp_path / str(trial)
        lock(folder, age=1e6, host="elsewhere")
        start, won = threading.Barrier(8), []

        def take(folder=folder, start=start, won=won):
            start.wait()
            if (found := claim(folder)) is not None:
                won.append(found)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


@pytest.mark.parametrize("let_go", [False, True])
def test_who_looked_before_another_took_over_does_not_win_too(tmp_path, monkeypatch, let_go):
    lock(tmp_path, age=1e6, host="elsewhere")
    found, look = [], holder

    def slow(folder):  # another process is quicker, between the look and what follows from it
        monkeypatch.setattr(module, "holder", look)
        who = look(folder)
        taker = claim(folder)
        if let_go:
            with taker:
                pass
        found.append(taker)
        return who

    monkeypatch.setattr(module, "holder", slow)
    assert claim(tmp_path) is None and found[0] is not None


def test_who_may_only_look_sees_who_holds(tmp_path, monkeypatch):
    def touch(self):
        raise PermissionError

    lock(tmp_path, host="elsewhere", pid=7)
    monkeypatch.setattr(module.Path, "touch", touch)
    assert holder(tmp_path) == "process 7 on elsewhere"
