"""The one exception that means: what the user gave is at fault, not the code."""

import difflib
import errno
import io
import logging
import os
import re
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

#: What an operating system says of a disk that takes no more, rather than of a fault in the code.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM)

#: What is longer than this is shortened in the middle: names and paths can be of any length.
MOST_CHARACTERS = 900


class DataError(ValueError):
    """An error in what the user gave: tools print it as one line and exit with 2.

    Its message says what was wrong, what was expected and what to do, on one line.
    """


class DamagedCheckpoints(DataError):
    """A folder has checkpoints, of which none is whole.

    Args:
        fault: what was found; the message says besides what a user can do.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}; start anew without --resume, which sets them aside")
        self.fault = fault


@contextmanager
def reported() -> Iterator[None]:
    """Print what is the user's to mend as one line on stderr and exit with 2, as every tool does.

    That is a DataError, a disk that is full or closed to writing, and a run that diverged. Where
    what reads the output has gone (``| head``), it ends without a word, as other programs do. What
    the encoding of the output lacks, such as a byte in a file's name, is written as an escape.
    Warnings that are logged before a run has set up its logs begin with "warning: ".
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.closed:
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        _flush_stdout()  # or Python would meet a full disk or a closed pipe when it ends
    except DataError as error:
        line = one_line(error)
    except BrokenPipeError:
        if not _nobody_reads_stdout():
            raise
        _turn_stdout_off()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        deed = "opened" if error.errno in (errno.EACCES, errno.EPERM) else "written"
        line = f"{error.filename or 'a file'} cannot be {deed}: {error.strerror}"
    except FloatingPointError as error:  # Detectron2's, for losses that are NaN or infinite
        line = f"training diverged: {one_line(error)}; lower the learning rate"
    else:
        return
    _turn_stdout_off()
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(2)


def shown(text: str) -> str:
    """``text`` as it can stand in a line: escaped where it has what is no visible letter."""
    return text if text.isprintable() else repr(text)


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """A question that names what of ``known`` is like ``name``, and a space; empty for nothing.

    Args:
        name: that nothing has.
        known: names.
        most: so many are named.
    """
    near = difflib.get_close_matches(name, list(known), most)
    return f"did you mean {' or '.join(near)}? " if near else ""


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line, all of it printable; the type where it has none.

    Of an error that a loader's worker process met, PyTorch makes one of the same type whose message
    is the worker's whole traceback; what follows the type in it is the message.
    """
    text = str(error)
    found = re.match(r"Caught (\w+) in .*\nOriginal Traceback ", text)
    if found:
        parts = re.split(rf"^(?:\w+\.)*{found[1]}(?:: |$)", text.strip(), flags=re.MULTILINE)
        text = parts[-1] if len(parts) > 1 else text.strip().splitlines()[-1]
    text = " ".join(text.split()) or (found[1] if found else type(error).__name__)
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]} [...] {text[-half:]}"
    # Names of files may hold what a terminal obeys, or no encoding has.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show_data_errors_as_one_line() -> None:
    """Let a script of the user's, without :func:`reported`, end with the line and no traceback."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, DataError):
        sys.stderr.write(f"error: {one_line(error)}\n")
    else:
        sys.__excepthook__(kind, error, traceback)


def _flush_stdout() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _nobody_reads_stdout() -> bool:
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):  # none, or none that a system knows
        return False


def _turn_stdout_off() -> None:
    """Let what stdout cannot take go nowhere: Python would stumble over it when it ends."""
    try:
        _flush_stdout()
    except OSError:
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
