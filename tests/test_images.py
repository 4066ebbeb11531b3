import fcntl
import hashlib
import io
import itertools
import os
import pty
import random
import socket
import sqlite3
import struct
import termios
import time
import warnings
import zlib

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from adapruner_det import images
from adapruner_det.errors import DataError
from adapruner_det.images import (
    MAX_BYTES,
    MAX_PIXELS,
    MODES,
    ImageFacts,
    cache_file,
    check_images,
    inspect,
    read_upright,
)
from tests import apart
from tests.apart import within

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of each test's own; its file."""
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images.sqlite"


@pytest.fixture
def reads(monkeypatch):
    """The paths that have been read."""
    paths = []

    def watched(path):
        paths.append(path)
        return inspect(path)

    monkeypatch.setattr(images, "inspect", watched)
    return paths


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


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_is_taken_as_detectron2_takes_it(tmp_path, exif):
    assert_read_as_detectron2_does(write(tmp_path / "x.jpg", encoded(kind="jpeg", exif=exif)))


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


def test_a_name_that_is_not_utf_8(tmp_path):
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
@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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


# --- the check of many and its cache -------------------------------------------------------------


def test_all_are_read_once_and_found_in_their_order(tmp_path, reads):
    paths = several(tmp_path)
    asked = [paths[2], paths[0], paths[2], paths[1], paths[0]]
    found = check_images(asked)
    assert list(found) == [paths[2], paths[0], paths[1]]
    assert found == {path: inspect(path) for path in paths}
    assert sorted(reads) == sorted(paths)
    new = write(tmp_path / "new.png", encoded())
    assert list(check_images([paths[1], new, paths[0]])) == [paths[1], new, paths[0]]


def test_no_images_are_no_files(cache):
    assert check_images([]) == {}
    assert not cache.exists()


def test_a_second_check_reads_nothing(tmp_path, reads, monkeypatch):
    paths = several(tmp_path)
    found = check_images(paths)
    reads.clear()
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read"))
    again = check_images(paths[::-1])
    assert again == found and list(again) == paths[::-1]
    assert all(type(facts) is ImageFacts for facts in again.values())
    assert reads == []


def longer(path):
    with open(path, "ab") as file:
        file.write(b"more")


def as_long(path):
    status = os.stat(path)
    data = bytearray(status.st_size)
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def as_long_and_as_old(path):
    """As tools do that turn a photograph in place."""
    status = os.stat(path)
    time.sleep(0.02)  # a system's clock of files may tick a hundred times a second
    with open(path, "r+b") as file:
        file.write(bytes(8))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another(path):
    os.remove(path)
    PICTURE.crop((0, 0, 2, 2)).save(path)


@pytest.mark.parametrize("change", [longer, as_long, as_long_and_as_old, another, os.remove])
def test_a_file_that_has_changed_is_read_again(tmp_path, reads, change):
    paths = several(tmp_path)
    check_images(paths)
    reads.clear()
    change(paths[1])
    assert check_images(paths)[paths[1]] == inspect(paths[1])
    assert reads == [paths[1]]
    reads.clear()
    check_images(paths)
    assert reads == ([] if not inspect(paths[1]).problem else [paths[1]])


def test_a_faulty_file_is_looked_at_again_each_time(tmp_path, reads):
    path = write(tmp_path / "x.png", b"no image")
    for _ in range(2):
        assert check_images([path])[path].problem == "is not an image that Pillow knows"
    assert reads == [path, path]


def test_one_file_under_several_names(tmp_path, reads, monkeypatch):
    monkeypatch.chdir(tmp_path)
    several(tmp_path, 1)
    os.symlink("0.png", "link.png")
    names = ["0.png", "./0.png", str(tmp_path / "0.png"), "link.png"]
    found = check_images(names)
    assert list(found) == names and len(set(found.values())) == 1
    reads.clear()
    assert check_images(names) == found
    assert reads == []


