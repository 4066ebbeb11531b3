"""The pages in benchmarks/results say what the rows beside them give."""

import json
from argparse import Namespace

import pytest

from benchmarks import (
    enough_training,
    evidence,
    fault_gate,
    image_confidence,
    objective_trials,
    suspects,
    suspects_first,
    visits,
)
from benchmarks.omniselect import run as omniselect

RESULTS = evidence.RESULTS


def rows_of(name):
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("fault_gate", fault_gate.table),
        ("image_confidence", image_confidence.table),
        ("omniselect_tep", omniselect.table),
        ("suspects", suspects.tables),
        ("suspects_first", suspects_first.table),
        ("visits", visits.table),
    ],
)
def test_the_tables_of_a_page_are_those_of_its_rows(name, table):
    page = (RESULTS / f"{name}.md").read_text()
    parts = [part for part in table(rows_of(name)).split("\n\n") if part.startswith("|")]
    assert parts and all(part in page for part in parts)


def test_the_table_of_trainings_that_last_longer_and_longer():
    page = (RESULTS / "enough_training.md").read_text()
    assert enough_training.table(RESULTS / "enough_training.jsonl") in page


@pytest.mark.parametrize("name", objective_trials.SETTINGS)
def test_the_tables_of_the_objectives(name, capsys):
    folder = RESULTS / "objective_trials"
    given = Namespace(files=[folder / f"{name}.jsonl"], seeds=None, baseline="random")
    objective_trials.table(given)
    assert f"## {name}\n\n{capsys.readouterr().out}" in (folder / "README.md").read_text()


def test_the_page_of_evidence():
    assert evidence.page(evidence.collected()) == (RESULTS / "evidence.md").read_text()
