"""The tables of docs/method.md and docs/comparison.md say what evidence.md says, rounded."""

import re
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest

from benchmarks.evidence import RESULTS
from tests.conftest import ROOT

FIGURE = re.compile(r"[+-]\d+\.\d+")
RATIOS = ("90", "80", "60", "30")


def tables(text):
    """The tables of a page, each a list of rows, a row a list of what its cells say."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [
        [line for line in block.splitlines() if not re.match(r"\|[ :-]+\|", line)]
        for block in blocks
    ]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in own] for own in lines
    ]


def sections(page):
    """Heading → the text below it, down to the next heading."""
    parts = re.split(r"^#+ (.*)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


EVIDENCE = sections((RESULTS / "evidence.md").read_text())
METHOD = sections((ROOT / "docs/method.md").read_text())
COMPARISON = sections((ROOT / "docs/comparison.md").read_text())


def by_name(table):
    """(first cell, second cell) of a row → heading → cell."""
    head, *rows = table
    return {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}


def by_method(table):
    """First cell of a row → heading → cell."""
    head, *rows = table
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def rounded(text):
    """``text`` with its figures rounded to a tenth, as the pages of docs/ write them."""

    def short(match):
        value = Decimal(match[0]).quantize(Decimal("0.1"), ROUND_HALF_UP)
        return f"{value:+}".replace("-", "−") if value else "0.0"

    return FIGURE.sub(short, text.partition("),")[0] + (")" if ")," in text else ""))


def mean(cells):
    found = [Decimal(FIGURE.match(cell)[0]) for cell in cells]
    return rounded(f"{sum(found) / len(found):+.2f}")


DETECTION = by_name(tables(EVIDENCE["Detection"])[0])
CLASSES = by_name(tables(EVIDENCE["Classification"])[0])

#: Of docs/method.md → of evidence.md.
DETECTORS = {
    "the demo": "demo",
    "steel defects": "neu_det",
    "blood cells": "bccd",
    "airport debris": "foda",
    "steel defects, few planted": "neu_det_few_planted",
    "steel defects, many planted": "neu_det_planted",
    "blood cells, as many planted": "bccd_planted",
    "the clean steel defects' part": "neu_det, faster_rcnn",
}
IMAGES = {
    "digits": "digits",
    "MNIST": "mnist",
    "CIFAR-10, 10,000 images": "cifar10",
    "CIFAR-10, 30,000 images": "cifar10_30000",
}
CONDITIONS = {"clean": "clean", "15% wrong labels": "wrong", "half near-copies": "twins"}


def set_of(label):
    """The longest name of :data:`DETECTORS` that a row's label begins with."""
    return DETECTORS[max((n for n in DETECTORS if label.startswith(n)), key=len)]


def test_detection_at_80():
    _, *rows = tables(METHOD["Detection"])[0]
    found = {set_of(row[0]): row[2:4] for row in rows[:-2]}
    assert len(found) == len(rows) - 2 == len(DETECTORS)
    for name, said in found.items():
        cell = DETECTION[name, "80"]
        expected = [rounded(cell["inclusion − random"]), rounded(cell["inclusion − all"])]
        assert said == expected, name
    pooled, of_sets = tables(EVIDENCE["Detection"])[1:3]
    assert rows[-2][2] == rounded(by_method(pooled)["inclusion"]["pooled at 80%"])
    assert rows[-1][2] == rounded(by_method(of_sets)["inclusion"]["at 80%"])


def test_detection_at_other_ratios():
    head, *rows = tables(METHOD["Detection"])[1]
    for row in rows[:-1]:
        for ratio, said in zip(head[1:], row[1:], strict=True):
            cell = DETECTION.get((set_of(row[0]), ratio.rstrip("%")))
            both = cell and [rounded(cell[f"inclusion − {rival}"]) for rival in ("random", "all")]
            assert said == (", ".join(both) if both else "not run"), (row[0], ratio)
    pooled = tables(EVIDENCE["Detection"])[1]
    own = by_method(pooled)["inclusion"]
    for ratio, said in zip(head[1:], rows[-1][1:], strict=True):
        assert said.removesuffix(" to random") == rounded(own[f"pooled at {ratio}"])


