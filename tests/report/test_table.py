from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from adapruner_det.report.table import SHOWN_SAMPLES, selection_table
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import Selection


def some(keys=None, method="adapruner", names=("cat", "dog"), **more):
    keys = sorted(keys or [f"toy/{i:02d}" for i in range(20)])
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    score = np.arange(len(keys), dtype=float)
    columns = {
        "key": np.array(keys),
        "digest": digests,
        "kept": score < len(keys) * 0.75,
        "score": score,
        "classes": np.array([("0", "0 1", "")[i % 3] for i in range(len(keys))]),
    }
    datasets = {"toy": fingerprint(keys, digests)}
    return Selection(method, 0.75, 3, datasets, columns, class_names=names, **more)


def test_the_command_stands_in_it_where_it_is_known_and_is_never_long():
    command = "adapruner prune-net --config-file '<b>.yaml' SEED 1"
    assert Cells(selection_table(replace(some(), command=command))).table["command"] == command
    long = Cells(selection_table(replace(some(), command="a" * 9999 + "z"))).table["command"]
    assert len(long) < 200 and long.startswith("aaa") and long.endswith("az")


class Cells(HTMLParser):
    """The tags of a page, and its text by row."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.rows, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1][-1] += data

    @property
    def table(self):
        assert not self.open
        return dict(self.rows)


def test_what_stands_in_it():
    found = Cells(selection_table(replace(some(), soft_ratio=0.74321, cut_from=0.9))).table
    assert found == {
        "kept": "15 of 20 samples (75.00%), 5 dropped",
        "method": "adapruner, keep ratio 0.75 cut from 0.9, seed 3",
        "data sets": "toy",
        "soft ratio": "0.7432 before the cut",
        "kept by class": "cat 71.4%, dog 71.4%",
        "dropped first": "19 (19), 18 (18), 17 (17), 16 (16), 15 (15)",
        "kept first": "00 (0), 01 (1), 02 (2), 03 (3), 04 (4) and 10 more",
        "columns": "key, digest, kept, score, classes",
    }


def test_what_a_method_does_not_know_has_no_row():
    selection = some()
    columns = {k: v for k, v in selection.columns.items() if k != "classes"}
    found = Cells(selection_table(replace(selection, columns=columns))).table
    assert "soft ratio" not in found and "kept by class" not in found and "left out" not in found
    assert (
        Cells(selection_table(replace(selection, excluded={"toy/x": "torn"}))).table["left out"]
        == "1 that could not be used"
    )


def test_all_kept_has_nothing_dropped():
    found = Cells(selection_table(some().cut(1.0))).table
    assert found["dropped first"] == "none"


NASTY = '<script>alert("1")</script>&amp;\'" onload=x\u202e'


@pytest.mark.parametrize(
    "selection",
    [
        some([f"toy/{NASTY.replace('/', chr(92))}{i}" for i in range(20)]),
        some(method=NASTY),
        some(names=(NASTY, "dog")),
        replace(some(), datasets={NASTY: "x"}),
        replace(some(), columns={**some().columns, NASTY: np.zeros(20)}),
    ],
)
def test_whatever_names_hold_is_text(selection):
    html = selection_table(selection)
    found = Cells(html)
    assert {tag for tag, _ in found.tags} == {"table", "caption", "tbody", "tr", "th", "td"}
    assert all(set(attributes) <= {"scope", "style"} for _, attributes in found.tags)
    assert any("<script>" in value for value in found.table.values())
    assert "\u202e" not in html and "<script" not in html


def test_it_stays_small_however_many_samples_classes_and_letters():
    keys = [f"toy/{'x' * 500}{i:05d}" for i in range(5000)]
    large = some(keys, names=["y" * 500 + c for c in "abc"])
    columns = dict(large.columns)
    columns["classes"] = np.array([str(i % 900) for i in range(5000)])
    html = selection_table(
        replace(large, columns=columns, datasets={f"d{i}": "" for i in range(99)})
    )
    assert len(html) < 8000
    found = Cells(html).table
    assert (
        found["kept first"].count("(") == SHOWN_SAMPLES and "and 3,745 more" in found["kept first"]
    )
    assert "and 892 more" in found["kept by class"] and "and 91 more" in found["data sets"]
