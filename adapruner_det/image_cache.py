"""What is known of image files that were read in full, on disk and in this process."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from .images import ImageFacts

logger = logging.getLogger(__name__)

#: Size in bytes, and the times of the last change of content and of the file's entry, in
#: nanoseconds: tools that turn a photograph in place may set the first time back.
Stamp = tuple[int, int, int]

_CHUNK = 900  # paths of one question to the cache; SQLite takes at least 999

_COLUMNS = "path, size, modified, changed, problem, width, height, mode, digest, note"
_TABLE = """CREATE TABLE IF NOT EXISTS images_2 (path BLOB PRIMARY KEY, size INTEGER,
modified INTEGER, changed INTEGER, problem TEXT, width INTEGER, height INTEGER, mode TEXT,
digest TEXT, note TEXT) WITHOUT ROWID"""

# What the cache on disk did not take: absolute path → stamp and facts, half a kB an image.
_kept: dict[str, tuple[Stamp, ImageFacts]] = {}


def cache_file() -> Path:
    """Where checks are kept: ``images.sqlite`` in $ADAPRUNER_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("ADAPRUNER_CACHE") or Path(home) / "adapruner_det") / "images.sqlite"


def stamp_of(path: str) -> Stamp | None:
    """None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def known(stamps: dict[str, Stamp | None]) -> dict[str, ImageFacts]:
    """The facts of those paths whose stamp is the remembered one, whoever remembers."""
    found = _kept_here(stamps)
    # A path without a stamp may be none that a file system could have, half a letter say.
    rest = {p: stamp for p, stamp in stamps.items() if p not in found and stamp is not None}
    return found | _on_disk(rest)


def remember(facts: dict[str, tuple[Stamp, ImageFacts]]) -> str:
    """Keep ``facts`` on disk; why the cache takes nothing, empty where it does."""
    try:
        keys = _cache_keys(facts)
        rows = [(keys[path], *stamp, *found) for path, (stamp, found) in facts.items()]
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        try:
            _insert(rows)
        except sqlite3.DatabaseError as error:
            if not _is_torn(error):
                raise
            _discard()
            _insert(rows)
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return reason or type(error).__name__
    return ""


def keep_here(facts: dict[str, tuple[Stamp, ImageFacts]], why: str) -> None:
    """Keep ``facts`` in this process; the first time, say that the cache cannot be written."""
    if facts and not _kept:
        logger.warning(
            "What is known of images cannot be kept in %s: %s; this process remembers it, and the "
            "next decodes them all again. Set ADAPRUNER_CACHE to a folder that can be written.",
            cache_file(),
            why,
        )
    places = _places(facts)
    _kept.update((places[path], own) for path, own in facts.items())


def _kept_here(stamps: dict[str, Stamp | None]) -> dict[str, ImageFacts]:
    """The facts that this process keeps of those paths whose stamp is the remembered one."""
    found = {}
    if _kept:
        for path, place in _places(stamps).items():
            stamp, facts = _kept.get(place, (None, None))
            if facts is not None and stamp == stamps[path]:
                found[path] = facts
    return found


def _on_disk(stamps: dict[str, Stamp]) -> dict[str, ImageFacts]:
    """The facts that the file keeps of those paths whose stamp is the remembered one."""
    try:
        if not cache_file().is_file():
            return {}
        keys = _cache_keys(stamps)
        wanted = list(keys.values())
        rows = {}
        with closing(_connection()) as connection:
            for start in range(0, len(wanted), _CHUNK):
                chunk = wanted[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT {_COLUMNS} FROM images_2 WHERE path IN ({marks})"
                for row in connection.execute(query, chunk):
                    rows[row[0]] = row
    except (sqlite3.Error, OSError) as error:
        logger.debug("The cache of checked images is not read: %s", error)
        if _is_torn(error):
            _discard()
        return {}
    found = {}
    for path, stamp in stamps.items():
        row = rows.get(keys[path])
        if row is not None and row[1:4] == stamp:
            found[path] = ImageFacts._make(row[4:])
    return found


def _insert(rows: Iterable[tuple[object, ...]]) -> None:
    with closing(_connection()) as connection, connection:
        connection.execute(_TABLE)
        marks = ",".join("?" * len(_COLUMNS.split(",")))
        connection.executemany(
            f"INSERT OR REPLACE INTO images_2 ({_COLUMNS}) VALUES ({marks})", rows
        )


def _is_torn(error: Exception) -> bool:
    # Not a class under it: those tell of one that is in use, full or closed to writing.
    return type(error) is sqlite3.DatabaseError


def _discard() -> None:
    with suppress(OSError):
        cache_file().unlink()


def _connection() -> sqlite3.Connection:
    return sqlite3.connect(cache_file(), timeout=10)


def _cache_keys(paths: Iterable[str]) -> dict[str, bytes]:
    return {path: os.fsencode(place) for path, place in _places(paths).items()}


def _places(paths: Iterable[str]) -> dict[str, str]:
    """Each path from the root; one that is so already is the same object and takes no memory."""
    try:
        here = os.getcwd()
    except OSError:  # it is gone, and what is named from there with it
        here = ""
    # Not os.path.abspath, which takes "link/../x" for "x".
    return {path: os.path.join(here, path) for path in paths}
