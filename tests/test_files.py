import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import tempfile

import numpy as np
import pytest
import torch

from adapruner_det import files
from adapruner_det.errors import DataError
from adapruner_det.files import (
    LOCK_FILE,
    PART,
    REPORT,
    SELECTION_FILES,
    locked,
    require_writable,
    set_aside,
    sweep,
    write_whole,
)
from tests import apart

NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def saying(text):
    return lambda file: file.write(text)


@contextlib.contextmanager
def file_size_limited(size):
    """Let no file grow beyond ``size`` bytes, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def started(code, *arguments):
    """A process of its own, once it has written its first line."""
    with apart.start(code, *arguments, stdin=subprocess.PIPE) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, line.strip()
        finally:
            process.kill()
            process.communicate()


# --- write_whole ---------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.pt"
    assert write_whole(path, saying(b"new")) == path
    assert path.read_bytes() == b"new" and names(path.parent) == ["x.pt"]
    assert write_whole(str(path), saying(b"newer")) == path
    assert path.read_bytes() == b"newer" and names(path.parent) == ["x.pt"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "with space\n", ".hidden", "\udcff"])
def test_any_name_that_a_file_can_have_is_fine(tmp_path, name):
    assert write_whole(tmp_path / name, saying(b"new")).read_bytes() == b"new"
    assert names(tmp_path) == [name]


def test_nobody_sees_a_part_and_no_rename_comes_before_the_disk_has_all(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    events = []

    def watched(name, function):
        def call(*arguments, **options):
            events.append((name, path.read_bytes()))
            return function(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    def fsync(handle):
        kind = "fsync" if stat.S_ISREG(os.fstat(handle).st_mode) else "fsync of the folder"
        events.append((kind, os.fstat(handle).st_size if kind == "fsync" else path.read_bytes()))

    def write(file):
        file.write(b"new")
        events.append(("write", path.read_bytes()))

    for name in ("replace", "rename"):
        watched(name, getattr(os, name))
    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, write)
    assert events == [
        ("write", b"old"),
        ("fsync", 3),
        ("replace", b"old"),
        ("fsync of the folder", b"new"),
    ]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_any_new_file(tmp_path, umask):
    code = """
import os
os.umask(int(sys.argv[2]))
from adapruner_det.files import write_whole
write_whole(sys.argv[1], lambda file: file.write(b""))
"""
    assert apart.run(code, tmp_path / "x", umask) == (0, "", "")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


KILLED = """
import os
from adapruner_det.files import write_whole

def write(file):
    file.write(bytes(100_000))
    file.flush()
    print("half", flush=True)
    sys.stdin.read()

