"""Files of a run: whole or absent, in a folder that one run at a time owns."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DataError

logger = logging.getLogger(__name__)

#: Marks a file that is being written; nothing else in a run's folder is named so.
PART = ".part~"
LOCK_FILE = ".lock"

#: What a run calls the configuration that it leaves in its folder, as Detectron2's do.
CONFIG_FILE = "config.yaml"

#: What a report is called that a run leaves in its folder.
REPORT = "report.html"

#: What a selection, the cuts of it and their report are called in a run's folder, for
#: :func:`set_aside`; of a report also its thumbnails, and the predictions that it shows.
SELECTION_FILES = (
    *("selection*.json", "selection*.npz", "selection*.npz.new"),
    *(REPORT, "report_thumbnails", "report.predictions.npz"),
)

_UMASK = os.umask(0)  # it can only be asked for by setting it
os.umask(_UMASK)


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let ``write`` fill a file that appears under ``path`` only once all of it is on the disk.

    Args:
        path: the file; its folder is made.
        write: takes an open binary file.

    Raises:
        DataError: the disk is full, closed to writing or gone; what stood at ``path`` stays.
    """
    path = Path(path)
    part = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = _open_part(path.parent, path.name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_UMASK)  # as any new file
        os.replace(part, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        _remove(part)
        # torch.save meets a full disk with an error of its own, which hides the system's.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise DataError(
            f"{path} cannot be written: {reason.strerror or reason}; free space there or write to "
            "another folder"
        ) from error
    except BaseException:
        _remove(part)
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Let a file of ``text``, in UTF-8, appear as :func:`write_whole` has it."""
    return write_whole(path, lambda file: file.write(text.encode()))


def sha256(file: IO[bytes]) -> str:
    """SHA-256 of an open file, in hexadecimal; it is at its start again after it."""
    total = hashlib.sha256()
    while block := file.read(1 << 20):
        total.update(block)
    file.seek(0)
    return total.hexdigest()


def sha256_at(path: str | Path) -> str:
    """SHA-256 of the file at ``path``, in hexadecimal."""
    with open(path, "rb") as file:
        return sha256(file)


def file_digest(path: str | Path) -> tuple[str, ...]:
    """What tells a file that a result hangs on from another one at its place; empty without one."""
    return (sha256_at(path),) if str(path) and Path(path).is_file() else ()


def sweep(folder: str | Path) -> None:
    """Remove what :func:`write_whole` had begun in ``folder`` when a run was killed."""
    for path in Path(folder).glob(f".*{PART}"):
        _remove(path)


def require_writable(folder: str | Path, setting: str = "OUTPUT_DIR") -> None:
    """Raise a DataError unless a file can be made in ``folder``, which is made if need be.

    The folders that it had to make are removed again where that fails.

    Args:
        folder: to be written to.
        setting: the option, or the key of a configuration, that says which folder it is.
    """
    folder = Path(folder)
    # os.path's, which takes a name that cannot be for one that is not there.
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    part = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = _open_part(folder, "test")
        with os.fdopen(handle, "wb") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        os.unlink(part)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        _remove(part)
        for path in made:
            with suppress(OSError, ValueError):
                path.rmdir()
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{setting} {str(folder)!r} cannot be written to: {reason}; set another {setting}"
        ) from error


#: The locks that are held; a process that is forked has them too until it lets go.
_held: set[IO[str]] = set()


def _let_go() -> None:
    for file in _held:
        file.close()
    _held.clear()


# Otherwise a loader's worker that outlives its killed run by seconds would keep it from resuming.
os.register_at_fork(after_in_child=_let_go)


class FolderInUse(DataError):
    """A run's folder that another run holds."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold ``folder`` for one run; the lock goes with the process, however that ends.

    Raises:
        FolderInUse: another run holds it.
        DataError: its lock file cannot be opened.
    """
    path = Path(folder) / LOCK_FILE
    try:
        file = path.open("a")
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened: {error.strerror}; remove it or set another OUTPUT_DIR"
        ) from error
    with file:
        _held.add(file)
        try:
            _lock(file, path)
            yield
        finally:
            _held.discard(file)


def _lock(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(
            f"another run is writing to {str(path.parent)!r}; wait for it or set another OUTPUT_DIR"
        ) from None
    except OSError as error:  # a file system without locks
        logger.warning("%s cannot be locked: %s", path, error.strerror)


def set_aside(
    folder: str | Path, patterns: Iterable[str], along: Iterable[str] = ()
) -> Path | None:
    """Move an earlier run's files out of the way of a new one, into ``folder/old-<number>``.

    Args:
        folder: of both runs.
        patterns: of the names of the files that move, as for ``Path.glob``.
        along: of those that move where any of these do.

    Returns:
        Where they went, or None where there were none.
    """
    folder = Path(folder)
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not found:
        return None
    found += sorted({path for pattern in along for path in folder.glob(pattern)} - {*found})
    number = 1
    while os.path.lexists(folder / f"old-{number}"):
        number += 1
    target = folder / f"old-{number}"
    target.mkdir()
    for path in found:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    logger.warning(
        "The %d file(s) of an earlier run in %s are now in %s.", len(found), folder, target
    )
    return target


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Whether ``path``, or the file that it is a link to, is an entry of ``folder``."""
    places = os.path.abspath(path), os.path.realpath(path)
    return os.path.realpath(folder) in [os.path.realpath(os.path.dirname(p)) for p in places]


def _open_part(folder: Path, name: str) -> tuple[int, str]:
    # Of a long name the beginning: the whole must be one that a file can have.
    return tempfile.mkstemp(dir=folder, prefix=f".{name[:32]}.", suffix=PART)


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a loss of power, where the system lets a folder sync."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _remove(name: str | Path) -> None:
    with suppress(OSError, ValueError):
        os.unlink(name)
