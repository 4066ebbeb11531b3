import errno
import json
import os
import subprocess
import sys
import time

import pytest

from adapruner_det.errors import DataError
from adapruner_det.export import folder as module
from adapruner_det.export.folder import MARKER, new_folder
from tests.export.examples import picture


def export(place, files=(("a.txt", "1"), ("deep/b.txt", "2")), **options):
    with new_folder(place, {"format": "test"}, **options) as folder:
        for name, text in files:
            folder.write(name, text)


def tree(place):
    """Relative path → content, of all files below a folder but the marker."""
    found = {}
    for above, _, names in os.walk(place):
        for name in names:
            path = os.path.join(above, name)
            if name != MARKER:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, place)] = file.read()
    return found


def test_it_appears_whole_and_says_what_it_is(tmp_path):
    image = picture(tmp_path / "source" / "x.png")
    with new_folder(tmp_path / "new" / "out", {"format": "test", "seed": 3}) as folder:
        folder.write("a.txt", "ä")
        folder.write("deep/b.bin", b"\0")
        folder.make("empty")
        folder.place("images/x.png", image, "toy/x", "copy")
        assert not (tmp_path / "new" / "out").exists()
    out = tmp_path / "new" / "out"
    assert tree(out).keys() == {"a.txt", "deep/b.bin", "images/x.png"}
    assert (out / "a.txt").read_text(encoding="utf-8") == "ä" and (out / "empty").is_dir()
    marker = json.loads((out / MARKER).read_text())
    assert marker["format"] == "test" and marker["seed"] == 3
    assert marker["images"] == {"images/x.png": "toy/x"}
    assert marker["files"].keys() == {"a.txt", "deep/b.bin", "images/x.png"}
    assert os.listdir(tmp_path / "new") == ["out"]


def test_it_has_the_rights_of_any_new_folder(tmp_path):
    export(tmp_path / "out")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").write_text("")
    for own, plain in (("out", "plain"), ("out/deep", "plain"), ("out/a.txt", "plain.txt")):
        assert (tmp_path / own).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_links_lead_to_the_image_itself(tmp_path):
    image = picture(tmp_path / "source" / "x.png")
    os.symlink(image, tmp_path / "alias.png")
    with new_folder(tmp_path / "out", {}) as folder:
        folder.place("x.png", str(tmp_path / "alias.png"), "toy/x", "link")
    assert os.readlink(tmp_path / "out" / "x.png") == image


@pytest.mark.parametrize("fault", [RuntimeError("stop"), KeyboardInterrupt(), DataError("no")])
def test_nothing_is_left_where_it_fails(tmp_path, fault):
    with pytest.raises(type(fault)), new_folder(tmp_path / "out", {}) as folder:
        folder.write("a.txt", "1")
        raise fault
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    export(tmp_path / "out")
    with pytest.raises(DataError, match="out cannot be written: No space left"):  # noqa: SIM117
        with new_folder(tmp_path / "out", {}) as folder:
            folder.write("a.txt", "new")
            raise OSError(28, "No space left on device")
    assert tree(tmp_path / "out") == {"a.txt": b"1", "deep/b.txt": b"2"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_place_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for place, word in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "out", "File exists"),
        (str(tmp_path) + "/a\0b", "no name of a folder"),
    ):
        with pytest.raises(DataError, match=word):
            export(place)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "name", ["../a", "/a", "a/../../b", "a/..", "", ".", "a//b", "a/./b", "a\0b", "a/"]
)
def test_no_name_leads_out(tmp_path, name):
    image = picture(tmp_path / "x.png")
    with new_folder(tmp_path / "in" / "out", {}) as folder:
        with pytest.raises(ValueError, match="no name below a folder"):
            folder.write(name, "")
        for how in ("link", "copy"):
            with pytest.raises(ValueError, match="no name below a folder"):
                folder.place(name, image, "toy/x", how)
    assert sorted(os.listdir(tmp_path)) == ["in", "x.png"]


