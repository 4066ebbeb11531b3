"""The one exception that means: what the user gave is at fault, not the code."""

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

logger = logging.getLogger(__name__)

#: What an operating system says of a disk that takes no more, rather than of a fault in the code.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM)


class DataError(ValueError):
    """An error in what the user gave: tools print it as one line and exit with 2.

    Its message says what was wrong, what was expected and what to do, on one line.
    """


@contextmanager
def reported() -> Iterator[None]:
    """Print what is the user's to mend as one line on stderr and exit with 2, as every tool does.

    That is a DataError, a disk that is full or closed to writing, and a run that diverged. Warnings
    that are logged before a run has set up its logs begin with "warning: ".
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))
    try:
        yield
    except DataError as error:
        line = one_line(error)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        line = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
    except FloatingPointError as error:  # Detectron2's, for losses that are NaN or infinite
        line = f"training diverged: {one_line(error)}; lower the learning rate"
    else:
        return
    logger.debug("The error in full:", exc_info=True)
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(2)


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line.

    Of an error that a loader's worker process met, PyTorch makes one of the same type whose message
    is the worker's whole traceback; its last line is the message.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and any(line.startswith("Original Traceback") for line in lines):
        return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1]
    return " ".join(" ".join(lines).split())


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
