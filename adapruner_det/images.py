"""Image files: which are read, how, and the check that all of them can be before a run begins.

Shape letters: H and W pixels, C channels.

Detectron2 and torchvision open files with Pillow and make 8 bits a channel of whatever comes; some
files lose what they show on the way, and some never end. Here a file is either read without loss,
or refused with its name.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sqlite3
import stat
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps
from tqdm import tqdm

from .errors import DataError

logger = logging.getLogger(__name__)

#: Modes of Pillow's that become RGB or grey of 8 bits with no more lost than an alpha channel.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

#: A larger image is refused: it would take over half a gigabyte, a decompression bomb even more.
MAX_PIXELS = 178_956_970

_ORIENTATION = 274  # EXIF's tag


class ImageFacts(NamedTuple):
    """What is known of an image file once it has been read in full.

    Attributes:
        problem: why it cannot be used; empty if it can.
        width, height: in pixels, after its EXIF orientation; 0 with a problem.
        mode: Pillow's.
        digest: SHA-256 of the file's bytes, its first 16 hexadecimal digits.
        note: what is lost when it is read (transparency, further frames); empty if nothing.
    """

    problem: str
    width: int = 0
    height: int = 0
    mode: str = ""
    digest: str = ""
    note: str = ""

    @property
    def is_grey(self) -> bool:
        """Whether it has no colour channels."""
        return self.mode in ("1", "L", "LA")


def read_upright(path: str | Path) -> Image.Image:
    """The decoded image, turned as its EXIF orientation says.

    Raises:
        DataError: a file that cannot be used, with its name and the reason.
    """
    image, facts = _read(path)
    if image is None:
        raise DataError(f"{path} {facts.problem}; replace or remove it")
    return image


def inspect(path: str | Path) -> ImageFacts:
    """Read a file in full and say what it is. It raises nothing for whatever the file holds."""
    return _read(path)[1]


def check_images(
    paths: Sequence[str], label: str = "checking images", workers: int | None = None
) -> dict[str, ImageFacts]:
    """:func:`inspect` every file, several at a time, with a progress bar.

    What was found is kept in :func:`cache_file` by path, size and time of change, so that a second
    check reads no unchanged file.

    Args:
        paths: the files; one that is there twice is read once.
        label: of the progress bar.
        workers: threads; by default one a core.

    Returns:
        path → what is known of it, of every path.
    """
    distinct = dict.fromkeys(paths)
    stamps = {path: _stamp(path) for path in distinct}
    found = _cached(stamps)
    missing = [path for path in distinct if path not in found]
    if not missing:
        return found
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS decides
        facts = pool.map(inspect, missing)
        bar = tqdm(
            facts, label, len(missing), unit="image", mininterval=1, leave=False, disable=None
        )
        fresh = dict(zip(missing, bar, strict=True))
    _remember({path: (stamps[path], facts) for path, facts in fresh.items()})
    return found | fresh


def cache_file() -> Path:
    """Where checks are kept: ``images.sqlite`` in $ADAPRUNER_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("ADAPRUNER_CACHE") or Path(home) / "adapruner_det") / "images.sqlite"


def _read(path: str | Path) -> tuple[Image.Image | None, ImageFacts]:
    try:
        data = _bytes(path)
        with Image.open(io.BytesIO(data)) as image:
            problem = _header_problem(image)
            if problem:
                return None, ImageFacts(problem)
            image.load()
            upright = _upright(image)
            facts = ImageFacts(
                "", *upright.size, image.mode, hashlib.sha256(data).hexdigest()[:16], _note(image)
            )
            return upright, facts
    except Image.DecompressionBombError:
        return None, ImageFacts(f"has more than {MAX_PIXELS:,} pixels")
    except DataError as error:
        return None, ImageFacts(str(error))
    except Image.UnidentifiedImageError:
        return None, ImageFacts("is not an image that Pillow knows")
    except Exception as error:  # whatever a decoder meets in a damaged file
        text = " ".join(str(error).split()) or type(error).__name__
        return None, ImageFacts(f"does not decode: {text}")


def _bytes(path: str | Path) -> bytes:
    """The bytes of a regular file. A DataError says what is wrong, without the name."""
    try:
        os.fspath(path).encode() if isinstance(path, str) else str(path).encode()
    except UnicodeEncodeError:
        raise DataError("has a name that is not UTF-8: rename it") from None
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a regular file")
        if not status.st_size:
            raise DataError("is empty")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("is not there") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot be read: {reason}") from error


def _header_problem(image: Image.Image) -> str:
    if image.width * image.height > MAX_PIXELS:
        return f"has {image.width}×{image.height} pixels, more than {MAX_PIXELS:,}"
    if image.mode not in MODES:
        deep = image.mode.startswith(("I", "F"))
        why = "more than 8 bits a pixel, which would be cut off" if deep else "no way to RGB"
        return f"has the mode {image.mode!r}, {why}: convert it to 8-bit grey or RGB"
    return ""


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        return ImageOps.exif_transpose(image) if turned else image.copy()
    except Exception:  # EXIF that does not parse says nothing; Detectron2 takes it so too
        return image.copy()


def _note(image: Image.Image) -> str:
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO's are previews
        return "has several frames, of which the first is read"
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema()[0] < 255:
        return "has transparent parts, whose hidden colours are read"
    if image.mode == "P" and "transparency" in image.info:
        return "has transparent parts, whose hidden colours are read"
    return ""


_CHUNK = 500  # paths of one question to the cache; SQLite takes at least 999

_Stamp = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


_TABLE = """CREATE TABLE IF NOT EXISTS images_1 (path BLOB PRIMARY KEY, size INTEGER, time INTEGER,
problem TEXT, width INTEGER, height INTEGER, mode TEXT, digest TEXT, note TEXT) WITHOUT ROWID"""


def _cached(stamps: dict[str, _Stamp | None]) -> dict[str, ImageFacts]:
    """The facts of those paths whose stamp is the remembered one."""
    if not cache_file().is_file():
        return {}
    found = {}
    paths = {_cache_key(path): path for path in stamps}
    keys = list(paths)
    try:
        with closing(_connection()) as connection:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT * FROM images_1 WHERE path IN ({marks})"
                for key, size, time, *facts in connection.execute(query, chunk):
                    if stamps[paths[key]] == (size, time):
                        found[paths[key]] = ImageFacts(*facts)
    except (sqlite3.Error, OSError) as error:
        logger.debug("The cache of checked images is not read: %s", error)
    return found


def _remember(facts: dict[str, tuple[_Stamp | None, ImageFacts]]) -> None:
    """Keep what is fit for use; a faulty file is looked at again each time."""
    rows = [
        (_cache_key(path), *stamp, *found)
        for path, (stamp, found) in facts.items()
        if stamp is not None and not found.problem
    ]
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        try:
            _insert(rows)
        except sqlite3.DatabaseError:  # torn: begin anew
            cache_file().unlink(missing_ok=True)
            _insert(rows)
    except (sqlite3.Error, OSError) as error:
        logger.debug("The cache of checked images is not written: %s", error)


def _insert(rows: Iterable[tuple[object, ...]]) -> None:
    with closing(_connection()) as connection, connection:
        connection.execute(_TABLE)
        connection.executemany("INSERT OR REPLACE INTO images_1 VALUES (?,?,?,?,?,?,?,?,?)", rows)


def _connection() -> sqlite3.Connection:
    return sqlite3.connect(cache_file(), timeout=30)


def _cache_key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))
