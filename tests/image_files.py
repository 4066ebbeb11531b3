"""Image files of any kind, sound and broken."""

import io
import struct

import numpy as np
from PIL import Image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8))


def encoded(image=PICTURE, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(path, data):
    path.write_bytes(data)
    return str(path)


def several(folder, count=3):
    return [
        write(folder / f"{i}.png", encoded(PICTURE.crop((0, 0, 5 + i, 4)))) for i in range(count)
    ]


def exif_of(*entries, tail=b""):
    """EXIF of entries (tag, type, count, 4 bytes of the value)."""
    body = b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries)
    head = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    return head + body + struct.pack("<L", 0) + tail


TURNED = (274, 3, 1, struct.pack("<HH", 6, 0))
BROKEN_EXIF = {
    "text for a number": exif_of((274, 2, 2, b"6\0\0\0")),
    "a ratio": exif_of((274, 5, 1, struct.pack("<L", 26)), tail=struct.pack("<LL", 6, 1)),
    "0/0": exif_of((274, 5, 1, struct.pack("<L", 26)), tail=struct.pack("<LL", 0, 0)),
    "two values": exif_of((274, 3, 2, struct.pack("<HH", 6, 6))),
    "of no type": exif_of((274, 7, 1, b"\6\0\0\0")),
    "an unknown type beside it": exif_of(TURNED, (272, 99, 1, b"abcd")),
    "what cannot be written again": exif_of(TURNED, (256, 9, 1, struct.pack("<l", -3))),
    "a negative ratio": exif_of(
        TURNED, (282, 10, 1, struct.pack("<L", 38)), tail=struct.pack("<ll", -3, 1)
    ),
    "a pointer to nowhere": exif_of(TURNED, (0x8769, 4, 1, struct.pack("<L", 99_999))),
    "a count that is too large": exif_of(TURNED, (272, 2, 99_999, b"\10\0\0\0")),
    "garbage": b"Exif\0\0garbage",
    "cut off": exif_of(TURNED)[:20],
    "nothing": b"Exif\0\0",
}
