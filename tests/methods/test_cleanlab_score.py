import sys
from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.methods import get_method, select
from adapruner_det.methods.cleanlab_score import arrays_of, cleanlab, labels_of

from .evidence import Given, ToyBoxes, order_of, samples

BOX, OTHER = [10.0, 10.0, 60.0, 60.0], [60.0, 20.0, 95.0, 90.0]


def detected(boxes, classes, scores=None):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores or [0.99] * len(boxes), np.float32),
        "classes": np.array(classes, np.int64),
    }


class Detections(Given):
    def __init__(self, classes, boxes, found, seed=0):
        super().__init__(classes, seed, boxes)
        self.found = found

    def predictions(self):
        return self.found


def test_labels_and_predictions_have_the_form_that_the_package_documents():
    samples = Given([[2, 0], []], boxes=[[BOX, OTHER], []]).samples
    labels = labels_of(samples)
    assert labels[0]["bboxes"].tolist() == [BOX, OTHER] and labels[0]["labels"].tolist() == [2, 0]
    assert labels[1]["bboxes"].shape == (0, 4) and labels[1]["labels"].shape == (0,)
    found = arrays_of(samples, [detected([BOX, OTHER], [3, 1], [0.5, 0.25]), detected([], [])])
    assert [len(own) for own in found] == [4, 4]  # of class 3 one was predicted
    assert [part.shape for part in found[0]] == [(0, 5), (1, 5), (0, 5), (1, 5)]
    assert found[0][3].tolist() == [[*BOX, 0.5]] and found[0][1].tolist() == [[*OTHER, 0.25]]
    assert all(part.shape == (0, 5) for part in found[1])


def test_it_is_what_the_package_says():
    rank = pytest.importorskip("cleanlab.object_detection.rank", reason="no cleanlab")
    evidence = ToyBoxes(seed=4)
    samples, found = evidence.samples, evidence.predictions()
    labels = [
        {"bboxes": own, "labels": np.array(classes, int)}
        for own, classes in zip(samples.boxes, samples.classes, strict=True)
    ]
    predictions = [
        [
            np.array(
                [
                    [*b, s]
                    for b, s, k in zip(own["boxes"], own["scores"], own["classes"], strict=True)
                    if k == c
                ]
            ).reshape(-1, 5)
            for c in range(3)
        ]
        for own in found
    ]
    expected = rank.get_label_quality_scores(labels, predictions, verbose=False)
    choice = cleanlab(evidence, 0.5)
    np.testing.assert_allclose(choice.columns["label_quality"], expected, rtol=1e-6)
    assert (np.diff(expected[order_of(choice)]) <= 1e-12).all()
    assert expected.std() > 0.01


def test_wrong_annotations_go_first():
    pytest.importorskip("cleanlab", reason="no cleanlab")
    classes = [[0, 1]] * 30 + [[1, 0], [0]]  # swapped, and one overlooked
    boxes = [[BOX, OTHER]] * 31 + [[BOX]]
    found = [detected([BOX, OTHER], [0, 1])] * 32
    order = order_of(cleanlab(Detections(classes, boxes, found), 0.5))
    assert set(order[-2:]) == {30, 31}


@pytest.mark.parametrize("classes", [[[]], [[0]], [[0], []]])
@pytest.mark.parametrize("seen", [True, False])
def test_few_boxes_and_no_detections_are_served(classes, seen):
    pytest.importorskip("cleanlab", reason="no cleanlab")
    boxes = [[BOX] * len(own) for own in classes]
    found = [detected([BOX], [0]) if seen else detected([], []) for _ in classes]
    choice = cleanlab(Detections(classes, boxes, found), 0.5)
    assert sorted(order_of(choice)) == list(range(len(classes)))
    assert not np.isnan(choice.columns["label_quality"]).any()


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    said = r"needs the package: pip install 'adapruner-det\[cleanlab\]'"
    with pytest.raises(DataError, match=said):
        select("cleanlab", ToyBoxes(), 0.5)
    with pytest.raises(DataError, match=said):  # as a grid asks before it trains
        get_method("cleanlab").check({}, samples(), 5, 0.5)


def test_what_the_package_cannot_score_is_said_in_one_line():
    pytest.importorskip("cleanlab", reason="no cleanlab")
    evidence = ToyBoxes()
    evidence.samples = replace(
        evidence.samples, boxes=[own[:, :3] for own in evidence.samples.boxes]
    )
    evidence.predictions = ToyBoxes().predictions
    with pytest.raises(DataError, match="cleanlab cannot score these annotations") as caught:
        cleanlab(evidence, 0.5)
    assert "\n" not in str(caught.value)
