import errno
import os
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._utils import ExceptionWrapper

from adapruner_det.errors import (
    DISK_ERRORS,
    DataError,
    did_you_mean,
    one_line,
    reported,
    show_data_errors_as_one_line,
)
from adapruner_det.stopping import Stopped
from tests import apart


def test_a_data_error_can_be_caught_as_a_value_error():
    with pytest.raises(ValueError, match="broken"):
        raise DataError("broken")


# --- reported ------------------------------------------------------------------------------------


def code_of(error):
    with pytest.raises(SystemExit) as caught, reported():
        raise error
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("the file is\n  broken: mend it"), "the file is broken: mend it"),
        (DataError(), "DataError"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/out/x.pt"),
            "/out/x.pt cannot be written: No space left on device",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file cannot be written: No space left on device",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/out"),
            "/out cannot be written: Read-only file system",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/in/x.xml"),
            "/in/x.xml cannot be opened: Permission denied",
        ),
        (
            FloatingPointError("Loss became infinite or NaN at iteration=3!\nloss_dict = {}"),
            "training diverged: Loss became infinite or NaN at iteration=3! loss_dict = {}; lower "
            "the learning rate",
        ),
    ],
)
def test_what_is_the_user_s_becomes_one_line_on_stderr_and_exit_code_2(capsys, error, line):
    assert code_of(error) == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


@pytest.mark.parametrize("number", DISK_ERRORS)
def test_every_error_of_a_disk_is_reported(capsys, number):
    assert code_of(OSError(number, os.strerror(number), "x")) == 2
    assert capsys.readouterr().err.startswith("error: x cannot be ")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a fault of the code"),
        ValueError("one that is not ours"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        OSError("without a number"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),  # of another pipe than stdout
        ZeroDivisionError(),
        KeyboardInterrupt(),
        Stopped(15),
        SystemExit(3),
    ],
)
def test_any_other_error_passes_as_it_is(capsys, error):
    with pytest.raises(type(error)) as caught, reported():
        raise error
    assert caught.value is error
    assert capsys.readouterr() == ("", "")


def test_no_error_changes_nothing(capsys):
    with reported():
        print("fine")
    assert capsys.readouterr() == ("fine\n", "")


def test_a_closed_or_missing_stdout_is_let_be(monkeypatch, tmp_path):
    closed = (tmp_path / "x").open("w")
    closed.close()
    for stdout in (closed, None):
        monkeypatch.setattr(sys, "stdout", stdout)
        with reported():
            pass
        assert code_of(DataError("broken")) == 2


SAY = """
import logging
from adapruner_det.errors import *
from adapruner_det.stopping import Stopped
with reported():
    for _ in range(int(sys.argv[1])):
        print("a line of the output")
    if sys.argv[2:]:
        logging.getLogger("x").warning("before the logs are set up")
        raise eval(sys.argv[2])
"""
OUT, WARNING = "a line of the output\n", "warning: before the logs are set up\n"


