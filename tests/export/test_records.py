import numpy as np
import pytest

from adapruner_det.export.records import Record, Records
from tests.export.examples import CLASSES, record, three


def test_what_is_not_said_of_a_record_is_nothing():
    plain = Record("toy/a", "/a.png", "a.png", 4, 3)
    assert plain.boxes.shape == (0, 4) and plain.label is None and plain.unusable == 0
    assert not Records([plain], CLASSES).is_classification
    assert Records([Record("toy/a", "", "", 4, 3, label=0)], CLASSES).is_classification


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"boxes": np.zeros((2, 5))}, "boxes"),
        ({"boxes": np.zeros(4)}, "boxes"),
        ({"boxes": np.zeros((1, 4)), "classes": np.zeros(2, int)}, "classes"),
        ({"crowd": np.zeros(1, bool)}, "crowd"),
        ({"difficult": np.zeros(1, bool)}, "difficult"),
        ({"ids": [1]}, "ids"),
        ({"extras": [{}]}, "extras"),
    ],
)
def test_columns_of_other_lengths_are_refused(more, word):
    with pytest.raises(ValueError, match=word):
        Record("toy/a", "/a.png", "a.png", 4, 3, **more)


def test_the_order_is_that_of_the_keys(tmp_path):
    a, b, _ = three(tmp_path).records
    for rows in ([b, a], [a, a]):
        with pytest.raises(ValueError, match="sorted and distinct"):
            Records(rows, CLASSES)


def test_data_sets_are_named_once(tmp_path):
    keys = ("one/a", "two/a", "two/b")
    found = Records([record(tmp_path / k[:3], k) for k in keys], CLASSES)
    assert found.dataset_names == ["one", "two"] and len(found) == 3
