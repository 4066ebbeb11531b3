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
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from .errors import DataError

logger = logging.getLogger(__name__)

#: Modes of Pillow's that become RGB or grey of 8 bits with no more lost than an alpha channel.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

#: A larger image is refused: it would take over half a gigabyte, a decompression bomb even more.
MAX_PIXELS = 178_956_970

#: A larger file is refused before it is read: no image of MAX_PIXELS needs as much.
MAX_BYTES = 2**30

#: Formats that Pillow lets another program draw, which may run any code, or for ever.
PROGRAMS = ("EPS", "WMF")

#: Those of the files that are looked at, in the order of preference where a reader takes one of
#: several: Detectron2's own reads .jpg alone.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".jpe", ".apng", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)

#: Folders that programs make of their own accord, beside those whose name begins with a dot.
NOT_THE_USERS = ("__MACOSX", "@eaDir")

_ORIENTATION = 274  # EXIF's tag

#: EXIF's orientation → what turns the image upright, as Detectron2 has it.
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


class ImageFacts(NamedTuple):
    """What is known of an image file once it has been read in full.

    Attributes:
        problem: why it cannot be used; empty if it can.
        width, height: in pixels, after its EXIF orientation; 0 with a problem.
        mode: Pillow's.
        digest: SHA-256 of the file's bytes, its first 16 hexadecimal digits.
        note: what is lost when it is read (transparency, further frames, bits beyond the eighth);
            empty if nothing.
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
    try:
        image = _decoded(path).image
        turn = _turn(image)
        return image.copy() if turn is None else image.transpose(turn)
    except DataError as error:
        raise DataError(f"{path} {error}; replace or remove it") from error


def inspect(path: str | Path) -> ImageFacts:
    """Read a file in full and say what it is. It raises nothing for whatever the file holds."""
    try:
        image, data, deep = _decoded(path)
    except DataError as error:
        return ImageFacts(str(error))
    width, height = image.size[::-1] if _turn(image) in _SIDEWAYS else image.size
    digest = hashlib.sha256(data).hexdigest()[:16]
    return ImageFacts("", width, height, image.mode, digest, _note(image, deep))


def format_of(path: str) -> str:
    """Pillow's name of a file's format by its head, such as ``JPEG``; empty where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size
        try:
            with Image.open(path) as image:
                return image.format or ""
        except Exception:  # whatever the file holds
            return ""


def check_images(
    paths: Sequence[str], label: str = "checking images", workers: int | None = None
) -> dict[str, ImageFacts]:
    """:func:`inspect` every file, several at a time, with a progress bar.

    What was found is kept in :func:`cache_file` by path, size and time of change, so that a second
    check reads no unchanged file. Where it cannot be written, which is said once, that holds within
    this process. A check that is interrupted keeps what it has found.

    Args:
        paths: the files; one that is there twice is read once.
        label: of the progress bar.
        workers: threads; by default one a core.

    Returns:
        path → what is known of it, of every path, in the order in which they are given.
    """
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
    found = _kept_here(stamps)
    found |= _cached({path: stamp for path, stamp in stamps.items() if path not in found})
    missing = [path for path in stamps if path not in found]
    if missing:
        found |= _inspect_all(missing, stamps, label, workers or os.cpu_count() or 1)
    return {path: found[path] for path in stamps}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name, without others above it, is none of the user's."""
    return name.startswith(".") or name in NOT_THE_USERS


def cache_file() -> Path:
    """Where checks are kept: ``images.sqlite`` in $ADAPRUNER_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("ADAPRUNER_CACHE") or Path(home) / "adapruner_det") / "images.sqlite"


_WINDOW = 4096  # files that are waited for at a time; each that waits takes 2 kB


def _inspect_all(
    paths: Sequence[str], stamps: dict[str, _Stamp | None], label: str, workers: int
) -> dict[str, ImageFacts]:
    found: dict[str, ImageFacts] = {}
    unwritable = ""
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            desc=label, total=len(paths), unit=" images", mininterval=1, leave=False, disable=None
        ) as bar,
    ):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters stands in the facts
        for start in range(0, len(paths), _WINDOW):
            window = paths[start : start + _WINDOW]
            try:
                for path, facts in zip(window, pool.map(inspect, window), strict=True):
                    found[path] = facts
                    bar.update()
            except BaseException:  # Ctrl-C: what has not begun is not waited for
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                sound = _fit_to_keep(window, stamps, found)
                unwritable = unwritable or _remember(sound)
                if unwritable:
                    bar.clear()  # for the line that a warning takes
                    _keep_here(sound, unwritable)
    return found


class _Decoded(NamedTuple):
    image: Image.Image
    data: bytes
    deep: bool


def _decoded(path: str | Path) -> _Decoded:
    """The image as it is stored, the bytes of its file, and whether it has 16 bits a channel.

    A DataError says what is wrong with the file, without its name.
    """
    try:
        data = _bytes(path)
        image = Image.open(io.BytesIO(data))
        _require_readable(image)
        deep = ";16" in str(image.tile[:1])  # how the decoder is to read it; gone once it has
        image.load()
        _require_mode(image.mode)  # a few formats tell theirs only now
        return _Decoded(image, data, deep)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise DataError("is not an image that Pillow knows") from None
    except Exception as error:  # whatever a decoder meets in a damaged file
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"does not decode: {text}") from error


def _bytes(path: str | Path) -> bytes:
    """The bytes of a regular file. A DataError says what is wrong, without the name."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError("has a name that is not UTF-8: rename it") from None
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is not a regular file")
        if not status.st_size:
            raise DataError("is empty")
        if status.st_size > MAX_BYTES:
            raise DataError(f"has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("is not there") from None
    except DataError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot be read: {reason}") from error


def _require_readable(image: Image.Image) -> None:
    """Raise a DataError for what its header tells already, before it is decoded."""
    if image.format in PROGRAMS:
        raise DataError(f"is {image.format}, a drawing and no picture: convert it to PNG or JPEG")
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"has {image.width}×{image.height} pixels, more than {MAX_PIXELS:,}")
    _require_mode(image.mode)
    # Pillow turns a TIFF while it decodes it, and Detectron2 then turns it once more.
    if image.format == "TIFF" and _turn(image) is not None:
        raise DataError("is a TIFF with an orientation, which readers disagree on: save it upright")