@pytest.fixture(params=["1", ""], ids=["unbuffered", "buffered"])
def buffering(request, monkeypatch):
    """How Python writes to what is no terminal: at once, or when it has a few kB."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)
    return request.param


def test_a_tool_ends_with_the_code_of_what_happened():
    assert apart.run(SAY, 1) == (0, OUT, "")
    assert apart.run(SAY, 1, "DataError('broken')") == (2, OUT, f"{WARNING}error: broken\n")
    assert apart.run(SAY, 1, "Stopped(15)") == (143, OUT, WARNING)
    code, out, err = apart.run(SAY, 1, "KeyError('x')")
    assert (code, out) == (1, OUT)
    assert err.startswith(f"{WARNING}Traceback") and err.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize(
    ("encoding", "line"), [("utf-8:strict", "é \\udcff\n"), ("ascii", "\\xe9 \\udcff\n")]
)
def test_any_name_of_a_file_can_be_printed(monkeypatch, encoding, line):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code = SAY.replace("a line of the output", "\\xe9 \\udcff")
    assert apart.run(code, 1, encoding="utf-8") == (0, line, "")
    assert apart.run(code, 0, r"DataError('\udcff')", encoding="utf-8")[2].endswith(": \\udcff\n")


@pytest.mark.parametrize("lines", [1, 10_000])
def test_where_nobody_reads_the_output_it_ends_without_a_word(lines, buffering):
    reader, writer = os.pipe()
    os.close(reader)
    assert apart.run(SAY, lines, stdout=writer) == (141, None, "")
    os.close(writer)


@pytest.mark.parametrize("lines", [1, 10_000])
def test_an_output_that_is_full_is_one_line(lines, buffering):
    line = "error: a file cannot be written: No space left on device\n"
    with open("/dev/full", "w") as full:
        assert apart.run(SAY, lines, stdout=full) == (2, None, line)


def test_an_output_that_is_full_hides_no_other_error(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    with open("/dev/full", "w") as full:
        done = apart.run(SAY, 1, "DataError('broken')", stdout=full)
    assert done == (2, None, f"{WARNING}error: broken\n")


# --- one_line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\n\n  b\t c \r\n", "a b c"),
        ("", "ValueError"),
        (" \n", "ValueError"),
        ("ä 漢 ×", "ä 漢 ×"),
        ("\x1b[31mred\x07\0 \udcff \u202e", "\\x1b[31mred\\x07\\x00 \\udcff \\u202e"),
        ("Original Traceback is no word of ours", "Original Traceback is no word of ours"),
        ("a:\nOriginal Traceback\nb", "a: Original Traceback b"),
    ],
)
def test_a_message_is_one_line_that_can_be_shown(message, line):
    assert one_line(ValueError(message)) == line


@given(message=st.text())
def test_whatever_a_message_holds_it_is_one_line(message):
    line = one_line(DataError(message))
    assert line and line.isprintable() and line == line.strip()
    assert line.encode()


class Odd(Exception):
    """One that cannot be made of a message alone."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def chained():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise DataError("x.jpg is broken: mend it") from error


def thrown(error):
    def throw():
        raise error

    return throw


def as_a_worker_passes_it_on(throw):
    try:
        throw()
    except Exception:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(Exception, match="Original Traceback") as caught:
        wrapper.reraise()
    return caught.value


@pytest.mark.parametrize(
    ("throw", "line"),
    [
        (thrown(DataError("x.jpg is broken: mend it")), "x.jpg is broken: mend it"),
        (chained, "x.jpg is broken: mend it"),
        (thrown(DataError("x.jpg\nis broken:\n  mend it")), "x.jpg is broken: mend it"),
        (thrown(DataError("x.jpg\n\x1b[31mTraceback")), "x.jpg \\x1b[31mTraceback"),
        (thrown(DataError()), "DataError"),
        (thrown(ValueError("a: b: c")), "a: b: c"),
        (thrown(KeyError("x")), "'x'"),
        (thrown(Odd("a", "b")), "a and b"),
    ],
)
def test_an_error_that_a_worker_passes_on_is_its_message(throw, line):
    assert one_line(as_a_worker_passes_it_on(throw)) == line


class Faulty(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, i):
        chained()


def test_an_error_in_a_loader_s_worker_is_reported_in_one_line(capfd):
    batches = iter(torch.utils.data.DataLoader(Faulty(), num_workers=1))
    with pytest.raises(SystemExit), reported():
        next(batches)
    batches._shutdown_workers()
    assert capfd.readouterr() == ("", "error: x.jpg is broken: mend it\n")


# --- scripts of the user's -----------------------------------------------------------------------

SCRIPT = """
from adapruner_det.errors import *
show_data_errors_as_one_line()
show_data_errors_as_one_line()
raise eval(sys.argv[1])
"""


def test_what_is_like_a_name_is_asked_for():
    names = ["random", "random-hard", "moderate", "herding"]
    assert did_you_mean("randm", names) == "did you mean random? "
    assert did_you_mean("randm", names, 2) == "did you mean random or random-hard? "
    assert did_you_mean("xyz", names) == ""


def test_a_script_ends_with_the_line_and_no_traceback():
    assert apart.run(SCRIPT, r"DataError('x is\nbroken')") == (1, "", "error: x is broken\n")


def test_a_script_s_own_errors_keep_their_traceback():
    code, out, err = apart.run(SCRIPT, "KeyError('x')")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last)") and err.endswith("KeyError: 'x'\n")


def test_a_hook_of_the_user_s_stays():
    own = "import sys\nsys.excepthook = lambda kind, *_: print('mine', kind.__name__)\n"
    for error in ("DataError('x')", "KeyError('x')"):
        name = error.partition("(")[0]
        assert apart.run(own + SCRIPT, error) == (1, f"mine {name}\n", "")


def test_the_hook_is_for_data_errors_alone(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    show_data_errors_as_one_line()
    assert sys.excepthook is not sys.__excepthook__