def test_classification_by_ratio():
    _, *rows = tables(METHOD["Classification"])[0]
    of_sets = tables(EVIDENCE["Classification"])[2]
    own = by_method(of_sets)
    for row in rows:
        for method, said in zip(("inclusion", "paper"), row[1:3], strict=True):
            assert said == rounded(own[method][f"at {row[0]}"]), (row[0], method)
        cells = [cell for (_, ratio), cell in CLASSES.items() if f"{ratio}%" == row[0]]
        assert len(cells) == 12
        ahead = np.mean([float(cell["all"]) - float(cell["random"]) for cell in cells])
        assert row[3] == rounded(f"{ahead:+.2f}")


def test_classification_by_data():
    _, *rows = tables(METHOD["Classification"])[1]
    assert len(rows) == len(IMAGES) * len(CONDITIONS)
    for data, condition, *said in rows:
        name = f"{IMAGES[data]}, {CONDITIONS[condition]}"
        cells = {ratio: CLASSES[name, ratio] for ratio in RATIOS}
        for column, own in zip(("inclusion − random", "paper − random"), said, strict=False):
            there = [ratio for ratio in RATIOS if cells[ratio][column]]
            expected = mean([cells[ratio][column] for ratio in there]) if there else "not run"
            partly = 0 < len(there) < len(RATIOS)
            assert own == expected + (f" ({', '.join(there)}%)" if partly else ""), (name, column)
        assert said[2:] == [rounded(cells[ratio]["inclusion − all"]) for ratio in ("90", "80")]


def methods_of(name):
    """Method → heading → cell, of a table of all methods."""
    return by_method(tables(EVIDENCE[f"All methods: {name}"])[0])


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        *(
            (
                f"All methods on {title}",
                {
                    f"{r}%, {c}": (f"{name}, {c}", f"at {r}%")
                    for r in RATIOS
                    for c in ("clean", "wrong")
                },
            )
            for title, name in (("MNIST", "mnist"), ("CIFAR-10", "cifar10"))
        ),
        (
            "All methods on digits",
            {
                "clean": ("digits, clean", "mean"),
                "15% wrong": ("digits, wrong", "mean"),
                "half near-copies": ("digits, twins", "mean"),
            },
        ),
        (
            "Methods for detectors on steel defects at 80% kept",
            {"to random": ("neu_det", "at 80%")},
        ),
        *(
            (
                f"Methods for detectors on {title} at 80 and 60% kept",
                {f"to random at {r}%": (name, f"at {r}%") for r in (80, 60)},
            )
            for title, name in (("blood cells", "bccd"), ("airport debris", "foda"))
        ),
    ],
)
def test_all_methods(heading, columns):
    head, *rows = tables(COMPARISON[heading])[0]
    told = {name for row in rows for name in re.findall(r"`(.+?)`", row[0])}
    assert told >= methods_of(next(iter(columns.values()))[0]).keys()
    for row in rows:
        said = dict(zip(head, row, strict=True))
        for name in re.findall(r"`(.+?)`", row[0]):
            for column, (table, of) in columns.items():
                assert said[column] == rounded(methods_of(table)[name][of]), (name, column)


def test_all_methods_over_all_sets():
    head, *rows = tables(COMPARISON["All methods over all three"])[0]
    page = (RESULTS / "evidence.md").read_text()
    top, *lines = tables(page.partition("### All methods, all of their cells\n")[2])[0]
    columns = ["mean", *(name for name in top if name.startswith("at ")), "below random", top[-2]]
    data = {"cifar10": "CIFAR-10", "mnist": "MNIST", "digits": "digits"}
    assert len(rows) == 12
    for row, line in zip(rows, lines, strict=False):
        own = dict(zip(top, line, strict=True))
        lowest = rounded(own["lowest cell"]).replace(" at ", ", ")
        for name, title in data.items():
            lowest = lowest.replace(name, title)
        assert row == [f"`{line[0]}`", *(rounded(own[name]) for name in columns), lowest]