write_whole(sys.argv[1], write)
"""


def test_a_kill_in_the_midst_leaves_the_old_file_and_a_part_that_is_swept(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with started(KILLED, path) as (process, line):
        assert line == "half"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_bytes() == b"old"
    (part,) = set(names(tmp_path)) - {"x"}
    assert part.startswith(".x.") and part.endswith(PART)
    sweep(tmp_path)
    assert names(tmp_path) == ["x"] and path.read_bytes() == b"old"


def test_only_parts_are_swept(tmp_path):
    mine = ["a.part", f"b{PART}", ".c", f".d{PART}.pt", "model.pt"]
    for name in mine:
        (tmp_path / name).touch()
    (tmp_path / f".folder{PART}").mkdir()
    (tmp_path / f".e.1{PART}").touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted([*mine, f".folder{PART}"])
    sweep(tmp_path / "nowhere")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), RuntimeError("x")])
def test_an_error_of_the_writer_s_goes_through_and_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        raise error

    with pytest.raises(type(error)) as caught:
        write_whole(path, write)
    assert caught.value is error
    assert names(tmp_path) == ["x"] and path.read_bytes() == b"old"


def save_tensors(file):
    torch.save({"x": torch.zeros(100_000)}, file)


def save_arrays(file):
    np.savez(file, x=np.zeros(100_000))


WRITERS = [saying(bytes(400_000)), save_tensors, save_arrays]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("size", [0, 100, 50_000])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, write, size):
    path = tmp_path / "x.pt"
    path.write_bytes(b"old")
    with file_size_limited(size), pytest.raises(DataError) as caught:
        write_whole(path, write)
    assert str(caught.value) == (
        f"{path} cannot be written: File too large; free space there or write to another folder"
    )
    assert names(tmp_path) == ["x.pt"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("write", WRITERS)
def test_a_device_without_room(tmp_path, write, monkeypatch):
    path = tmp_path / "x.pt"
    path.write_bytes(b"old")
    fdopen = os.fdopen

    def full(handle, *arguments, **options):
        os.close(handle)
        return fdopen(os.open("/dev/full", os.O_WRONLY), *arguments, **options)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(DataError, match=r"x\.pt cannot be written: No space left on device; free"):
        write_whole(path, write)
    assert names(tmp_path) == ["x.pt"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_disk_that_fails_at_any_step(tmp_path, monkeypatch, step):
    def fail(*_):
        raise NO_ROOM

    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(DataError, match="x cannot be written: No space left on device"):
        write_whole(path, saying(b"new"))
    assert names(tmp_path) == ["x"] and path.read_bytes() == b"old"


def test_a_disk_that_does_not_even_let_the_part_go(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(DataError, match="Read-only file system"):
        write_whole(tmp_path / "x", saying(b"new"))


def test_a_folder_that_cannot_be_synced_is_let_be(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    before = len(os.listdir("/proc/self/fd"))
    assert write_whole(tmp_path / "x", saying(b"new")).read_bytes() == b"new"
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_place_for_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place in ("file/x", "folder", "x" * 300):
        with pytest.raises(DataError, match="cannot be written: "):
            write_whole(tmp_path / place, saying(b"new"))
    with pytest.raises(DataError, match="/proc/x cannot be written: "):
        write_whole("/proc/x", saying(b"new"))
    assert names(tmp_path) == ["file", "folder"] and names(tmp_path / "folder") == []


# --- require_writable ----------------------------------------------------------------------------


def test_a_folder_is_made_and_left_empty(tmp_path):
    require_writable(tmp_path / "a" / "b")
    require_writable(str(tmp_path / "a" / "b"))
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "a" / "b") == []


IMPOSSIBLE = {
    "under a file": "file/x/y",
    "a file": "file",
    "a link to nowhere": "link",
    "beyond a link to nowhere": "link/x",
    "a link to itself": "round/x",
    "too long": "new/" + "x" * 300,
    "too deep": "new/" + "/".join(["x" * 200] * 25),
    "a null byte": "new/n\0ull",
    "proc": "/proc/nowhere/x",
    "sys": "/sys/nowhere",
    "a device": "/dev/null/x",
}


def test_a_place_that_cannot_be_is_named_with_the_option_that_it_was_given_by(tmp_path):
    (tmp_path / "OUTPUT_DIR").touch()
    with pytest.raises(DataError) as caught:
        require_writable(tmp_path / "OUTPUT_DIR", "--output")
    message = str(caught.value)
    assert message.startswith(f"--output {str(tmp_path / 'OUTPUT_DIR')!r} cannot be written to: ")
    assert message.endswith("; set another --output")


@pytest.mark.parametrize("place", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_place_that_cannot_be_is_one_line_and_leaves_nothing(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(DataError) as caught:
        require_writable(tmp_path / place)
    message = str(caught.value)
    assert message.startswith(f"OUTPUT_DIR {str(tmp_path / place)!r} cannot be written to: ")
    assert message.endswith("; set another OUTPUT_DIR")
    assert names(tmp_path) == ["file", "link", "round"]


def test_a_disk_that_is_full_is_found_and_left_as_it_was(tmp_path):
    (tmp_path / "old").mkdir()
    for place in ("old", "old/a/b", "c/d"):
        with file_size_limited(100), pytest.raises(DataError, match="File too large"):
            require_writable(tmp_path / place)
    assert names(tmp_path) == ["old"] and names(tmp_path / "old") == []


def test_a_folder_that_is_closed_to_writing():
    code = """
import os
from adapruner_det.errors import reported
from adapruner_det.files import require_writable
if os.getuid() == 0:
    os.setuid(65534)
with reported():
    require_writable(sys.argv[1])
"""
    with tempfile.TemporaryDirectory() as closed:  # tmp_path lets nobody else in
        os.chmod(closed, 0o555)
        line = (
            f"error: OUTPUT_DIR '{closed}/x' cannot be written to: Permission denied; set another "
            "OUTPUT_DIR\n"
        )
        assert apart.run(code, f"{closed}/x", cwd="/") == (2, "", line)
        assert os.listdir(closed) == []


# --- locked --------------------------------------------------------------------------------------

HOLDER = """
import os
from adapruner_det.files import locked
with locked(sys.argv[1]):
    if sys.argv[2:]:
        if os.fork():
            os.wait()
        print(os.getpid(), flush=True)  # a loader's worker, which outlives its run for a while
        os.closerange(0, 3)
        if sys.argv[2] == "exec":
            os.execlp("sleep", "sleep", "20")
        __import__("time").sleep(20)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path):
    message = f"another run is writing to '{tmp_path}'; wait for it or set another OUTPUT_DIR"
    with started(HOLDER, tmp_path) as (process, _):
        for _ in range(2):
            with pytest.raises(DataError) as caught, locked(tmp_path):
                pytest.fail("held twice")
            assert str(caught.value) == message
        process.communicate()  # it ends as it should
    with locked(str(tmp_path)), pytest.raises(DataError), locked(tmp_path):
        pytest.fail("held twice")
    with locked(tmp_path):
        assert names(tmp_path) == [LOCK_FILE]