def test_relative_names_are_of_their_folder(tmp_path, reads, monkeypatch):
    for width in (3, 5):
        (tmp_path / str(width)).mkdir()
        Image.new("RGB", (width, 4)).save(tmp_path / str(width) / "x.png")
    for _ in range(2):
        for width in (3, 5):
            monkeypatch.chdir(tmp_path / str(width))
            assert check_images(["x.png"])["x.png"].width == width
    assert len(reads) == 2


def test_a_folder_above_a_link_is_that_of_its_target(tmp_path, reads):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    path = write(tmp_path / "far" / "x.png", encoded())
    os.link(path, tmp_path / "x.png")
    check_images([str(tmp_path / "x.png")])
    crooked = str(tmp_path / "link" / ".." / "x.png")  # far/x.png
    check_images([crooked])
    assert reads == [str(tmp_path / "x.png"), crooked]


def test_the_cache_lies_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("ADAPRUNER_CACHE", "/own")
    assert str(cache_file()) == "/own/images.sqlite"
    monkeypatch.delenv("ADAPRUNER_CACHE")
    assert str(cache_file()) == "/xdg/adapruner_det/images.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache_file()) == "/home/me/.cache/adapruner_det/images.sqlite"


# Damage to the cache, of which the caller hears nothing.


def truncated(file):
    os.truncate(file, file.stat().st_size // 2)


def scrambled(file):
    data = bytearray(file.read_bytes())
    data[100:] = random.Random(0).randbytes(len(data) - 100)
    file.write_bytes(data)


def as_text(file):
    file.write_text("this is no database\n" * 99)


def emptied(file):
    os.truncate(file, 0)


def of_another_program(file):
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()


def with_the_journal_of_a_killed_process(file):
    states = [file, file.with_name(file.name + "-journal")]
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.execute("UPDATE images_2 SET width = width + 1")
    kept = [state.read_bytes() for state in states]
    connection.close()
    for state, data in zip(states, kept, strict=True):
        state.write_bytes(data)
    as_text(file)


DAMAGE = [truncated, scrambled, as_text, emptied, of_another_program]
DAMAGE += [with_the_journal_of_a_killed_process]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_begun_anew(tmp_path, cache, reads, damage):
    paths = several(tmp_path, 60)
    found = check_images(paths)
    damage(cache)
    assert check_images(paths) == found
    assert len(reads) == 120
    assert check_images(paths) == found
    assert len(reads) == 120


def test_tables_of_another_program_stay(tmp_path, cache):
    cache.parent.mkdir()
    with sqlite3.connect(cache) as connection:
        connection.execute("CREATE TABLE other (x)")
    check_images(several(tmp_path))
    assert connection.execute("SELECT count(*) FROM other").fetchone() == (0,)
    connection.close()


def test_a_table_of_other_columns_is_let_be(tmp_path, cache, reads):
    cache.parent.mkdir()
    with sqlite3.connect(cache) as connection:
        connection.execute("CREATE TABLE images_2 (path BLOB, size INTEGER, colour TEXT)")
    connection.close()
    paths = several(tmp_path)
    assert check_images(paths) == check_images(paths)
    assert len(reads) == 6


def file_in_place_of_the_folder(cache):
    cache.parent.write_bytes(b"")


def folder_in_place_of_the_file(cache):
    cache.mkdir(parents=True)


def link_to_nowhere(cache):
    cache.parent.symlink_to("/proc/nowhere")


@pytest.mark.parametrize(
    "block", [file_in_place_of_the_folder, folder_in_place_of_the_file, link_to_nowhere]
)
def test_without_a_cache_all_is_read_each_time(tmp_path, cache, reads, block):
    block(cache)
    paths = several(tmp_path)
    assert check_images(paths) == check_images(paths)
    assert len(reads) == 6


@pytest.mark.parametrize("place", ["/proc/nowhere", "x" * 300])
def test_a_cache_that_cannot_be(tmp_path, monkeypatch, place):
    monkeypatch.setenv("ADAPRUNER_CACHE", place)
    paths = several(tmp_path)
    assert list(check_images(paths)) == paths


def test_a_cache_that_another_program_holds_is_neither_waited_for_nor_lost(
    tmp_path, cache, reads, monkeypatch
):
    paths = several(tmp_path, 9)
    check_images(paths[:1])
    reads.clear()
    tries = []

    def connect():
        tries.append(1)
        return sqlite3.connect(cache, timeout=0.05)

    monkeypatch.setattr(images, "_connection", connect)
    monkeypatch.setattr(images, "_WINDOW", 1)
    holder = sqlite3.connect(cache)
    holder.execute("BEGIN EXCLUSIVE")
    assert len(check_images(paths)) == 9
    assert len(tries) == 2  # to read, and once to write
    holder.rollback()
    holder.close()
    reads.clear()
    check_images(paths)
    assert reads == paths[1:]  # what it held is still there


def test_two_processes_at_once(tmp_path, reads):
    paths = several(tmp_path, 30)
    code = """
from adapruner_det.images import check_images
for path in sys.argv[1:]:  # a write of its own for each
    assert not check_images([path])[path].problem
print("done")
"""
    halves = [paths[:20], paths[10:]]
    for process in [apart.start(code, *half) for half in halves]:
        assert process.communicate(timeout=60) == ("done\n", "")
    check_images(paths)
    assert reads == []


def test_a_check_that_is_interrupted_keeps_what_it_has_found(tmp_path, monkeypatch):
    paths = several(tmp_path, 12)
    seen = []

    def interrupted(path):
        if path == paths[6]:
            raise KeyboardInterrupt
        seen.append(path)
        return inspect(path)

    monkeypatch.setattr(images, "_WINDOW", 4)
    monkeypatch.setattr(images, "inspect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_images(paths, workers=1)
    assert seen[:6] == paths[:6] and not set(seen) & set(paths[8:])
    rest = []
    monkeypatch.setattr(images, "inspect", lambda path: rest.append(path) or inspect(path))
    assert list(check_images(paths)) == paths
    assert sorted(rest) == sorted(paths[6:])


def test_memory_does_not_grow_with_files_that_wait(tmp_path, monkeypatch):
    waiting = []

    class Pool(images.ThreadPoolExecutor):
        def map(self, function, paths):
            waiting.append(len(paths))
            return super().map(function, paths)

    monkeypatch.setattr(images, "_WINDOW", 5)
    monkeypatch.setattr(images, "ThreadPoolExecutor", Pool)
    assert len(check_images(several(tmp_path, 12))) == 12
    assert waiting == [5, 5, 2]


def test_warnings_of_pillow_do_not_stand_before_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # of which PICTURE has more
    broken = BROKEN_EXIF["a count that is too large"]
    path = write(tmp_path / "x.jpg", encoded(kind="jpeg", exif=broken))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not check_images([path])[path].problem
        assert caught == []
        inspect(path)
    assert {type(warning.message) for warning in caught} >= {Image.DecompressionBombWarning}


def test_a_terminal_shows_how_far_it_is(tmp_path):
    code = """
from adapruner_det.images import check_images
check_images(sys.argv[1:], "checking images of mine")
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with apart.start(code, *several(tmp_path, 20), stderr=theirs) as process:
        assert process.wait(30) == 0
    with within(5):
        text = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert text.startswith("\rchecking images of mine:   0%|") and "| 0/20 [" in text
    assert " images/s]" in text
    assert text.endswith("\r") and text.split("\r")[-2].strip() == ""  # it is gone in the end


def test_nothing_is_shown_where_there_is_no_terminal(tmp_path, capfd):
    check_images(several(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_cached_image_costs_microseconds(tmp_path):
    data = encoded()
    paths = [write(tmp_path / f"{i}.png", data) for i in range(800)]
    check_images(paths)

    def seconds():
        begin = time.process_time()
        check_images(paths)
        return time.process_time() - begin

    best = min(seconds() for _ in range(5)) / len(paths)
    assert best < 40e-6  # about 10 where nothing else runs
