"""What is remembered of images, on disk and in a process."""

import os
import random
import sqlite3
import time

import pytest
from PIL import Image

from adapruner_det import image_cache, image_check
from adapruner_det.image_cache import cache_file
from adapruner_det.image_check import check_images
from adapruner_det.images import ImageFacts, inspect
from tests import apart
from tests.image_files import PICTURE, encoded, several, write

pytestmark = pytest.mark.usefixtures("image_cache_file")


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


def test_a_name_that_no_file_can_have_is_a_faulty_one(tmp_path):
    path = str(tmp_path / "\ud83d.png")  # half a letter, as JSON can write it
    check_images(several(tmp_path, 1))  # so that there is a cache to look into
    assert check_images([path])[path].problem == "has a name that is not UTF-8: rename it"


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
def test_a_damaged_cache_is_begun_anew(tmp_path, image_cache_file, reads, damage):
    paths = several(tmp_path, 60)
    found = check_images(paths)
    damage(image_cache_file)
    assert check_images(paths) == found
    assert len(reads) == 120
    assert check_images(paths) == found
    assert len(reads) == 120


def test_tables_of_another_program_stay(tmp_path, image_cache_file):
    image_cache_file.parent.mkdir()
    with sqlite3.connect(image_cache_file) as connection:
        connection.execute("CREATE TABLE other (x)")
    check_images(several(tmp_path))
    assert connection.execute("SELECT count(*) FROM other").fetchone() == (0,)
    connection.close()


def test_a_table_of_other_columns_is_let_be(tmp_path, image_cache_file, reads):
    image_cache_file.parent.mkdir()
    with sqlite3.connect(image_cache_file) as connection:
        connection.execute("CREATE TABLE images_2 (path BLOB, size INTEGER, colour TEXT)")
    connection.close()
    paths = several(tmp_path)
    assert check_images(paths) == check_images(paths)
    assert len(reads) == 3  # this process keeps what the table does not take
    with sqlite3.connect(image_cache_file) as connection:
        assert connection.execute("SELECT count(*) FROM images_2").fetchone() == (0,)
    connection.close()


def file_in_place_of_the_folder(cache):
    cache.parent.write_bytes(b"")


def folder_in_place_of_the_file(cache):
    cache.mkdir(parents=True)


def link_to_nowhere(cache):
    cache.parent.symlink_to("/proc/nowhere")


@pytest.mark.parametrize(
    "block", [file_in_place_of_the_folder, folder_in_place_of_the_file, link_to_nowhere]
)
def test_without_a_cache_all_is_read_once_in_a_process(
    tmp_path, image_cache_file, reads, block, monkeypatch
):
    block(image_cache_file)
    paths = several(tmp_path)
    assert check_images(paths) == check_images(paths)
    assert len(reads) == 3
    monkeypatch.setattr(image_cache, "_kept", {})  # as in another one
    check_images(paths)
    assert len(reads) == 6


@pytest.mark.parametrize("place", ["/proc/nowhere", "x" * 300])
def test_a_cache_that_cannot_be(tmp_path, monkeypatch, place):
    monkeypatch.setenv("ADAPRUNER_CACHE", place)
    paths = several(tmp_path)
    assert list(check_images(paths)) == paths


def test_a_cache_that_another_program_holds_is_neither_waited_for_nor_lost(
    tmp_path, image_cache_file, reads, monkeypatch
):
    paths = several(tmp_path, 9)
    check_images(paths[:1])
    reads.clear()
    tries = []

    def connect():
        tries.append(1)
        return sqlite3.connect(image_cache_file, timeout=0.05)

    monkeypatch.setattr(image_cache, "_connection", connect)
    monkeypatch.setattr(image_check, "_WINDOW", 1)
    holder = sqlite3.connect(image_cache_file)
    holder.execute("BEGIN EXCLUSIVE")
    assert len(check_images(paths)) == 9
    assert len(tries) == 2  # to read, and once to write
    holder.rollback()
    holder.close()
    reads.clear()
    monkeypatch.setattr(image_cache, "_kept", {})  # as in another process
    check_images(paths)
    assert reads == paths[1:]  # what it held is still there


