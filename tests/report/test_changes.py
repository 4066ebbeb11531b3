import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.report.changes import Changes, Objects, changes

#: Five images of 100 x 50, with 1, 2, 0, 3 and 1 objects.
BOXES = [
    (0, 0, 0, 10, 10),  # the image, the class unless it is 0, the box
    (1, 0, 0, 40, 20),
    (1, 1, 0, 10, 40),
    (3, 1, 0, 20, 20),
    (3, 1, 0, 30, 15),
    (3, 2, 0, 100, 50),
    (4, 0, 0, 5, 5),
]
CLASSES = [0, 0, 1, 1, 1, 2, 0]
SMALL = Objects(
    np.array([own[0] for own in BOXES]),
    np.array(CLASSES),
    np.array([(0, 0, own[3], own[4]) for own in BOXES], dtype=float),
    np.full((5, 2), [100.0, 50.0]),
)
KEPT = np.array([True, True, True, False, False])


def test_classes_by_hand():
    found = changes(SMALL, KEPT, ["cat", "dog"])
    assert found.images == {"cat": (3, 2), "dog": (2, 1), "class 2": (1, 0)}
    assert found.objects == {"cat": (3, 2), "dog": (3, 1), "class 2": (1, 0)}
    assert found.per_image == (7 / 5, 1.0)


def test_boxes_by_hand():
    found = changes(SMALL, KEPT)
    # Sides: sqrt(area / 5000) of areas 100, 800, 400, 400, 450, 5000, 25; shapes 1, 2, 1/4, 1, 2,
    # 2, 1. The third of the images with most objects is of those with 1.67 and more: 1 and 3.
    assert found.kept["all"] == pytest.approx(3 / 7)
    assert found.kept["smallest third"] == pytest.approx(2 / 4)  # 25, 100, and the 400 twice
    assert found.kept["largest third"] == pytest.approx(1 / 3)  # 450, 800, 5000
    assert (found.kept["tall"], found.kept["wide"]) == (1.0, pytest.approx(1 / 3))
    assert found.kept["in crowded images"] == pytest.approx(2 / 5)
    assert found.median_side == pytest.approx((np.sqrt(400 / 5000), np.sqrt(400 / 5000)))


def test_boxes_below_a_pixel_have_their_own_sides_and_shapes():
    corners = np.array([(0, 0, 0.5, 0.5), (0, 0, 0.2, 0.8), (0, 0, 0.8, 0.2)])
    tiny = Objects(np.arange(3), np.zeros(3, dtype=int), corners, np.full((3, 2), [100.0, 50.0]))
    found = changes(tiny, np.array([True, True, False]))
    sides = np.sqrt([0.25 / 5000, 0.16 / 5000])
    assert found.median_side == pytest.approx((sides[1], sides.mean()))
    assert (found.kept["tall"], found.kept["wide"]) == (1.0, 0.0)


def test_without_boxes_classes_are_all_that_is_said():
    found = changes(Objects.of_classes([[0], [0, 1], [], [1, 1, 2], [0]]), KEPT)
    assert found.images == {"class 0": (3, 2), "class 1": (2, 1), "class 2": (1, 0)}
    assert set(found.kept) == {"all"} and found.median_side is None and not found.dropped


def test_what_is_planted_among_the_dropped_by_hand():
    kept = np.array([True] * 12 + [False] * 8)
    wrong, twins = np.zeros(20, dtype=bool), np.zeros(20, dtype=bool)
    wrong[[0, 12, 13]] = twins[[13, 14]] = True
    losses = np.arange(20.0)
    losses[[0, 12, 13]] = 99.0  # wrong, so not hard but right
    losses[19] = np.nan  # never seen
    found = changes(
        Objects.of_classes([[0]] * 20), kept, planted={"wrong": wrong, "twins": twins},
        losses=losses,
    ).dropped  # fmt: skip
    assert found["wrong"] == (2 / 8, 3 / 20) and found["twins"] == (2 / 8, 2 / 20)
    # Right: 1 to 11, 15 to 18; the highest tenth of those 15 is 17 and 18.
    assert found["hard, right"] == (2 / 8, 2 / 20)


def test_why_what_is_planted_went_by_hand():
    wrong = np.arange(8) < 5
    kept = np.array([False] * 4 + [True] * 2 + [False] * 2)
    why = np.array(["fault", "drawn", "fault", "easy", "", "", "easy", "drawn"])
    found = changes(Objects.of_classes([[0]] * 8), kept, planted={"wrong": wrong}, why=why)
    assert list(found.reasons["wrong"].items()) == [("fault", 2), ("drawn", 1), ("easy", 1)]
    assert found.plain()["reasons"] == {"wrong": {"fault": 2, "drawn": 1, "easy": 1}}
    assert changes(Objects.of_classes([[0]] * 8), kept, planted={"wrong": wrong}).reasons == {}


def test_hard_ones_are_told_only_beside_what_is_planted():
    found = changes(Objects.of_classes([[0]] * 5), KEPT, losses=np.arange(5.0))
    assert not found.dropped


def test_nothing_dropped_and_nothing_there_are_no_errors():
    every = changes(SMALL, np.ones(5, dtype=bool), planted={"wrong": KEPT})
    assert set(every.kept.values()) == {1.0}
    assert np.isnan(every.dropped["wrong"][0]) and every.plain()["dropped"]["wrong"] == [None, 0.6]
    empty = np.zeros(0, dtype=np.int64)
    none = Objects(empty, empty, np.zeros((0, 4)), np.full((5, 2), 9.0))
    found = changes(none, KEPT)
    assert found.images == {} and found.per_image == (0.0, 0.0)
    assert found.plain()["median_side"] == [None, None] and found.plain()["kept"]["all"] is None


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=30), st.data())
def test_counts_are_those_of_a_slow_count(classes, data):
    kept = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(classes), max_size=len(classes)))
    )
    found = changes(Objects.of_classes(classes), kept)
    for c in range(5):
        images = [c in own for own in classes]
        objects = [own.count(c) for own in classes]
        expected = {
            "images": (sum(images), sum(i for i, k in zip(images, kept, strict=True) if k)),
            "objects": (sum(objects), sum(o for o, k in zip(objects, kept, strict=True) if k)),
        }
        for name, pair in expected.items():
            assert getattr(found, name).get(f"class {c}", (0, 0)) == pair


def test_it_can_be_written_as_json():
    plain = changes(SMALL, KEPT, planted={"wrong": ~KEPT}).plain()
    assert plain["images"]["class 0"] == [3, 2] and plain["dropped"] == {"wrong": [1.0, 0.4]}
    assert isinstance(changes(SMALL, KEPT), Changes)
