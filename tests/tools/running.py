"""Tools as a user runs them: in this process, which is fast, or in one of their own."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

from tests.detection.toy import options_of, process_restored

ROOT = Path(__file__).resolve().parents[2]


def tool_arguments(voc, output, *options, detector="yolo_darknet"):
    """``KEY VALUE`` arguments of a small run on a folder with the splits train and test."""
    folders = [f"own_train={voc}:train", f"own_test={voc}:test"]
    pairs = [
        *options_of(detector, output),
        "ADAPRUNER.VOC_FOLDERS", folders,
        "DATASETS.TRAIN", ("own_train",),
        "DATASETS.TEST", ("own_test",),
        *options,
    ]  # fmt: skip
    return [str(word) for word in pairs]


def run_here(monkeypatch, name, *arguments):
    """Run tools/``name`` in this process, which is left as it was. Its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with process_restored():
        try:
            runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code
    return 0


def run_apart(*command, cwd=None, start_new_session=False, **environment):
    """Run Python with ``command`` in a process of its own, with its output as text."""
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path.rstrip(os.pathsep),
        **{name: str(value) for name, value in environment.items()},
    }
    words = [sys.executable, *map(str, command)]
    return subprocess.run(
        words,
        env=variables,
        cwd=cwd,
        start_new_session=start_new_session,
        capture_output=True,
        text=True,
    )


def assert_one_error_line(stderr, *parts):
    """The error is the last line of ``stderr``, the only one of its kind, and no traceback."""
    lines = stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert "Traceback" not in stderr
    for part in parts:
        assert part in lines[-1]
