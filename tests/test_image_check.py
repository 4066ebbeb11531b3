"""The check of many images."""

import fcntl
import os
import pty
import struct
import termios
import warnings

import pytest
from PIL import Image

from adapruner_det import image_check
from adapruner_det.image_check import check_images
from adapruner_det.images import inspect
from tests import apart
from tests.apart import within
from tests.image_files import BROKEN_EXIF, encoded, several, write

pytestmark = pytest.mark.usefixtures("image_cache_file")


def test_all_are_read_once_and_found_in_their_order(tmp_path, reads):
    paths = several(tmp_path)
    asked = [paths[2], paths[0], paths[2], paths[1], paths[0]]
    found = check_images(asked)
    assert list(found) == [paths[2], paths[0], paths[1]]
    assert found == {path: inspect(path) for path in paths}
    assert sorted(reads) == sorted(paths)
    new = write(tmp_path / "new.png", encoded())
    assert list(check_images([paths[1], new, paths[0]])) == [paths[1], new, paths[0]]


def test_no_images_are_no_files(image_cache_file):
    assert check_images([]) == {}
    assert not image_cache_file.exists()


def test_a_check_that_is_interrupted_keeps_what_it_has_found(tmp_path, monkeypatch):
    paths = several(tmp_path, 12)
    seen = []

    def interrupted(path):
        if path == paths[6]:
            raise KeyboardInterrupt
        seen.append(path)
        return inspect(path)

    monkeypatch.setattr(image_check, "_WINDOW", 4)
    monkeypatch.setattr(image_check, "inspect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_images(paths, workers=1)
    assert seen[:6] == paths[:6] and not set(seen) & set(paths[8:])
    rest = []
    monkeypatch.setattr(image_check, "inspect", lambda path: rest.append(path) or inspect(path))
    assert list(check_images(paths)) == paths
    assert sorted(rest) == sorted(paths[6:])


def test_memory_does_not_grow_with_files_that_wait(tmp_path, monkeypatch):
    waiting = []

    class Pool(image_check.ThreadPoolExecutor):
        def map(self, function, paths):
            waiting.append(len(paths))
            return super().map(function, paths)

    monkeypatch.setattr(image_check, "_WINDOW", 5)
    monkeypatch.setattr(image_check, "ThreadPoolExecutor", Pool)
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
from adapruner_det.image_check import check_images
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
