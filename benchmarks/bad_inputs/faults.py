"""Ways in which an image file is not what its name says, and files that are unusual but fine."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .toys import picture

Fault = Callable[[Path], object]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The file's bytes."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def like(path: Path) -> Image.Image:
    """What the file shows before it is spoilt."""
    with Image.open(path) as image:
        return image.convert("RGB")


def replaced(make: Callable[[Image.Image], bytes]) -> Fault:
    """A fault that keeps the name and gives other bytes."""
    return lambda path: path.write_bytes(make(like(path)))


def instead(make: Callable[[Path], object]) -> Fault:
    """A fault that puts something else than a file under the name."""

    def fault(path: Path) -> None:
        path.unlink()
        make(path)

    return fault


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # an address has 108 bytes at most
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _flip(data: bytes, *places: float) -> bytes:
    raw = bytearray(data)
    for place in places:
        raw[int(place * len(raw))] ^= 0xFF
    return bytes(raw)


def png_header(
    width: int, height: int, depth: int = 8, colour: int = 2, body: bytes = b""
) -> bytes:
    """A PNG that states any size, with ``body`` as its compressed pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bomb() -> bytes:
    """20,000 × 20,000 black pixels of one bit."""
    return png_header(20_000, 20_000, 1, 0, b"\0" * (20_000 * 2_501))


def deep_grey(image: Image.Image) -> np.ndarray:
    """(H, W) uint16, 21000 to 60000."""
    return (np.asarray(image.convert("L")).astype(np.float64) / 255 * 39_000 + 21_000).astype(
        np.uint16
    )


def turned(image: Image.Image, orientation: int = 6) -> bytes:
    """A JPEG stored so that only its EXIF orientation makes it ``image``."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image.transpose(undo), "JPEG", quality=95, exif=exif)


#: Name → what makes the file unusable. Each is refused with the file's name.
FAULTS: dict[str, Fault] = {
    "missing": instead(lambda path: None),
    "directory": instead(Path.mkdir),
    "fifo": instead(os.mkfifo),
    "socket": instead(_socket),
    "dangling-link": instead(lambda path: path.symlink_to("nowhere.png")),
    "loop-link": instead(lambda path: path.symlink_to(path.name)),
    "link-to-zero-device": instead(lambda path: path.symlink_to("/dev/zero")),
    "empty": replaced(lambda image: b""),
    "text": replaced(lambda image: b"not an image\n"),
    "web-page": replaced(lambda image: b"<!DOCTYPE html><html><body>404</body></html>"),
    "svg": replaced(lambda image: b'<svg xmlns="http://www.w3.org/2000/svg" width="64"/>'),
    "pdf": replaced(lambda image: b"%PDF-1.4\n%%EOF\n"),
    "git-lfs-pointer": replaced(
        lambda image: b"version https://git-lfs.github.com/spec/v1\nsize 12345\n"
    ),
    "zeros": replaced(lambda image: bytes(4096)),
    "jpeg-cut-in-half": replaced(lambda image: _cut(encoded(image, "JPEG"), 0.6)),
    "jpeg-20-bytes-short": replaced(lambda image: encoded(image, "JPEG", quality=95)[:-20]),
    "jpeg-header-only": replaced(lambda image: encoded(image, "JPEG")[:25]),
    "png-cut-in-half": replaced(lambda image: _cut(encoded(image, "PNG"), 0.5)),
    "png-flipped-bytes": replaced(lambda image: _flip(encoded(image, "PNG"), 0.4, 0.5, 0.6)),
    "png-flipped-header": replaced(lambda image: _flip(encoded(image, "PNG"), 0.002)),
    "png-without-pixels": replaced(lambda image: png_header(64, 48)),
    "webp-cut": replaced(lambda image: _cut(encoded(image, "WEBP"), 0.5)),
    "tiff-cut": replaced(lambda image: _cut(encoded(image, "TIFF"), 0.5)),
    "bmp-cut": replaced(lambda image: _cut(encoded(image, "BMP"), 0.5)),
    "bomb": replaced(lambda image: bomb()),
    "bomb-in-header": replaced(lambda image: png_header(60_000, 60_000)),
    "16-bit-grey-png": replaced(lambda image: encoded(Image.fromarray(deep_grey(image)), "PNG")),
    "16-bit-grey-tiff": replaced(lambda image: encoded(Image.fromarray(deep_grey(image)), "TIFF")),
    "32-bit-grey-tiff": replaced(
        lambda image: encoded(Image.fromarray(deep_grey(image).astype(np.int32)), "TIFF")
    ),
    "float-tiff": replaced(
        lambda image: encoded(Image.fromarray(deep_grey(image).astype(np.float32)), "TIFF")
    ),
    "lab-tiff": replaced(
        lambda image: encoded(Image.frombytes("LAB", image.size, image.tobytes()), "TIFF")
    ),
}

#: Name → files that are read without loss.
FINE: dict[str, Fault] = {
    "cmyk-jpeg": replaced(lambda image: encoded(image.convert("CMYK"), "JPEG")),
    "progressive-jpeg": replaced(lambda image: encoded(image, "JPEG", progressive=True)),
    "palette-png": replaced(lambda image: encoded(image.quantize(32), "PNG")),
    "rgba-png": replaced(lambda image: encoded(image.convert("RGBA"), "PNG")),
    "gif-of-two-frames": replaced(
        lambda image: encoded(image, "GIF", save_all=True, append_images=[picture(1)])
    ),
    "trailing-bytes": replaced(lambda image: encoded(image, "JPEG") + b"\0" * 500),
    "broken-exif": replaced(
        lambda image: encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")
    ),
    "exif-turned": replaced(turned),
    "exif-mirrored": replaced(lambda image: turned(image, 2)),
}

#: Grey images: fine beside grey ones; a classifier refuses or converts them among colour ones.
GREY: dict[str, Fault] = {
    "grey-png": replaced(lambda image: encoded(image.convert("L"), "PNG")),
    "1-bit-png": replaced(lambda image: encoded(image.convert("1"), "PNG")),
    "grey-alpha-png": replaced(lambda image: encoded(image.convert("LA"), "PNG")),
}
