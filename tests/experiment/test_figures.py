from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from adapruner_det.analysis.figures import save
from adapruner_det.experiment.figures import COLOURS, DASHES, MARKERS, MOST, curve, draw
from adapruner_det.experiment.tables import Row


def rows_of(method, values, budget="epochs"):
    """Keep ratio → values, one a seed."""
    return [
        Row(method, ratio, budget, seed, value, 10, 0.0, 1.0)
        for ratio, own in values.items()
        for seed, value in enumerate(own)
    ]


FULL = rows_of("full", {1.0: [90.0, 91.0, 92.0]})
ROWS = [
    *FULL,
    *rows_of("random", {0.5: [80.0, 81.0, 82.0], 0.9: [88.0, 89.0, 90.0]}),
    *rows_of("good", {0.9: [89.0, 90.0, 91.0], 0.5: [83.0, 84.0, 85.0]}),
    *rows_of("awful", {0.5: [20.0, 21.0, 22.0], 0.9: [70.0, 71.0, 72.0]}),
    *rows_of("good", {0.9: [50.0]}, "steps"),
]


def lines_of(panel):
    """Label → (x, y) of each line with its intervals."""
    return {c.get_label(): c.lines[0].get_xydata().T for c in panel.containers}


def test_a_curve_by_hand():
    found = curve(ROWS, "good", "epochs")
    assert found.ratios.tolist() == [50.0, 90.0] and found.means.tolist() == [84.0, 90.0]
    assert found.halves == pytest.approx([2.484, 2.484], abs=1e-3)
    assert curve(ROWS, "good", "steps").means.tolist() == [50.0]
    assert len(curve(ROWS, "nobody", "epochs").means) == 0


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_few_seeds_there_is_no_interval(seeds):
    rows = rows_of("random", {0.5: [1.0, 2.0][:seeds]}) + FULL[:seeds]
    assert np.isnan(curve(rows, "random", "epochs").halves).all()
    panel = draw(rows, "", "accuracy", "epochs").axes[0]
    assert not panel.containers[0].has_yerr and not panel.patches


def test_what_is_drawn_is_what_was_measured():
    figure = draw(ROWS, "some data", "AP50", "epochs")
    (panel,) = figure.axes
    lines = lines_of(panel)
    assert list(lines) == ["random", "awful", "good"]
    assert lines["good"][1].tolist() == [84.0, 90.0]
    assert lines["random"][0].tolist() == [50.0, 90.0]
    assert np.allclose(lines["good"][0], [50.0, 90.0], atol=1.0)  # moved aside a little
    full = [line for line in panel.lines if line.get_label() == "full"]
    assert full[0].get_ydata()[0] == 91.0 and panel.patches  # and its band
    assert figure.get_suptitle() == "some data: trained for equal epochs"
    assert figure.get_supylabel() == "AP50 on the test set, %"
    assert panel.get_xlabel().startswith("kept, %") and panel.get_xticks().tolist() == [50, 90]
    assert {t.get_text() for t in panel.get_legend().get_texts()} == {"full", *lines}


def test_methods_at_one_ratio_stand_near_its_tick():
    rows = FULL + [row for n in "abcde" for row in rows_of(n, {0.8: [80.0, 81.0, 82.0]})]
    (panel,) = draw(rows, "", "accuracy", "epochs").axes
    low, high = panel.get_xlim()
    places = [x for xs, _ in lines_of(panel).values() for x in xs]
    assert panel.get_xticks().tolist() == [80] and low < 80 < high
    assert np.ptp(places) < 0.1 * (high - low)


def test_no_word_lies_beside_the_picture_or_on_another():
    figure = draw(ROWS, "one of the data sets (1440 images), " * 4, "AP50", "epochs")
    figure.draw_without_rendering()
    (panel,), title = figure.axes, figure.texts[0]
    boxes = [part.get_window_extent() for part in (title, panel, panel.xaxis.label)]
    boxes.append(panel.get_legend().get_window_extent())
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.width for box in boxes)
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))


def test_intervals_of_one_ratio_lie_beside_each_other():
    rows = [row for row in ROWS if row.keep_ratio == 0.5 and row.method in ("random", "good")]
    (panel,) = draw(rows, "", "accuracy", "epochs").axes
    (first,), (other,) = (xs for xs, _ in lines_of(panel).values())
    assert first != other


