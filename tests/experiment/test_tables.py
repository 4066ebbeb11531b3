import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.experiment.tables import (
    EQUAL,
    Row,
    Setting,
    gap,
    gap_to_random,
    interval_text,
    main_table,
    ranks,
    report,
    settings_of,
    spread,
    verdict,
    worst_table,
)

HALF = Setting(0.5, "epochs")


def rows_of(method, values, setting=HALF, images=10, select=2.0, train=4.0):
    """One row a value, with the seeds 0, 1 and on."""
    return [
        Row(method, *setting, seed, value, images, select * (seed + 1), train * (seed + 1))
        for seed, value in enumerate(values)
    ]


# Differences 1, 2, 3: mean 2, sd 1, 95% of Student's t with 2 degrees 4.3027, / sqrt(3) 2.4842.
RANDOM, BETTER = [50.0, 60.0, 70.0], [51.0, 62.0, 73.0]
SMALL = [
    *rows_of("full", [80.0, 82.0], Setting(1.0, "epochs"), 20),
    *rows_of("random", RANDOM),
    *rows_of("better", BETTER),
    *rows_of("worse", [40.0, 50.1, 59.9]),
    *rows_of("random", [10.0, 20.0, 30.0], Setting(0.2, "steps")),
    *rows_of("better", [9.0, 20.0, 29.0], Setting(0.2, "steps")),
]


