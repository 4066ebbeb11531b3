"""Image files: which are read, how, and what is known of each once it has been read.

Shape letters: H and W pixels, C channels.

Detectron2 and torchvision open files with Pillow and make 8 bits a channel of whatever comes; some
files lose what they show on the way, and some never end. Here a file is either read without loss,
or refused with its name.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from .errors import DataError

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


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name, without others above it, is none of the user's."""
    return name.startswith(".") or name in NOT_THE_USERS


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
