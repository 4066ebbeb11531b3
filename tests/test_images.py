import hashlib
import itertools
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from adapruner_det import images
from adapruner_det.errors import DataError
from adapruner_det.image_check import check_images
from adapruner_det.images import (
    MAX_BYTES,
    MAX_PIXELS,
    MODES,
    ImageFacts,
    format_of,
    inspect,
    read_upright,
)
from tests.apart import within
from tests.image_files import BROKEN_EXIF, PICTURE, TURNED, encoded, exif_of, write


def pixels(path):
    return np.asarray(read_upright(path).convert("RGB"))


def assert_read_as_detectron2_does(path):
    expected = read_image(path, "RGB")
    np.testing.assert_array_equal(pixels(path), expected)
    facts = inspect(path)
    assert (facts.problem, facts.height, facts.width) == ("", *expected.shape[:2])


def assert_refused(path, *parts):
    """One line says what is wrong, and nothing else is known of the file."""
    facts = inspect(path)
    assert facts == ImageFacts(facts.problem) and facts.problem
    with pytest.raises(DataError) as caught:
        read_upright(path)
    message = str(caught.value)
    assert message == f"{path} {facts.problem}; replace or remove it"
    assert "\n" not in facts.problem
    for part in parts:
        assert part in facts.problem


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_turns_an_image(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = write(tmp_path / "x", encoded(kind=kind, exif=exif))
    assert_read_as_detectron2_does(path)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    np.testing.assert_array_equal(pixels(path), np.asarray(expected))
    assert pixels(path).shape == ((9, 6, 3) if orientation in (5, 6, 7, 8) else (6, 9, 3))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_is_taken_as_detectron2_takes_it(tmp_path, exif):
    assert_read_as_detectron2_does(write(tmp_path / "x.jpg", encoded(kind="jpeg", exif=exif)))


def test_a_format_is_told_by_the_content_and_empty_without_one(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png", format="JPEG")
    (tmp_path / "b.png").write_text("no image")
    found = [format_of(str(tmp_path / name)) for name in ("a.png", "b.png", "gone.png", "")]
    assert found == ["JPEG", "", "", ""]


def test_a_tiff_that_readers_turn_differently_is_refused(tmp_path):
    path = str(tmp_path / "x.tif")
    for orientation in range(2, 9):
        PICTURE.save(path, tiffinfo={274: orientation})
        assert_refused(path, "TIFF with an orientation")
    PICTURE.save(path, tiffinfo={274: 1})
    assert_read_as_detectron2_does(path)


FILES = [
    *[("1", "png"), ("L", "png"), ("L", "jpeg"), ("LA", "png"), ("P", "png"), ("P", "gif")],
    *[("PA", "tiff"), ("RGB", "jpeg"), ("RGB", "webp"), ("RGB", "bmp"), ("RGB", "tiff")],
    *[("RGBA", "png"), ("CMYK", "jpeg"), ("CMYK", "tiff"), ("YCbCr", "tiff")],
]


@pytest.mark.parametrize(("mode", "kind"), FILES)
def test_every_mode_becomes_the_rgb_of_detectron2(tmp_path, mode, kind):
    source = PICTURE.convert({"LA": "L", "PA": "RGBA"}.get(mode, "RGB"))  # as far as Pillow can
    path = write(tmp_path / "x", encoded(source.convert(mode), kind))
    assert inspect(path).mode == mode == Image.open(path).mode
    assert_read_as_detectron2_does(path)
    assert inspect(path).is_grey == (mode in ("1", "L", "LA"))


def test_every_mode_has_been_tried():
    assert {mode for mode, _ in FILES} == set(MODES) - {"RGBX"}  # which no file opens with


def test_an_image_is_known_by_the_bytes_of_its_file(tmp_path):
    data = encoded()
    facts = inspect(write(tmp_path / "x", data))
    assert facts == ("", 9, 6, "RGB", hashlib.sha256(data).hexdigest()[:16], "")
    again = inspect(write(tmp_path / "y", encoded(compress_level=0)))
    assert again.digest != facts.digest and again[:4] == facts[:4]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [
        ("I;16", "png", "more than 8 bits"),
        ("I;16", "tiff", "more than 8 bits"),
        ("I;16B", "tiff", "more than 8 bits"),
        ("I", "tiff", "more than 8 bits"),
        ("F", "tiff", "more than 8 bits"),
        ("LAB", "tiff", "no way to RGB"),
    ],
)
def test_what_does_not_fit_8_bits_is_refused_by_name(tmp_path, mode, kind, reason):
    path = write(tmp_path / "x", encoded(Image.new(mode, (4, 4)), kind))
    assert_refused(path, f"the mode '{mode}'", reason, "convert it")


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [make_fifo, make_socket, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "x")
    with within(5):
        assert_refused(str(tmp_path / "x"), "is not a regular file")


def test_devices_are_not_read():
    with within(5):
        assert_refused("/dev/zero", "is not a regular file")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<html>404 Not Found</html>", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n", "is EPS, a drawing"),
        (encoded()[:-40], "does not decode: "),
        (encoded()[:20], "does not decode: "),
        (encoded(kind="bmp")[:20], "does not decode: "),
        (encoded(kind="jpeg")[:-40], "does not decode: image file is truncated"),
        (encoded(kind="gif")[:-40], "does not decode: "),
        (encoded().replace(b"IDAT", b"IDAT\xff", 1), "does not decode: "),
    ],
    ids=itertools.count(),
)
def test_a_file_that_is_no_whole_image(tmp_path, data, reason):
    assert_refused(write(tmp_path / "x.png", data), reason)


