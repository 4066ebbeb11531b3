import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.box_faults import (
    KINDS,
    LOCATED,
    NOTHING,
    OVERLOOKED,
    SWAPPED,
    UNSUPPORTED,
    Labels,
    covered,
    judge,
    pairwise_iou,
)

# --- examples ---


def labels(*rows, crowd=()):
    """Of rows (x0, y0, x1, y1, class)."""
    rows = np.array(rows, dtype=float).reshape(-1, 5)
    is_crowd = np.array([i in crowd for i in range(len(rows))], dtype=bool)
    return Labels(rows[:, :4], rows[:, 4].astype(int), is_crowd)


def predicted(*rows):
    """Of rows (x0, y0, x1, y1, class, score), as a detector gives them."""
    rows = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return {
        "boxes": rows[:, :4],
        "classes": rows[:, 4].astype(np.int64),
        "scores": rows[:, 5],
    }


BOX, OTHER = (10, 10, 30, 30), (60, 60, 90, 90)
RIGHT = predicted((*BOX, 0, 0.9), (*OTHER, 1, 0.9))


def scores(own, found):
    return {kind: verdict.score for kind, verdict in judge(own, found).items()}


def test_right_labels_raise_no_suspicion():
    found = scores(labels((*BOX, 0), (*OTHER, 1)), RIGHT)
    assert found[OVERLOOKED] == 0
    assert found[LOCATED] < 0.2 and found[SWAPPED] < 0.05
    assert found[UNSUPPORTED] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        (labels((*BOX, 0)), OVERLOOKED),
        (labels(), OVERLOOKED),
        (labels((*BOX, 0), (70, 70, 100, 100, 1)), LOCATED),
        (labels((*BOX, 1), (*OTHER, 1)), SWAPPED),
        (labels((*BOX, 0), (*OTHER, 1), (40, 10, 55, 30, 1)), UNSUPPORTED),
    ],
)
def test_a_fault_is_seen_and_stands_out_by_its_kind(own, kind):
    clean = scores(labels((*BOX, 0), (*OTHER, 1)), RIGHT)
    found = scores(own, RIGHT)
    assert found[kind] > 0.8
    risen = {name: found[name] - clean[name] for name in KINDS}
    assert max(risen, key=risen.get) == kind


def test_the_verdict_names_the_boxes_and_classes():
    overlooked = judge(labels((*BOX, 0)), RIGHT)[OVERLOOKED]
    assert overlooked.box == overlooked.seen == OTHER
    assert (overlooked.given, overlooked.predicted) == (None, 1)
    swapped = judge(labels((*OTHER, 1), (*BOX, 1)), RIGHT)[SWAPPED]
    assert swapped.box == swapped.seen == BOX
    assert (swapped.given, swapped.predicted) == (1, 0)
    moved = judge(labels((70, 70, 100, 100, 1)), RIGHT)[LOCATED]
    assert (moved.box, moved.seen) == ((70, 70, 100, 100), OTHER)
    lonely = judge(labels((40, 10, 55, 30, 1)), predicted())[UNSUPPORTED]
    assert (lonely.score, lonely.box, lonely.seen) == (1.0, (40, 10, 55, 30), None)


def test_without_predictions_nothing_is_known_of_place_and_class():
    found = judge(labels((*BOX, 0)), predicted())
    assert found[OVERLOOKED] is NOTHING
    for kind in (LOCATED, SWAPPED):
        assert found[kind].score == 0.5 and found[kind].seen is None


def test_an_image_without_labels_or_predictions_is_not_suspicious():
    assert set(scores(labels(), predicted()).values()) == {0.0}


def test_what_touches_a_crowd_is_not_overlooked_and_a_crowd_is_not_judged():
    crowd = labels((0, 0, 200, 200, 0), crowd=[0])
    found = judge(crowd, predicted((*BOX, 1, 0.9)))
    assert all(found[kind] == NOTHING for kind in KINDS)
    outside = judge(crowd, predicted((300, 300, 330, 330, 1, 0.9)))
    assert outside[OVERLOOKED].score == pytest.approx(0.9)


def test_a_rider_is_no_evidence_against_a_horse():
    horse, rider = (0, 40, 100, 100), (20, 0, 80, 70)
    own = labels((*horse, 0), (*rider, 1))
    found = predicted((*horse, 0, 0.4), (*rider, 1, 0.9))
    assert pairwise_iou(own.boxes[:1], own.boxes[1:])[0, 0] > 0.2
    assert judge(own, found)[SWAPPED].score < 0.05


def test_two_labels_of_one_object_speak_against_each_other():
    found = judge(labels((*BOX, 0), (*BOX, 1)), predicted((*BOX, 0, 0.9)))
    assert found[SWAPPED].score > 0.9 and found[SWAPPED].given == 1


def test_a_surer_prediction_weighs_more():
    for kind, own in ((OVERLOOKED, labels()), (SWAPPED, labels((*BOX, 1)))):
        low, high = (judge(own, predicted((*BOX, 0, s)))[kind].score for s in (0.3, 0.8))
        assert low < high
    moved = labels((15, 15, 35, 35, 0))
    low, high = (judge(moved, predicted((*BOX, 0, s)))[LOCATED].score for s in (0.3, 0.8))
    assert low < high


