"""A run that resumes rightly passes however often it is killed, and one that does not is seen."""

import random

import pytest

from benchmarks import kills

TOOL = """
import os, sys, time
from pathlib import Path

out = Path("out")
out.mkdir(exist_ok=True)
steps, state = 20, out / "state"
step, total = 0, 0
if "--resume" in sys.argv and state.is_file():
    step, total = map(int, state.read_text().split())
    {fault}
while step < steps:
    time.sleep(0.01)
    step, total = step + 1, total * 3 + step
    part = out / ".state~"
    part.write_text(f"{{step}} {{total}}")
    part.replace(state)
for name in ("selection.json", "selection.npz", "weights"):
    (out / name).write_text(str(total))
"""


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Runs of a tool with ``fault`` where it resumes, killed five times."""

    def run(fault):
        tool = tmp_path / "tool.py"
        tool.write_text(TOOL.format(fault=fault))
        monkeypatch.setattr(kills, "TASKS", {"toy": (lambda folder: None, str(tool), "weights")})
        return kills.try_task("toy", 5, tmp_path / "work", random.Random(0))

    return run


def test_runs_that_go_on_as_they_were_are_the_same(tried):
    chains, seconds = tried("pass")
    assert sum(c.kills for c in chains) == 5
    assert not any(c.differ or c.codes for c in chains)
    text = kills.table({"toy": (chains, seconds)}, "simple")
    assert f"{len(chains)} of {len(chains)}" in text


def test_a_run_that_loses_a_step_is_found(tried):
    chains, _ = tried("total += 1")
    assert any(c.differ == ["selection.json", "selection.npz", "weights"] for c in chains)


def test_a_run_that_cannot_be_resumed_is_found(tried):
    chains, _ = tried("sys.exit(3)")
    assert any(3 in c.codes for c in chains)