def _require_mode(mode: str) -> None:
    if mode not in MODES:
        deep = mode.startswith(("I", "F"))
        why = "more than 8 bits a pixel, which would be cut off" if deep else "no way to RGB"
        raise DataError(f"has the mode {mode!r}, {why}: convert it to 8-bit grey or RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    # Not ImageOps.exif_transpose: it writes the EXIF anew, which not all EXIF can stand.
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # EXIF that does not parse says nothing; Detectron2 takes it so too
        return None


def _note(image: Image.Image, deep: bool) -> str:
    """What Detectron2 and torchvision do not read of a decoded image."""
    notes = ["has 16 bits a channel, of which the upper 8 are read"] if deep else []
    # Those of an MPO are previews, those of a PSD layers of the one picture.
    if image.format not in ("MPO", "PSD") and _has_frames(image):
        notes.append("has several frames, of which the first is read")
    if _is_see_through(image):
        notes.append("has transparent parts, whose hidden colours are read")
    return ", and ".join(notes)


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # there is a second one, which does not parse
        return True


def _is_see_through(image: Image.Image) -> bool:
    try:
        if image.mode in ("RGBA", "LA", "PA"):
            alpha = image.getchannel("A")
        elif "transparency" in image.info:  # of a palette's entries, or one colour
            alpha = image.convert("RGBA").getchannel("A")
        else:
            return False
    except Exception:  # no sense in what the file says of it
        return False
    return alpha.getextrema()[0] != 255


_CHUNK = 900  # paths of one question to the cache; SQLite takes at least 999

# Size in bytes, and the times of the last change of content and of the file's entry, in
# nanoseconds: tools that turn a photograph in place may set the first time back.
_Stamp = tuple[int, int, int]


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


# What the cache on disk did not take: absolute path → stamp and facts, half a kB an image.
_kept: dict[str, tuple[_Stamp, ImageFacts]] = {}


def _fit_to_keep(
    paths: Iterable[str], stamps: dict[str, _Stamp | None], found: dict[str, ImageFacts]
) -> dict[str, tuple[_Stamp, ImageFacts]]:
    """Stamp and facts of what was found sound; a faulty file is looked at again each time."""
    facts = {}
    for path in paths:
        stamp = stamps[path]
        if stamp is not None and path in found and not found[path].problem:
            facts[path] = stamp, found[path]
    return facts


def _kept_here(stamps: dict[str, _Stamp | None]) -> dict[str, ImageFacts]:
    """The facts that this process keeps of those paths whose stamp is the remembered one."""
    found = {}
    if _kept:
        for path, place in _places(stamps).items():
            stamp, facts = _kept.get(place, (None, None))
            if facts is not None and stamp == stamps[path]:
                found[path] = facts
    return found


def _keep_here(facts: dict[str, tuple[_Stamp, ImageFacts]], why: str) -> None:
    """Keep ``facts`` in this process; the first time, say that the cache cannot be written."""
    if facts and not _kept:
        logger.warning(
            "What is known of images cannot be kept in %s: %s; this process remembers it, and the "
            "next decodes them all again. Set ADAPRUNER_CACHE to a folder that can be written.",
            cache_file(),
            why,
        )
    places = _places(facts)
    _kept.update((places[path], known) for path, known in facts.items())


_COLUMNS = "path, size, modified, changed, problem, width, height, mode, digest, note"
_TABLE = """CREATE TABLE IF NOT EXISTS images_2 (path BLOB PRIMARY KEY, size INTEGER,
modified INTEGER, changed INTEGER, problem TEXT, width INTEGER, height INTEGER, mode TEXT,
digest TEXT, note TEXT) WITHOUT ROWID"""


def _cached(stamps: dict[str, _Stamp | None]) -> dict[str, ImageFacts]:
    """The facts of those paths whose stamp is the remembered one."""
    try:
        if not cache_file().is_file():
            return {}
        keys = _cache_keys(stamps)
        wanted = list(keys.values())
        known = {}
        with closing(_connection()) as connection:
            for start in range(0, len(wanted), _CHUNK):
                chunk = wanted[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT {_COLUMNS} FROM images_2 WHERE path IN ({marks})"
                for row in connection.execute(query, chunk):
                    known[row[0]] = row
    except (sqlite3.Error, OSError) as error:
        logger.debug("The cache of checked images is not read: %s", error)
        if _is_torn(error):
            _discard()
        return {}
    found = {}
    for path, stamp in stamps.items():
        row = known.get(keys[path])
        if row is not None and row[1:4] == stamp:
            found[path] = ImageFacts._make(row[4:])
    return found


def _remember(facts: dict[str, tuple[_Stamp, ImageFacts]]) -> str:
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