def test_what_is_far_below_random_is_named_at_the_edge_and_does_not_flatten_the_rest():
    (panel,) = draw(ROWS, "", "accuracy", "epochs").axes
    low, high = panel.get_ylim()
    assert 60 < low < 80 and 91 < high < 97
    assert {text.get_text() for text in panel.texts} == {"21.0"}


def test_intervals_have_room_but_no_more_than_twice_that_of_the_values():
    near = rows_of("random", {0.5: [79.9, 80.0, 80.1], 0.9: [89.9, 90.0, 90.1]})
    (panel,) = draw(near, "", "accuracy", "epochs").axes
    half = curve(near, "random", "epochs").halves[0]
    low, high = panel.get_ylim()
    assert low < 80 - half and 90 + half < high
    wide = rows_of("random", {0.5: [70.0, 80.0, 90.0], 0.9: [89.9, 90.0, 90.1]})
    (panel,) = draw(wide, "", "accuracy", "epochs").axes
    low, high = panel.get_ylim()
    assert curve(wide, "random", "epochs").halves[0] > 20
    assert 56 < low < 60 and 104 < high < 109
    assert low > 80 - curve(wide, "random", "epochs").halves[0]
    worse = rows_of("worse", {0.5: [74.0, 75.0, 76.0], 0.9: [50.0, 75.0, 100.0]})
    (panel,) = draw([*near, *worse], "", "accuracy", "epochs").axes
    assert 73 < panel.get_ylim()[0] < 75  # of what is below random the values alone count


def test_what_several_methods_are_named_by_at_one_ratio_lies_above_each_other():
    worse = rows_of("worse", {0.5: [10.0, 11.0, 12.0], 0.9: [30.0, 31.0, 32.0]})
    (panel,) = draw([*ROWS, *worse], "", "accuracy", "epochs").axes
    heights = {text.get_text(): text.xyann[1] for text in panel.texts}
    assert heights.keys() == {"21.0", "11.0", "31.0"}
    assert heights["21.0"] + 8 <= heights["11.0"] and heights["31.0"] == heights["21.0"]


def test_the_budget_is_one():
    (panel,) = draw(ROWS, "", "accuracy", "steps").axes
    assert list(lines_of(panel)) == ["good"]


def test_many_methods_are_spread_over_panels_with_random_in_each():
    names = [f"m{n:02d}" for n in range(2 * MOST + 1)]
    rows = ROWS[:9] + [row for name in names for row in rows_of(name, {0.5: [80.0, 81.0, 82.0]})]
    panels = draw(rows, "", "accuracy", "epochs").axes
    drawn = [list(lines_of(panel)) for panel in panels]
    assert len(panels) == 3 and all(own[0] == "random" for own in drawn)
    assert sum((own[1:] for own in drawn), []) == names
    assert all(len(own) <= 1 + MOST for own in drawn)
    assert {panel.get_ylim() for panel in panels} == {panels[0].get_ylim()}


def test_nothing_yet_is_an_empty_picture(tmp_path):
    assert save(draw([], "nothing", "accuracy", "epochs"), tmp_path / "a.png").stat().st_size > 0
    assert draw(FULL, "", "accuracy", "epochs").axes[0].lines


def test_lines_of_a_panel_differ_in_more_than_colour():
    assert len(COLOURS) == len(set(COLOURS)) == MOST
    assert len(set(MARKERS)) == len(set(DASHES)) == MOST
    rows = ROWS[:9] + [r for n in range(MOST) for r in rows_of(f"m{n}", {0.5: [80.0], 0.9: [85.0]})]
    (panel,) = draw(rows, "", "accuracy", "epochs").axes
    drawn = [container.lines[0] for container in panel.containers]
    looks = [(line.get_marker(), str(line._dash_pattern)) for line in drawn]
    assert len({marker for marker, _ in looks}) == len({d for _, d in looks}) == MOST + 1
    assert len({to_rgb(line.get_color()) for line in drawn}) == MOST + 1


def test_the_same_figures_are_the_same_file(tmp_path):
    one, two = (save(draw(ROWS, "", "x", "epochs"), tmp_path / name) for name in ("a.png", "b.png"))
    assert one.read_bytes() == two.read_bytes()