def test_many_right_boxes_do_not_add_up():
    grid = [(x, y, x + 20, y + 20) for x in range(0, 300, 30) for y in range(0, 300, 30)]
    own = labels(*[(*box, 0) for box in grid])
    found = predicted(*[(*box, 0, 0.9) for box in grid])
    one = scores(labels((*grid[0], 0)), predicted((*grid[0], 0, 0.9)))
    assert scores(own, found) == pytest.approx(one)


def test_boxes_without_area_overlap_nothing():
    flat = np.array([[5.0, 5.0, 5.0, 9.0]])
    assert pairwise_iou(flat, flat)[0, 0] == 0
    assert covered(flat, np.array([[0.0, 0.0, 10.0, 10.0]]))[0, 0] == 0


# --- properties ---

corner = st.integers(0, 40)
side = st.integers(1, 24)
boxes = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
classes = st.integers(0, 2)
score = st.integers(0, 100).map(lambda percent: percent / 100)
label_rows = st.lists(st.tuples(boxes, classes, st.booleans()), max_size=5)
found_rows = st.lists(st.tuples(boxes, classes, score), max_size=6)

few = settings(max_examples=40, deadline=None)


def of_rows(rows):
    return labels(
        *[(*box, number) for box, number, _ in rows],
        crowd=[i for i, row in enumerate(rows) if row[2]],
    )


def of_found(rows):
    return predicted(*[(*box, number, sure) for box, number, sure in rows])


def ramp(u, low, high):
    return min(max((u - low) / (high - low), 0.0), 1.0)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(area) - shared), shared / area[0]


def slowly(own, found):
    """Kind → score, box by box, as the module's docstring has it."""
    rows = list(
        zip(*(found[name].tolist() for name in ("boxes", "classes", "scores")), strict=True)
    )
    given = [
        (box, number)
        for box, number, crowd in zip(own.boxes.tolist(), own.classes, own.crowd, strict=True)
        if not crowd
    ]
    crowds = [box for box, crowd in zip(own.boxes.tolist(), own.crowd, strict=True) if crowd]
    result = dict.fromkeys(KINDS, 0.0)
    for box, _, sure in rows:
        near = max([iou(box, b)[0] for b, _ in given] + [iou(box, b)[1] for b in crowds], default=0)
        result[OVERLOOKED] = max(result[OVERLOOKED], sure * (1 - ramp(near, 0.05, 0.25)))
    for box, number in given:
        fit = against_place = same = other = support = 0.0
        for seen, what, sure in rows:
            u = iou(seen, box)[0]
            nearest = all(iou(seen, b)[0] <= u for b, _ in given)
            support = max(support, sure * ramp(u, 0.1, 0.5))
            if nearest:
                fit = max(fit, sure**0.5 * ramp(u, 0.4, 0.8))
                against = sure**0.5 * ramp(u, 0, 0.2) * (1 - ramp(u, 0.4, 0.8))
                against_place = max(against_place, against)
            if what == number:
                same = max(same, sure * ramp(u, 0.2, 0.5))
            elif nearest:
                other = max(other, sure * ramp(u, 0.2, 0.5))
        place = (against_place + 0.3) / (against_place + fit + 0.6)
        result[LOCATED] = max(result[LOCATED], place)
        result[SWAPPED] = max(result[SWAPPED], (other + 0.005) / (other + same + 0.01))
        result[UNSUPPORTED] = max(result[UNSUPPORTED], 1 - support)
    return result


@given(label_rows, found_rows)
@settings(max_examples=150, deadline=None)
def test_as_computed_box_by_box(own, found):
    own, found = of_rows(own), of_found(found)
    assert scores(own, found) == pytest.approx(slowly(own, found), abs=1e-9)


@few
@given(label_rows, found_rows)
def test_scores_lie_between_0_and_1(own, found):
    assert all(0 <= value <= 1 for value in scores(of_rows(own), of_found(found)).values())


@few
@given(label_rows, found_rows, st.sampled_from([0.25, 2.0, 3.7, 100.0]))
def test_a_larger_image_has_the_same_scores(own, found, scale):
    own, found = of_rows(own), of_found(found)
    large = Labels(own.boxes * scale, own.classes, own.crowd)
    seen = {**found, "boxes": found["boxes"].astype(float) * scale}
    assert scores(large, seen) == pytest.approx(scores(own, found), abs=1e-6)


@few
@given(label_rows, found_rows, st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_count(own, found, random):
    before = scores(of_rows(own), of_found(found))
    own, found = list(own), list(found)
    random.shuffle(own)
    random.shuffle(found)
    assert scores(of_rows(own), of_found(found)) == before


@few
@given(label_rows, found_rows)
def test_predictions_that_are_there_twice_count_once(own, found):
    assert scores(of_rows(own), of_found(found + found)) == scores(of_rows(own), of_found(found))


@few
@given(label_rows, found_rows)
def test_predictions_of_no_confidence_say_nothing(own, found):
    mute = [(box, number, 0.0) for box, number, _ in found]
    nothing = scores(of_rows(own), of_found([]))
    assert scores(of_rows(own), of_found(mute)) == nothing
