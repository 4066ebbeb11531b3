"""Every script says what it is for before it reads or writes anything."""

import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = [
    path
    for path in sorted([*FOLDER.glob("*.py"), *FOLDER.glob("omniselect/*.py")])
    if '__name__ == "__main__"' in path.read_text()
]


def changed():
    """Everything in results, with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in (FOLDER / "results").rglob("*")}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help_prints_what_a_script_measures_and_does_nothing(path, monkeypatch, tmp_path, capsys):
    source = path.read_text()
    # One that reads no arguments would run here.
    assert "ArgumentParser(" in source or re.search(r"from trials import [^)]*\bmain\b", source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = changed()
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path), run_name="__main__")
    assert caught.value.code == 0
    first = re.search(r'^"""(.+)', source, re.MULTILINE)[1].split()[:5]
    assert " ".join(first) in " ".join(capsys.readouterr().out.split())
    assert not list(tmp_path.iterdir()) and changed() == before