@pytest.mark.parametrize("how", ["link", "copy"])
def test_nothing_is_written_through_a_link_that_was_placed(tmp_path, how):
    image = picture(tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(DataError, match="File exists"), new_folder(tmp_path / "out", {}) as folder:
        folder.place("x.png", image, "toy/x", "link")
        if how == "copy":
            folder.place("x.png", picture(tmp_path / "y.png", 9, 9), "toy/y", "copy")
        folder.write("x.png", "overwritten")
    assert (tmp_path / "x.png").read_bytes() == before


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), os.mkfifo])
@pytest.mark.parametrize("how", ["link", "copy"])
def test_an_image_that_is_no_file_is_named(tmp_path, how, make):
    make(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png of toy/x is no file"):  # noqa: SIM117
        with new_folder(tmp_path / "out", {}) as folder:
            folder.place("x.png", str(tmp_path / "x.png"), "toy/x", how)


# --- what stands there already -------------------------------------------------------------------


def test_an_empty_folder_and_an_export_are_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    export(tmp_path / "out")
    export(tmp_path / "out", [("c.txt", "3")])
    assert tree(tmp_path / "out") == {"c.txt": b"3"} and os.listdir(tmp_path) == ["out"]


def test_an_export_with_links_is_replaced_and_the_images_stay(tmp_path):
    image = picture(tmp_path / "source" / "x.png")
    for how in ("link", "copy", "link"):
        with new_folder(tmp_path / "out", {}, [image]) as folder:
            folder.place("images/x.png", image, "toy/x", how)
    assert os.path.isfile(image) and os.path.islink(tmp_path / "out" / "images" / "x.png")


def edited(out, image):
    (out / "images" / "x.png").write_bytes(b"mine")


def swapped(out, image):
    """A link becomes a file."""
    (out / "images" / "x.png").unlink()
    (out / "images" / "x.png").write_bytes(b"mine")


def turned(out, image):
    """A copy or a link becomes a link to another image."""
    (out / "images" / "x.png").unlink()
    os.symlink(image + ".other", out / "images" / "x.png")


@pytest.mark.parametrize(
    ("how", "change"),
    [("copy", edited), ("copy", turned), ("link", swapped), ("link", turned)],
)
def test_an_image_that_somebody_changed_is_not_lost(tmp_path, how, change):
    image, out = picture(tmp_path / "x.png"), tmp_path / "out"
    with new_folder(out, {}) as folder:
        folder.place("images/x.png", image, "toy/x", how)
    change(out, image)
    with pytest.raises(DataError, match=r"its 'images/x.png' was changed.*--overwrite"):
        export(out)
    assert os.path.lexists(out / "images" / "x.png")
    export(out, overwrite=True)
    assert os.path.lexists(tmp_path / "out-old-1" / "images" / "x.png")


def added(out):
    (out / "deep" / "mine.txt").write_text("mine")


def changed(out):
    (out / "a.txt").write_text("mine")


def linked(out):
    (out / "a.txt").unlink()
    os.symlink("/etc/hosts", out / "a.txt")


def linked_folder(out):
    os.symlink("/etc", out / "etc")


def unmarked(out):
    (out / MARKER).unlink()


def damaged(out):
    (out / MARKER).write_text("[1]")


def other_marker(out):
    (out / MARKER).write_text(json.dumps({"files": {}, "images": {}}))


def foreign_marker(out):
    marker = json.loads((out / MARKER).read_text())
    (out / MARKER).write_text(json.dumps({**marker, "adapruner_det_export": 2}))


CHANGES = [
    added, changed, linked, linked_folder, unmarked, damaged, other_marker, foreign_marker,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_an_export_alone_is_refused_or_moved_aside(tmp_path, change, caplog):
    out = tmp_path / "out"
    export(out)
    change(out)
    before = tree(out)
    with pytest.raises(DataError, match="--overwrite"):
        export(out, [("c.txt", "3")])
    assert tree(out) == before and os.listdir(tmp_path) == ["out"]
    export(out, [("c.txt", "3")], overwrite=True)
    assert tree(out) == {"c.txt": b"3"} and tree(tmp_path / "out-old-1") == before
    assert "out-old-1" in caplog.text
    added(out) if (out / "deep").is_dir() else (out / "mine.txt").write_text("")
    export(out, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["out", "out-old-1", "out-old-2"]


def test_it_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    done = []
    with pytest.raises(DataError), new_folder(tmp_path / "out", {}):
        done.append(1)
    assert done == []


def test_what_comes_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(DataError, match="--overwrite"), new_folder(tmp_path / "out", {}):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("")
    assert tree(tmp_path / "out") == {"mine.txt": b""} and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_exported_never_lies_in_what_is_replaced(tmp_path, overwrite):
    out = tmp_path / "out"
    image = picture(tmp_path / "x.png")
    with new_folder(out, {}) as folder:
        folder.place("images/x.png", image, "toy/x", "copy")
    os.symlink(out, tmp_path / "alias")
    for own in (out, tmp_path / "alias"):
        with pytest.raises(DataError, match="lies in"):
            export(out, sources=[str(own / "images" / "x.png")], overwrite=overwrite)
    assert (out / "images" / "x.png").is_file()


def test_a_link_to_a_folder_is_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "out")
    export(tmp_path / "out")
    assert tree(tmp_path / "real").keys() == {"a.txt", "deep/b.txt"}
    assert os.path.islink(tmp_path / "out")


def test_what_stood_there_is_back_where_the_last_rename_fails(tmp_path, monkeypatch):
    export(tmp_path / "out")
    rename, calls = os.rename, []

    def failing(old, new):
        calls.append(new)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(module.os, "rename", failing)
    with pytest.raises(DataError, match="Input/output error"):
        export(tmp_path / "out", [("c.txt", "3")])
    monkeypatch.undo()
    assert tree(tmp_path / "out") == {"a.txt": b"1", "deep/b.txt": b"2"}
    assert os.listdir(tmp_path) == ["out"]


# --- kills ---------------------------------------------------------------------------------------

SLOW = """
import sys, time
from tests.apart import PRELUDE
exec(PRELUDE)
from adapruner_det.export.folder import new_folder
with new_folder(sys.argv[1], {}) as folder:
    folder.write("a.txt", "half")
    print("begun", flush=True)
    time.sleep(60)
"""


def begun(place):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


def test_where_there_are_no_locks_it_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):
        export(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"] and "a.txt" in tree(tmp_path / "out")


def test_what_a_kill_leaves_is_gone_after_the_next_export_and_a_running_one_is_left_alone(tmp_path):
    killed, running = begun(tmp_path / "out[1]"), begun(tmp_path / "out[1]")
    killed.kill()
    killed.wait()
    assert len(os.listdir(tmp_path)) == 2 and not (tmp_path / "out[1]").exists()
    export(tmp_path / "out[1]")
    assert len(os.listdir(tmp_path)) == 2 and tree(tmp_path / "out[1]").keys() == {
        "a.txt",
        "deep/b.txt",
    }
    running.kill()
    running.wait()
    time.sleep(0.05)
    export(tmp_path / "out[1]")
    assert os.listdir(tmp_path) == ["out[1]"]