@pytest.mark.parametrize("child", [[], ["fork"], ["exec"]])
def test_a_lock_goes_with_a_killed_process_whatever_its_children_do(tmp_path, child):
    with started(HOLDER, tmp_path, *child) as (process, worker):
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path):
            if child:
                os.kill(int(worker), signal.SIGKILL)  # it was there until now


def test_a_fork_takes_nothing_from_the_run_that_holds_the_lock(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(DataError), locked(tmp_path):
            pytest.fail("held twice")


def test_a_lock_goes_with_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path):
            raise KeyError
    assert not files._held


def test_where_there_are_no_locks_a_run_is_warned(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        assert caplog.messages == [f"{tmp_path}/.lock cannot be locked: No locks available"]


def test_a_lock_file_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(DataError, match=r"\.lock cannot be opened: Is a directory; remove it"):
        locked(tmp_path).__enter__()


# --- set_aside -----------------------------------------------------------------------------------


def fill(folder, *paths):
    for name in paths:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_an_earlier_run_moves_out_of_the_way_and_nothing_else(tmp_path, caplog):
    fill(tmp_path, "model_1.pth", "model_2.pth", "last", "notes.txt")
    target = set_aside(tmp_path, ["model_*.pth", "last", "*.pth", "absent"])
    assert target == tmp_path / "old-1"
    assert names(target) == ["last", "model_1.pth", "model_2.pth"]
    assert names(tmp_path) == ["notes.txt", "old-1"]
    assert (target / "model_2.pth").read_text() == "model_2.pth"
    assert caplog.messages == [
        f"The 3 file(s) of an earlier run in {tmp_path} are now in {target}."
    ]


def test_the_report_of_an_earlier_selection_goes_with_it(tmp_path):
    of_run = ["selection.json", "selection.npz", "selection-keep50.json", REPORT]
    of_run += ["report_thumbnails/0.webp", "report.predictions.npz"]
    mine = ["look.html", "report-mine.html", "mine_thumbnails/0.webp", "decisions.json"]
    fill(tmp_path, *of_run, *mine)
    target = set_aside(tmp_path, SELECTION_FILES, along=["selection.*"])  # some of them twice
    assert all((target / name).is_file() for name in of_run)
    assert all((tmp_path / name).is_file() for name in mine)


def test_where_nothing_was_nothing_is_made(tmp_path, caplog):
    fill(tmp_path, "notes.txt")
    assert set_aside(tmp_path, ["*.pth"]) is None
    assert set_aside(tmp_path / "nowhere", ["*.pth"]) is None
    assert names(tmp_path) == ["notes.txt"] and not caplog.messages


def test_no_earlier_one_is_written_over(tmp_path):
    fill(tmp_path, "old-1/x", "old-3")  # a folder, a gap, a file
    (tmp_path / "old-4").symlink_to("nowhere")
    for number in (2, 5, 6):
        fill(tmp_path, "x")
        assert set_aside(str(tmp_path), ["x"]) == tmp_path / f"old-{number}"
        assert (tmp_path / f"old-{number}" / "x").read_text() == "x"
    assert (tmp_path / "old-1" / "x").read_text() == "old-1/x"
    assert (tmp_path / "old-3").read_text() == "old-3"


def test_files_of_one_name_in_several_folders_all_stay(tmp_path):
    fill(tmp_path, "a/x", "b/x", "x")
    target = set_aside(tmp_path, ["*/x", "x"])
    assert [(target / name).read_text() for name in ("a/x", "b/x", "x")] == ["a/x", "b/x", "x"]


def test_what_a_link_leads_to_stays(tmp_path):
    fill(tmp_path, "elsewhere/model.pth")
    (tmp_path / "model.pth").symlink_to(tmp_path / "elsewhere" / "model.pth")
    target = set_aside(tmp_path, ["*.pth"])
    assert (target / "model.pth").is_symlink()
    assert (tmp_path / "elsewhere" / "model.pth").exists()


# --- lies_in -------------------------------------------------------------------------------------


def test_a_file_lies_in_a_folder_by_its_name_or_by_what_it_leads_to(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run, elsewhere):
        folder.mkdir()
        (folder / "x").touch()
    (run / "to_elsewhere").symlink_to(elsewhere / "x")
    (elsewhere / "to_run").symlink_to(run / "x")
    for path in (run / "x", run / "to_elsewhere", elsewhere / "to_run", run / "not_there"):
        assert files.lies_in(path, run)
    assert not files.lies_in(elsewhere / "x", run) and not files.lies_in(run, run)
