import json

import pytest

from adapruner_det.report.history import read_history


def line(step, ratio=0.5, alpha=1.0, **more):
    own = {"iteration": step, "adapruner/soft_ratio": ratio, "adapruner/alpha": alpha, **more}
    return json.dumps(own)


def written(folder, *lines):
    (folder / "metrics.json").write_text("\n".join(lines))
    return read_history(folder)


def test_the_points_of_a_run_in_their_order(tmp_path):
    found = written(tmp_path, line(19, 0.5, 0.1), line(39, 0.6, 0.7), line(59, 0.7, 1.5, lr=1))
    assert (found.steps, found.ratios, found.alphas) == (
        (19, 39, 59),
        (0.5, 0.6, 0.7),
        (0.1, 0.7, 1.5),
    )


def test_of_a_step_that_a_resumed_run_wrote_twice_the_last_counts(tmp_path):
    found = written(tmp_path, line(19), line(39, 0.9), line(39, 0.6), line(59))
    assert found.steps == (19, 39, 59) and found.ratios[1] == 0.6


@pytest.mark.parametrize(
    "bad",
    [
        '{"iteration": 5, "adapruner/sof',
        "[1]",
        "null",
        '{"iteration": 5, "lr": 1}',
        line("x"),
        line(True),
        line(-1),
        line(5, None),
        line(5, float("nan")),
        line(5, 0.5, float("inf")),
    ],
)
def test_lines_that_say_nothing_are_left_out(tmp_path, bad):
    found = written(tmp_path, line(19), bad, line(39), bad)
    assert found.steps == (19, 39)


def test_without_points_there_is_no_history(tmp_path):
    assert read_history(tmp_path) is None
    assert written(tmp_path, line(19)) is None
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.json").mkdir()
    assert read_history(tmp_path) is None


def test_a_long_run_is_thinned_and_ends_with_its_last_point(tmp_path):
    found = written(tmp_path, *(line(i, i / 10_000) for i in range(10_000)))
    assert 200 <= len(found.steps) <= 400
    assert found.steps[-1] == 9999 and found.ratios[-1] == 0.9999
    assert list(found.steps) == sorted(found.steps)
