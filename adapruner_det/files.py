"""Files of a run: whole or absent, in a folder that one run at a time owns."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import DataError

logger = logging.getLogger(__name__)

#: Marks a file that is being written; nothing else in a run's folder is named so.
PART = ".part~"
LOCK_FILE = ".lock"


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let ``write`` fill a file that appears under ``path`` only once all of it is on the disk.

    Args:
        path: the file; its folder is made.
        write: takes an open binary file.

    Raises:
        DataError: the disk is full, closed to writing or gone; what stood at ``path`` stays.
    """
    path = Path(path)
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        _remove(name)
        # torch.save meets a full disk with an error of its own, which hides the system's.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise DataError(
            f"{path} cannot be written: {reason}; free space there or set another OUTPUT_DIR"
        ) from error
    except BaseException:
        _remove(name)
        raise
    return path


def sweep(folder: str | Path) -> None:
    """Remove what :func:`write_whole` had begun in ``folder`` when a run was killed."""
    for path in Path(folder).glob(f".*{PART}"):
        path.unlink(missing_ok=True)


def require_writable(folder: str | Path) -> None:
    """Raise a DataError unless a file can be made in ``folder``, which is made if need be.

    The folders that it had to make are removed again where that fails.
    """
    folder = Path(folder)
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=PART) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        for path in made:
            if path.is_dir():
                path.rmdir()
        raise DataError(
            f"OUTPUT_DIR {str(folder)!r} cannot be written to: {error}; set another OUTPUT_DIR"
        ) from error


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold ``folder`` for one run; the lock goes with the process, however that ends.

    Raises:
        DataError: another run holds it.
    """
    path = Path(folder) / LOCK_FILE
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another run is writing to {str(folder)!r}; wait for it or set another OUTPUT_DIR"
            ) from None
        except OSError as error:  # a file system without locks
            logger.warning("%s cannot be locked: %s", path, error)
        yield


def set_aside(folder: str | Path, patterns: Iterable[str]) -> Path | None:
    """Move an earlier run's files out of the way of a new one, into ``folder/old-<number>``.

    Args:
        folder: of both runs.
        patterns: of the names of the files that move, as for ``Path.glob``.

    Returns:
        Where they went, or None where there were none.
    """
    folder = Path(folder)
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not found:
        return None
    number = 1
    while (folder / f"old-{number}").exists():
        number += 1
    target = folder / f"old-{number}"
    target.mkdir()
    for path in found:
        path.rename(target / path.name)
    logger.warning(
        "The %d file(s) of an earlier run in %s are now in %s.", len(found), folder, target
    )
    return target


def is_whole_zip(path: str | Path) -> bool:
    """Whether every entry of a zip archive, as ``torch.save`` writes one, has its own checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


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


def _remove(name: str) -> None:
    if name:
        Path(name).unlink(missing_ok=True)
