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


def test_the_table_counts_kills_and_the_files_that_are_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(kills, "RESULTS", tmp_path / "page.md")
    weights = kills.TASKS["detection"][2]
    chains = [
        kills.Chain(kills=2, writing=1),
        kills.Chain(kills=3, differ=["selection.npz", weights]),
        kills.Chain(kills=1, writing=1, differ=[weights]),
    ]
    found = {"detection": (chains, 4.25), "classification": (chains[:1], 0.96)}
    kills.write(found, ["python", "kills.py"])
    text = (tmp_path / "page.md").read_text()
    assert "Made by `python kills.py`" in text
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:2] == "| "]
    assert lines == [
        ["task", "seconds", "kills", "while writing", "runs", "same .json", "same .npz",
         "same weights"],
        ["detection", "4.2", "6", "2", "3", "3 of 3", "2 of 3", "1 of 3"],
        ["classification", "1.0", "2", "1", "1", "1 of 1", "1 of 1", "1 of 1"],
    ]  # fmt: skip


def test_a_run_that_loses_a_step_is_found(tried):
    chains, _ = tried("total += 1")
    assert any(c.differ == ["selection.json", "selection.npz", "weights"] for c in chains)


def test_a_run_that_cannot_be_resumed_is_found(tried):
    chains, _ = tried("sys.exit(3)")
    assert any(3 in c.codes for c in chains)