def cells_of(text):
    """The words of a Markdown table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[word.strip() for word in line.strip("|").split("|")] for line in lines]


def test_what_is_dynamic_is_a_line_of_its_own_and_changes_no_other():
    whole = Setting(1.0, "epochs")
    dynamic = [replace(row, dynamic=True) for row in rows_of("ib", [99.0, 97.0], whole, 7, 0.0)]
    lines = main_table([*dynamic, *SMALL], "AP50").splitlines()
    assert cells_of("\n".join(lines))[1][:9] == [
        *("ib (dynamic)", "", "epochs", "7", "2", "98.00 ± 1.41", "", "", "")
    ]
    others = [
        [w.strip() for w in line.split("|")] for line in [*lines[:1], *lines[2:3], *lines[4:]]
    ]
    plain = main_table(SMALL, "AP50").splitlines()
    assert others == [[w.strip() for w in line.split("|")] for line in [plain[0], *plain[2:]]]
    for said in (worst_table, settings_of):
        assert said([*dynamic, *SMALL]) == said(SMALL)
    text = report([*dynamic, *SMALL], "t", "AP50", 1, 1)
    assert "and not its time" in text and "ib at" not in text
    assert "dynamic" not in report(SMALL, "t", "AP50", 1, 1)


def test_the_table_of_a_small_grid_by_hand():
    lines = cells_of(main_table(SMALL, "AP50"))
    assert [line[:4] for line in lines] == [
        ["full", "100", "epochs", "20"],
        ["random", "50", "epochs", "10"],
        ["better", "50", "epochs", "10"],
        ["worse", "50", "epochs", "10"],
        ["random", "20", "steps", "10"],
        ["better", "20", "steps", "10"],
    ]
    assert [line[4:6] for line in lines] == [
        ["2", "81.00 ± 1.41"],
        ["3", "60.00 ± 10.00"],
        ["3", "62.00 ± 11.00"],
        ["3", "50.00 ± 9.95"],
        ["3", "20.00 ± 10.00"],
        ["3", "19.33 ± 10.02"],
    ]
    assert [line[6:9] for line in lines] == [
        ["", "", ""],
        ["", "", "2"],
        ["+2.00 (-0.48 to +4.48)", "3 of 3", "1"],
        ["-10.00 (-10.25 to -9.75)", "0 of 3", "3"],
        ["", "", "1"],
        ["-0.67 (-2.10 to +0.77)", "0 of 3", "2"],
    ]
    assert [line[9:] for line in lines] == [["", "", "6.0"]] + [["4.0", "", "8.0"]] * 5


def test_the_memory_of_a_selection_by_hand():
    rows = rows_of("random", [5.0, 6.0])
    of = {"select_memory": (900.4, 800.0), "select_added": (1.0, 20.6), "select_gpu": (7.0, 5.0)}
    known = [
        replace(row, **{name: values[row.seed] for name, values in of.items()}) for row in rows
    ]
    (line,), head = cells_of(main_table(known, "AP50")), main_table(known, "AP50").splitlines()[0]
    assert line[9:] == ["3.0", "900 (+21)", "7", "6.0"]
    assert [w.strip() for w in head.strip("|").split("|")][10:12] == [
        "selection MB", "selection GPU MB",
    ]  # fmt: skip
    (line,) = cells_of(main_table([known[0], rows[1]], "AP50"))
    assert line[9:] == ["3.0", "", "", "6.0"]  # of one seed it is not known
    (line,) = cells_of(main_table([replace(row, select_memory=3.0) for row in rows], "AP50"))
    assert line[9:] == ["3.0", "3", "6.0"]


def test_the_worst_cells_by_hand():
    assert cells_of(worst_table(SMALL)) == [
        ["better", "-0.67 (-2.10 to +0.77) at 20% kept, equal steps", "1 of 2", "0"],
        ["worse", "-10.00 (-10.25 to -9.75) at 50% kept, equal epochs", "1 of 1", "1"],
    ]
    mixed = rows_of("random", [5.0, 5.0, 5.0]) + rows_of("mixed", [6.0, 2.0, 2.0])
    assert cells_of(worst_table(mixed))[0][2:] == ["1 of 1", "0"]
    assert worst_table(rows_of("better", [1.0])) == worst_table([]) == ""


def test_differences_are_paired_by_seed():
    rows = rows_of("random", RANDOM) + rows_of("better", BETTER)
    shuffled = [row for row in rows if (row.method, row.seed) != ("random", 1)]
    assert gap_to_random(shuffled, "better", HALF).values == (1.0, 3.0)
    assert gap_to_random(rows, "better", Setting(0.5, "steps")) is None
    assert gap_to_random(rows[3:], "better", HALF) is None


def test_the_interval_is_students():
    found = gap([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(2.4841, abs=1e-4))
    assert not found.is_sure and found.ahead == 3


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [5.0, 5.0 + 1e-13, 5.0]])
def test_without_a_spread_nothing_is_sure(values):
    """On a small test set accuracies come in steps, so that differences can be equal by chance."""
    found = gap(values)
    assert found.mean == pytest.approx(5.0) and np.isnan(found.half)
    assert not found.is_sure and interval_text(found) == "+5.00"
    rows = rows_of("random", [0.0] * len(values)) + rows_of("own", values)
    assert "beats" not in report(rows, "t", "AP", 9, 9)


def test_what_rounding_leaves_of_equal_means_is_no_difference():
    drawn, own = (95.3, 95.2, 95.2), (95.1, 95.3, 95.3)
    assert np.mean(np.subtract(own, drawn)) < 0  # for want of digits
    rows = [*rows_of("random", drawn), *rows_of("even", own)]
    assert gap_to_random(rows, "even", HALF).mean == 0.0
    (line,) = cells_of(worst_table(rows))
    assert line[1].startswith("+0.00 (") and line[2] == "0 of 1"
    assert gap([1e-14, 0.0, 0.1]).ahead == 1


def test_spread_divides_by_one_less():
    assert spread([1.0, 3.0]) == "2.00 ± 1.41"
    assert spread([1.234]) == "1.23"


def test_ranks_are_over_the_seeds_that_all_have():
    rows = rows_of("random", [5.0, 9.0]) + rows_of("a", [6.0]) + rows_of("b", [6.0, 0.0])
    assert ranks(rows, HALF) == {"a": 1, "b": 1, "random": 3}
    late = [Row("c", *HALF, 7, 99.0, 10, 0.0, 0.0)]
    assert ranks(rows + late, HALF) == ranks([], HALF) == {}


def test_settings_come_by_budget_and_the_largest_ratio_first():
    found = settings_of(
        [
            Row("x", r, b, 0, 0, 0, 0, 0)
            for r, b in ((0.2, "epochs"), (0.9, "steps"), (0.6, "epochs"))
        ]
        + rows_of("full", [1.0], Setting(1.0, "epochs"))
    )
    assert [tuple(setting) for setting in found] == [
        (0.6, "epochs"), (0.2, "epochs"), (0.9, "steps"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3.0, 3.1, 2.9], "x beats random at 50% kept, equal epochs: +3.00 (+2.75 to +3.25) AP50, "
         "ahead in 3 of 3 seeds."),
        ([1.0, 2.0, 3.0], "cannot be told from random"),
        ([9.0, 9.1, -0.1], "cannot be told from random"),
        ([3.0] * 9 + [-0.1], "cannot be told from random"),  # though the interval leaves 0 out
        ([5.0], "x cannot be told from random at 50% kept, equal epochs: +5.00 AP50, "
         "ahead in 1 of 1 seed."),
        ([0.0, 0.0, 0.0], "cannot be told from random"),
        ([-1.0, -1.1, 0.5], "cannot be told from random"),
        ([-1.0], "cannot be told from random"),
        ([-1.0, -1.1, -0.9], "x is BEHIND random at 50% kept, equal epochs: -1.00 (-1.25"),
        ([-3.0] * 9 + [0.1], "x is BEHIND random"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_lead(values, said):
    rows = rows_of("random", [50.0] * len(values)) + rows_of("x", [50.0 + v for v in values])
    assert said in verdict(rows, "x", HALF, "AP50")


def test_a_method_without_random_is_not_judged():
    assert "no seed to compare" in verdict(rows_of("x", [1.0]), "x", HALF, "AP50")


def test_a_grid_that_is_not_complete_is_tabulated_and_says_so():
    text = report(SMALL[:4], "digits, small", "AP50", 9, 4)
    assert text.startswith("# digits, small\n\nNot complete: 4 of 9 cells are done. AP50 ")
    assert "seeds 0, 1." in text and len(cells_of(text)) == 2
    assert "Not complete" not in report(SMALL, "t", "AP50", 9, 9)
    assert "seeds none yet" in report([], "t", "AP50", 9, 0)


def test_the_report_has_all_parts():
    text = report(SMALL, "t", "AP50", 9, 9)
    assert main_table(SMALL, "AP50") in text and worst_table(SMALL) in text
    assert text.count("\n- ") == 3 and "- worse is BEHIND random at 50% kept" in text


values = st.floats(0, 100, allow_nan=False)
tables = st.lists(
    st.builds(
        Row,
        st.sampled_from(["full", "random", "a", "b"]),
        st.sampled_from([0.5, 0.2]),
        st.sampled_from(["epochs", "steps"]),
        st.integers(0, 4),
        values,
        st.just(10),
        values,
        values,
    ),
    unique_by=lambda row: (row.method, row.keep_ratio, row.budget, row.seed),
    max_size=40,
)


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, rng):
    shuffled = random.Random(rng.random()).sample(rows, len(rows))
    assert report(shuffled, "t", "AP", 9, 9) == report(rows, "t", "AP", 9, 9)


@given(st.lists(values, min_size=1, max_size=6))
def test_what_is_equal_to_random_differs_by_nothing(found):
    rows = rows_of("random", found) + rows_of("same", found)
    same = gap_to_random(rows, "same", HALF)
    assert (same.mean, same.ahead, same.is_sure) == (0, 0, False)
    assert ranks(rows, HALF) == {"random": 1, "same": 1}


@given(st.lists(st.tuples(values, values), min_size=2, max_size=6))
def test_the_difference_turns_round_with_its_sides(pairs):
    one = gap([a - b for a, b in pairs])
    other = gap([b - a for a, b in pairs])
    assert one.mean == pytest.approx(-other.mean)
    assert one.half == pytest.approx(other.half, nan_ok=True)
    assert one.ahead + other.ahead + sum(abs(a - b) <= EQUAL for a, b in pairs) == len(pairs)