def test_two_processes_at_once(tmp_path, reads):
    paths = several(tmp_path, 30)
    code = """
from adapruner_det.image_check import check_images
for path in sys.argv[1:]:  # a write of its own for each
    assert not check_images([path])[path].problem
print("done")
"""
    halves = [paths[:20], paths[10:]]
    for process in [apart.start(code, *half) for half in halves]:
        assert process.communicate(timeout=60) == ("done\n", "")
    check_images(paths)
    assert reads == []


def test_many_images_take_few_questions_to_the_cache(tmp_path, monkeypatch):
    data = encoded()
    paths = [write(tmp_path / f"{i}.png", data) for i in range(25)]
    check_images(paths)
    connect, asked = image_cache._connection, []

    def watched():
        connection = connect()
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(image_cache, "_connection", watched)
    monkeypatch.setattr(image_cache, "_CHUNK", 10)
    assert list(check_images(paths)) == paths
    assert [text.split()[0] for text in asked] == ["SELECT"] * 3


# --- where the cache cannot be written -----------------------------------------------------------


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A cache that cannot be written, whoever runs this; its file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "file" / "cache"))
    return tmp_path / "file" / "cache" / "images.sqlite"


def test_without_a_cache_a_process_decodes_each_image_once_and_says_so_once(
    tmp_path, closed, reads, caplog, monkeypatch
):
    monkeypatch.setattr(image_check, "_WINDOW", 2)
    monkeypatch.chdir(tmp_path)
    paths = several(tmp_path, 7)
    expected = {path: inspect(path) for path in paths}
    assert check_images(paths[:5]) == {path: expected[path] for path in paths[:5]}
    found = check_images(paths[::-1])
    assert found == expected and list(found) == paths[::-1]
    assert list(check_images(map(os.path.relpath, paths)).values()) == list(expected.values())
    assert sorted(reads) == sorted(paths)
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert f"cannot be kept in {closed}: Not a directory; " in said.getMessage()
    assert said.getMessage().endswith("Set ADAPRUNER_CACHE to a folder that can be written.")


def test_without_a_cache_a_changed_image_is_decoded_anew_and_a_faulty_one_always(
    tmp_path, closed, reads
):
    paths = several(tmp_path, 3)
    bad = write(tmp_path / "bad.png", b"no image")
    check_images([*paths, bad])
    write(tmp_path / os.path.basename(paths[1]), encoded(PICTURE.resize((5, 7))))
    reads.clear()
    for _ in range(2):
        found = check_images([*paths, bad])
        assert (found[paths[1]].width, found[paths[1]].height) == (5, 7) and found[bad].problem
    assert sorted(reads) == sorted([paths[1], bad, bad])


def test_without_a_cache_a_changed_image_of_the_same_size_and_time_is_decoded_anew(
    tmp_path, closed, reads
):
    path = write(tmp_path / "x.bmp", encoded(kind="bmp"))
    status = os.stat(path)
    first = check_images([path])[path]
    write(tmp_path / "x.bmp", encoded(PICTURE.rotate(180), "bmp"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert check_images([path])[path].digest != first.digest and reads == [path, path]


def test_what_a_cache_holds_that_is_closed_to_writing_is_taken_from_it(
    tmp_path, image_cache_file, reads, caplog, monkeypatch
):
    def closed(rows):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    paths = several(tmp_path, 5)
    check_images(paths[1:3])
    assert not image_cache._kept and not caplog.records  # twice in memory is once too often
    monkeypatch.setattr(image_cache, "_insert", closed)
    found = check_images(paths)
    assert check_images(paths) == found == {path: inspect(path) for path in paths}
    assert list(found) == paths and sorted(reads) == sorted(paths)
    assert len(image_cache._kept) == 3
    assert f"{image_cache_file}: attempt to write a readonly database; " in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_without_a_cache_a_check_that_is_interrupted_keeps_what_it_has_found(
    tmp_path, closed, reads, monkeypatch
):
    def interrupted(path):
        if path == paths[4]:
            raise KeyboardInterrupt
        return inspect(path)

    paths = several(tmp_path, 6)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_check, "inspect", interrupted)
        check_images(paths, workers=1)
    check_images(paths)
    assert sorted(reads) == sorted(paths[4:])


def test_without_a_cache_and_a_working_directory_images_are_checked_all_the_same(
    tmp_path, closed, reads, monkeypatch
):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    paths = several(tmp_path, 3)
    monkeypatch.setattr("os.getcwd", gone)
    assert check_images(paths) == check_images(paths) and sorted(reads) == sorted(paths)
