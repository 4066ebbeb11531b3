import numpy as np
import pytest

from adapruner_det.predictions import save_predictions
from adapruner_det.report.predictions import (
    LOWEST,
    MOST,
    Predicted,
    best,
    disagreement,
    read_predictions,
)


def detections(*rows):
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "classes": table[:, 5].astype(np.int64)}


def test_detections_go_through_a_file_the_surest_first(tmp_path):
    found = [
        detections((0, 0, 9, 9, 0.3, 1), (5, 5, 9, 9, 0.8, 0), (0, 0, 1, 1, 0.01, 0)),
        detections(),
        detections((1, 2, 3, 4, 0.5, 2)),
    ]
    path = save_predictions(tmp_path / "p.npz", ["toy/b", "toy/c", "toy/a"], found)
    read = read_predictions(path)
    assert sorted(read) == ["toy/a", "toy/b"]
    assert read["toy/b"].scores.round(3).tolist() == [0.8, 0.3]
    assert read["toy/b"].classes.tolist() == [0, 1]
    assert read["toy/b"].boxes.tolist() == [[5, 5, 9, 9], [0, 0, 9, 9]]
    assert read["toy/a"].boxes.tolist() == [[1, 2, 3, 4]]


def test_probabilities_become_the_likeliest_class(tmp_path):
    table = np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], dtype=np.float32)
    read = read_predictions(save_predictions(tmp_path / "p.npz", ["toy/a", "toy/b"], table))
    assert read["toy/a"].classes.tolist() == [1] and read["toy/a"].boxes.shape == (0, 4)
    assert read["toy/b"].scores.round(3).tolist() == [0.6]


def test_where_nothing_is_found_there_is_nothing(tmp_path):
    path = save_predictions(tmp_path / "p.npz", ["toy/a", "toy/b"], [detections(), detections()])
    assert read_predictions(path) == {}


def test_of_very_many_the_surest_stay(tmp_path):
    rows = [(0, 0, 1 + i, 1, 0.1 + 0.8 * i / 300, 0) for i in range(300)]
    path = save_predictions(tmp_path / "p.npz", ["toy/a"], [detections(*rows)])
    found = read_predictions(path)["toy/a"]
    assert len(found.scores) == MOST and found.scores[0] == found.scores.max() > 0.89


def predicted(*rows):
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Predicted(table[:, :4], table[:, 5].astype(np.int64), table[:, 4])


BOXES, OWN = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]]), np.array([0, 1])
NO_CROWD = np.zeros(2, dtype=bool)


@pytest.mark.parametrize(
    ("rows", "alone", "missing", "least"),
    [
        ([(0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.1, 1)], [], [], 1),
        ([(0, 0, 10, 10, 0.1, 0), (20, 20, 40, 40, 0.9, 1)], [], [], 0),
        ([(0, 0, 10, 6, 0.9, 0), (20, 20, 40, 40, 0.6, 1)], [], [], 0),  # sure, but ill placed
        ([(0, 0, 10, 5, 0.9, 0)], [1], [], 1),  # an overlap of one half agrees
        ([(0, 0, 10, 4.9, 0.9, 0)], [0, 1], [0], 1),
        ([(0, 0, 10, 10, 0.9, 1)], [0, 1], [], 0),  # another class, but there is a box
        ([(20, 20, 40, 40, 0.9, 1), (60, 60, 70, 70, 0.49, 0)], [0], [], 0),  # not sure enough
        ([(20, 20, 40, 40, 0.9, 1), (60, 60, 70, 70, 0.5, 0)], [0], [1], 0),
        ([], [0, 1], [], 0),
    ],
)
def test_what_predictions_say_against_an_annotation(rows, alone, missing, least):
    assert disagreement(BOXES, OWN, NO_CROWD, predicted(*rows)) == (alone, missing, least)


def test_without_boxes_every_sure_prediction_is_one_too_many():
    nothing = np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    assert disagreement(*nothing, predicted((0, 0, 5, 5, 0.7, 0))) == ([], [0], -1)


def test_a_crowd_is_not_judged_nor_is_what_lies_in_it():
    rows = (0, 0, 10, 10, 0.9, 0), (21, 21, 25, 25, 0.9, 1), (21, 35, 25, 50, 0.9, 1)
    assert disagreement(BOXES, OWN, ~NO_CROWD, predicted(*rows)) == ([], [2], -1)
    one = np.array([False, True])
    assert disagreement(BOXES, OWN, one, predicted(*rows)) == ([], [2], 0)


def test_what_a_detector_gave_is_shown_the_surest_first():
    rows = [(0, 0, 1 + i, 1, 0.01 * (i % 100), 0) for i in range(300)]
    found = best(detections(*rows))
    assert len(found.scores) == MOST and found.scores[0] == found.scores.max()
    assert found.scores.min() >= LOWEST and found.boxes.dtype == found.scores.dtype == np.float64
    few = best(detections((0, 0, 9, 9, 0.2, 1), (1, 1, 2, 2, 0.04, 0), (5, 5, 9, 9, 0.8, 0)))
    assert few.boxes.tolist() == [[5, 5, 9, 9], [0, 0, 9, 9]] and few.classes.tolist() == [0, 1]
    assert best(detections()).boxes.shape == (0, 4)