def test_a_file_that_cannot_be_opened(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert_refused(str(tmp_path / "link"), "is not there")
    assert_refused(str(tmp_path / "nothing"), "is not there")
    assert_refused(str(tmp_path / "file" / "x"), "cannot be read: Not a directory")
    assert_refused(str(tmp_path / ("x" * 300)), "cannot be read: File name too long")
    assert_refused(str(tmp_path / "round"), "cannot be read: Too many levels of symbolic links")
    assert_refused("x\0.png", "cannot be read: embedded null byte")


def test_a_name_that_is_not_utf_8(tmp_path, image_cache_file):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    with open(name, "wb") as file:
        file.write(encoded())
    path = os.fsdecode(name)
    assert_refused(path, "has a name that is not UTF-8")
    assert check_images([path])[path].problem


def png(width, height, depth=8, colour=2, rows=b""):
    chunks = [
        (b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("size", [(20_000, 20_000), (MAX_PIXELS + 1, 1), (13_378, 13_378)])
@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])  # of Pillow's own
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, size, limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    path = write(tmp_path / "x.png", png(*size))
    assert_refused(path, "pixels")
    assert check_images([path])[path].problem


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "x.png", encoded())
    os.truncate(path, MAX_BYTES + 1)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read"))
    assert_refused(path, "bytes, more than")


# --- whatever a file holds -----------------------------------------------------------------------

SOUND = [
    encoded(kind="jpeg"),
    encoded(kind="jpeg", progressive=True, exif=exif_of(TURNED)),
    encoded(),
    encoded(PICTURE.quantize(4), transparency=1),
    encoded(PICTURE.convert("P"), "gif", save_all=True, append_images=[PICTURE.rotate(180)]),
    encoded(kind="webp", exif=exif_of(TURNED)),
    encoded(kind="bmp"),
    encoded(kind="tiff", tiffinfo={274: 1}),
    encoded(kind="tiff", compression="tiff_lzw"),
    encoded(PICTURE.convert("RGBA"), "ico"),
    encoded(kind="ppm"),
]
HEADS = [data[:12] for data in SOUND] + [b"%!PS", b"8BPS", b"\x89HDF\r\n\x1a\n", b"GRIB", b"qoif"]


@st.composite
def damaged(draw):
    data = bytearray(draw(st.sampled_from(SOUND)))
    for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.sampled_from([len(data), len(data) - 1, len(data) // 2]))])


garbage = st.builds(bytes.__add__, st.sampled_from(HEADS), st.binary(max_size=200))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=damaged() | garbage | st.binary(max_size=200))
def test_whatever_a_file_holds_is_read_as_detectron2_reads_it_or_refused(tmp_path, data):
    path = write(tmp_path / "x", data)
    with within(30), pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 10**6)  # a size may grow, which takes time and no more
        facts = inspect(path)
        if facts.problem:
            assert_refused(path)
        else:
            assert_read_as_detectron2_does(path)


# --- what is said --------------------------------------------------------------------------------

SEVERAL, HIDDEN, DEEP = "has several frames", "has transparent parts", "has 16 bits a channel"
CLEAR = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(180)]}
DEEP_ROWS = (b"\0" + bytes(4 * 6)) * 4


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (encoded(), ""),
        (encoded(PICTURE.convert("RGBA")), ""),
        (encoded(CLEAR), HIDDEN),
        (encoded(CLEAR.convert("LA")), HIDDEN),
        (encoded(CLEAR, "webp", lossless=True), HIDDEN),
        (encoded(Image.new("P", (4, 4)), transparency=0), HIDDEN),
        (encoded(Image.new("P", (4, 4)), transparency=3), ""),  # a colour that it does not have
        (encoded(Image.new("P", (4, 4)), transparency=b"\xff"), ""),
        (encoded(Image.new("L", (4, 4)), transparency=0), HIDDEN),
        (encoded(Image.new("RGB", (4, 4)), transparency=(0, 0, 0)), HIDDEN),
        (encoded(Image.new("RGB", (4, 4)), transparency=(0, 0, 1)), ""),
        (encoded(PICTURE.convert("P"), "gif", **FRAMES), SEVERAL),
        (encoded(kind="png", **FRAMES), SEVERAL),
        (encoded(kind="webp", **FRAMES), SEVERAL),
        (encoded(kind="tiff", **FRAMES), SEVERAL),
        (encoded(kind="mpo", **FRAMES), ""),
        (encoded(PICTURE.convert("P"), "gif"), ""),
        (png(4, 4, 16, 2, DEEP_ROWS), DEEP),
    ],
    ids=itertools.count(),
)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_what_is_lost_is_said(tmp_path, data, note):
    path = write(tmp_path / "x", data)
    found = inspect(path).note
    assert found.startswith(note) if note else found == ""
    assert_read_as_detectron2_does(path)


def test_two_losses_are_both_said(tmp_path):
    path = str(tmp_path / "x.webp")
    CLEAR.save(path, save_all=True, append_images=[CLEAR.rotate(90), PICTURE.resize((4, 4))])
    note = inspect(path).note
    assert SEVERAL in note and f"and {HIDDEN}" in note


def test_a_second_frame_that_is_damaged_does_not_cost_the_first(tmp_path):
    data = bytearray(encoded(PICTURE.convert("P"), "gif", **FRAMES))
    second = data.rindex(b"\x2c")  # its image descriptor
    path = write(tmp_path / "x.gif", data[: second + 12] + b"\xff" * 20)
    assert inspect(path).note.startswith(SEVERAL)
    assert_read_as_detectron2_does(path)
