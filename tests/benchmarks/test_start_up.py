"""What is timed of a start, whose memory is read when, and the page."""

import os
import re
import subprocess
import sys
import time
from argparse import Namespace

import pytest
from PIL import Image

from benchmarks import start_up as module
from benchmarks.start_up import make_folder, page, row, start

#: In place of the tool: three steps, then no other one before the memory is read a second time.
RUNNER = """
import sys, time
from pathlib import Path

clock = Path(sys.argv[1])
time.sleep(0.3)
end = time.time() + 20
for step in range(1000):
    while step == 3 and not clock.with_name("read").exists():
        time.sleep(0.01)
        if time.time() > end:
            sys.exit("it was not read after three steps")
    with clock.open("a") as file:
        print(time.time(), file=file)
"""


def test_the_first_step_is_timed_and_the_memory_is_read_after_a_tenth_and_all(
    tmp_path, monkeypatch
):
    read = []

    def private(pid):
        os.kill(pid, 0)  # it is still there
        read.append(len((tmp_path / "clock").read_text().splitlines()))
        if len(read) == 2:
            (tmp_path / "read").touch()
        return [float(read[-1])]

    monkeypatch.setattr(module, "RUNNER", RUNNER)
    monkeypatch.setattr(module, "_private_mib", private)
    (tmp_path / "clock").write_text("1.0\n2.0\n")  # of a run before
    before = time.time()
    seconds, early, late = start(tmp_path, 2, 30, 100)
    first = float((tmp_path / "clock").read_text().split()[0])
    assert 0.3 <= seconds <= first - before
    assert [early, late] == [[float(count)] for count in read[1:]]
    assert read[0] >= 1 and read[1] == 3 and read[2] >= 30


def test_a_run_that_ends_before_its_steps_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RUNNER", "raise RuntimeError('no such set')")
    with pytest.raises(SystemExit, match="no such set"):
        start(tmp_path, 2, 30, 100)


#: Starts two children, and says so once both are what they are to be.
PARENT = """
import subprocess
piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
for child in [subprocess.Popen(["cat"], **piped) for _ in range(2)]:
    child.stdin.write(b"there\\n")
    child.stdin.flush()
    child.stdout.readline()
print("ready", flush=True)
input()
"""


def test_memory_is_what_each_child_has_to_itself_in_mib():
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], **piped) as process:
        process.stdout.readline()
        found = module._private_mib(process.pid)
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            (one, _) = file.read().split()
        with open(f"/proc/{one}/smaps_rollup") as file:
            sizes = dict(re.findall(r"(\w+): +(\d+) kB", file.read()))
        process.stdin.write(b"\n")
    expected = (int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])) / 1024
    assert found[0] == pytest.approx(expected, rel=0.2)
    assert len(found) == 2 and all(0.01 < mib < 20 for mib in found)


def test_the_page_has_a_line_a_cache(monkeypatch):
    args = Namespace(images=200, workers=2, steps=50)
    lines = [row("empty", 45.84, [12.6, 13.4], [13.5, 14.4]), row("full", 1.25, [1.0], [2.0])]
    assert lines[0] == "| empty | 45.8 | 13 13 | 14 14 |"
    text = page(args, lines)
    assert "--images 200 --workers 2 --steps 50`" in text and "after 5 steps | after 50 |" in text
    assert text.endswith("\n".join(lines) + "\n")


def test_the_images_are_a_folder_that_can_be_read(tmp_path):
    make_folder(tmp_path, 102)
    ids = (tmp_path / "ImageSets/Main/train.txt").read_text().split()
    assert len(ids) == 102 == len(set(ids))
    for name in (ids[0], ids[-1]):
        with Image.open(tmp_path / f"JPEGImages/{name}.jpg") as image:
            assert image.size == (64, 64)
        assert (tmp_path / f"Annotations/{name}.xml").read_text().count("<object>") == 2
