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


def alone(own, found):
    """The verdicts on one image; without others every label has the rank that it has among its own.

    That of the place is therefore told by :func:`among_right_ones`."""
    return judge([own], [found])[0]


def scores(own, found):
    return {kind: verdict.score for kind, verdict in alone(own, found).items()}


def among_right_ones(own, found, others=9):
    """The scores of an image among others whose labels are right."""
    right = labels((*BOX, 0), (*OTHER, 1))
    verdicts = judge([right] * others + [own], [RIGHT] * others + [found])
    return {kind: verdict.score for kind, verdict in verdicts[-1].items()}


def test_right_labels_raise_no_suspicion():
    found = among_right_ones(labels((*BOX, 0), (*OTHER, 1)), RIGHT)
    assert found[OVERLOOKED] == 0
    assert found[LOCATED] == 0.5  # as well placed as all others
    assert found[SWAPPED] < 0.05
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
def test_a_fault_is_seen(own, kind):
    clean = among_right_ones(labels((*BOX, 0), (*OTHER, 1)), RIGHT)
    found = among_right_ones(own, RIGHT)
    assert found[kind] > 0.85 and found[kind] > clean[kind] + 0.35


def test_the_verdict_names_the_boxes_and_classes():
    overlooked = alone(labels((*BOX, 0)), RIGHT)[OVERLOOKED]
    assert overlooked.box == overlooked.seen == OTHER
    assert (overlooked.given, overlooked.predicted) == (None, 1)
    swapped = alone(labels((*OTHER, 1), (*BOX, 1)), RIGHT)[SWAPPED]
    assert swapped.box == swapped.seen == BOX
    assert (swapped.given, swapped.predicted) == (1, 0)
    moved = alone(labels((*BOX, 1), (70, 70, 100, 100, 1)), RIGHT)[LOCATED]
    assert (moved.box, moved.seen) == ((70, 70, 100, 100), OTHER)
    lonely = alone(labels((40, 10, 55, 30, 1)), predicted())[UNSUPPORTED]
    assert (lonely.score, lonely.box, lonely.seen) == (1.0, (40, 10, 55, 30), None)


def test_without_predictions_nothing_is_known_of_place_and_class():
    found = alone(labels((*BOX, 0)), predicted())
    assert found[OVERLOOKED] is NOTHING
    for kind in (LOCATED, SWAPPED):
        assert found[kind].score == 0.5 and found[kind].seen is None


def test_an_image_without_labels_or_predictions_is_not_suspicious():
    assert set(scores(labels(), predicted()).values()) == {0.0}
    assert judge([], []) == []


def test_what_touches_a_crowd_is_not_overlooked_and_a_crowd_is_not_judged():
    crowd = labels((0, 0, 200, 200, 0), crowd=[0])
    found = alone(crowd, predicted((*BOX, 1, 0.9)))
    assert all(found[kind] == NOTHING for kind in KINDS)
    outside = alone(crowd, predicted((300, 300, 330, 330, 1, 0.9)))
    assert outside[OVERLOOKED].score == pytest.approx(0.9)


def test_a_rider_is_no_evidence_against_a_horse():
    horse, rider = (0, 40, 100, 100), (20, 0, 80, 70)
    own = labels((*horse, 0), (*rider, 1))
    found = predicted((*horse, 0, 0.4), (*rider, 1, 0.9))
    assert pairwise_iou(own.boxes[:1], own.boxes[1:])[0, 0] > 0.2
    assert scores(own, found)[SWAPPED] < 0.05


def test_two_labels_of_one_object_speak_against_each_other():
    found = alone(labels((*BOX, 0), (*BOX, 1)), predicted((*BOX, 0, 0.9)))
    assert found[SWAPPED].score > 0.9 and found[SWAPPED].given == 1


def test_a_surer_prediction_weighs_more():
    for kind, own in ((OVERLOOKED, labels()), (SWAPPED, labels((*BOX, 1)))):
        low, high = (scores(own, predicted((*BOX, 0, s)))[kind] for s in (0.3, 0.8))
        assert low < high
    moved = [labels((15, 15, 35, 35, 0))] * 2
    low, high = judge(moved, [predicted((*BOX, 0, s)) for s in (0.3, 0.8)])
    assert low[LOCATED].score < high[LOCATED].score


def test_a_label_is_compared_with_its_like():
    """Boxes of class 1 are small, and all placed worse than those of class 0."""
    own, seen = [], []
    for place in range(12):
        by = 1 + 0.1 * place
        own.append(labels((0, 0, 40, 40, 0), (100, 100, 110, 110, 1)))
        seen.append(predicted((0, 0, 40 + by, 40, 0, 0.9), (100 + 2 * by, 100, 112, 110, 1, 0.9)))
    own.append(labels((0, 0, 40, 40, 0), (100, 100, 110, 110, 1)))
    seen.append(predicted((15, 0, 55, 40, 0, 0.9), (102, 100, 112, 110, 1, 0.9)))
    places = [verdicts[LOCATED] for verdicts in judge(own, seen)]
    assert max(places[:12], key=lambda verdict: verdict.score).given == 1
    assert places[12].given == 0
    assert places[12].score > 0.95


def test_a_label_is_compared_with_those_of_its_size():
    """Small boxes of the one class are placed worse than all large ones but one."""
    own, found = [], []
    for place in range(24):
        small = place % 2
        side, by = (10, 2 + 0.1 * place) if small else (40 + place, 0.1 * place)
        by = 0.25 * side if place == 12 else by
        own.append(labels((0, 0, side, side, 0)))
        found.append(predicted((by, 0, side + by, side, 0, 0.9)))
    ranks = [verdicts[LOCATED].score for verdicts in judge(own, found)]
    assert ranks[12] == max(ranks[::2])
    assert ranks[12] > ranks[11]  # which is small, and placed worse


def test_labels_and_predictions_are_of_the_same_images():
    with pytest.raises(ValueError, match="shorter"):
        judge([labels((*BOX, 0))] * 2, [RIGHT])


def test_places_that_differ_by_rounding_alone_are_equal():
    own, found = [], []
    for by in (0.0, 0.1, 0.7, 1.3):
        own.append(labels((by, by, by + 0.3, by + 0.3, 0)))
        seen = {"classes": np.zeros(1, int), "scores": np.full(1, 0.9)}
        found.append({**seen, "boxes": np.array([[by + 0.1, by, by + 0.4, by + 0.3]])})
    ranks = [verdicts[LOCATED].score for verdicts in judge(own, found)]
    assert ranks == [0.5] * 4


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

few = settings(max_examples=20)


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
    """Kind → score of an image, box by box, as the module's docstring has it; for the place, those
    of all labels, which are not compared with others yet."""
    rows = list(
        zip(*(found[name].tolist() for name in ("boxes", "classes", "scores")), strict=True)
    )
    given = [
        (box, number)
        for box, number, crowd in zip(own.boxes.tolist(), own.classes, own.crowd, strict=True)
        if not crowd
    ]
    crowds = [box for box, crowd in zip(own.boxes.tolist(), own.crowd, strict=True) if crowd]
    result = dict.fromkeys(KINDS, 0.0) | {LOCATED: []}
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
        result[LOCATED].append(
            (round(place, 9), int(number), (box[2] - box[0]) * (box[3] - box[1]))
        )
        result[SWAPPED] = max(result[SWAPPED], (other + 0.005) / (other + same + 0.01))
        result[UNSUPPORTED] = max(result[UNSUPPORTED], 1 - support)
    return result


def rank(value, values):
    """In (0, 1), ties shared."""
    below, equal = sum(v < value for v in values), sum(v == value for v in values)
    return (below + equal / 2) / len(values)


def slowly_all(images):
    """As :func:`slowly` of several images, with the places compared."""
    results = [slowly(own, found) for own, found in images]
    places = [place for result in results for place in result[LOCATED]]
    areas = [area for _, _, area in places]

    def sixth(area):
        return int((sum(a < area for a in areas) + (sum(a == area for a in areas) - 1) / 2) * 6)

    for result in results:
        ranks = [0.0]
        for place, number, area in result[LOCATED]:
            alike = [p for p, n, _ in places if n == number]
            large = [p for p, _, a in places if sixth(a) // len(areas) == sixth(area) // len(areas)]
            ranks.append((rank(place, alike) + rank(place, large)) / 2)
        result[LOCATED] = max(ranks)
    return results


images = st.lists(st.tuples(label_rows, found_rows), min_size=1, max_size=3)


def all_scores(pairs):
    verdicts = judge([own for own, _ in pairs], [found for _, found in pairs])
    return [{kind: verdict.score for kind, verdict in own.items()} for own in verdicts]


def of_pairs(rows):
    return [(of_rows(own), of_found(found)) for own, found in rows]


def rounded(results):
    return [{kind: round(value, 7) for kind, value in result.items()} for result in results]


@given(images)
@settings(max_examples=60)
def test_as_computed_box_by_box(rows):
    expected = slowly_all(of_pairs(rows))
    for found, own in zip(all_scores(of_pairs(rows)), expected, strict=True):
        assert found == pytest.approx(own, abs=1e-9)


@few
@given(images)
def test_scores_lie_between_0_and_1(rows):
    assert all(0 <= value <= 1 for own in all_scores(of_pairs(rows)) for value in own.values())


@few
@given(images, st.sampled_from([0.1, 0.25, 3.7, 1024.0]))
def test_larger_images_have_the_same_scores(rows, scale):
    before = of_pairs(rows)
    large = [
        (
            Labels(own.boxes * scale, own.classes, own.crowd),
            {**found, "boxes": found["boxes"].astype(float) * scale},
        )
        for own, found in before
    ]
    assert rounded(all_scores(large)) == rounded(all_scores(before))


@few
@given(images, st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_count(rows, random):
    before = all_scores(of_pairs(rows))
    mixed = [(random.sample(own, len(own)), random.sample(seen, len(seen))) for own, seen in rows]
    assert all_scores(of_pairs(mixed)) == before


@few
@given(images)
def test_the_order_of_images_does_not_count(rows):
    assert all_scores(of_pairs(rows[::-1])) == all_scores(of_pairs(rows))[::-1]


@few
@given(images)
def test_predictions_that_are_there_twice_count_once(rows):
    twice = [(own, found + found) for own, found in rows]
    assert all_scores(of_pairs(twice)) == all_scores(of_pairs(rows))


@few
@given(images)
def test_predictions_of_no_confidence_say_nothing(rows):
    mute = [(own, [(box, number, 0.0) for box, number, _ in found]) for own, found in rows]
    nothing = [(own, []) for own, _ in rows]
    assert all_scores(of_pairs(mute)) == all_scores(of_pairs(nothing))


# --- what labels are told apart by ---


def test_a_digest_is_of_boxes_crowds_and_names_in_any_order():
    boxes = np.array([[1, 2, 30, 40.0], [5, 6, 7, 8]])
    whole = Labels(boxes, np.array([0, 2]), np.array([False, True]))
    known = whole.digest(["Dog", "cat", "dog"])
    turned = Labels(boxes[::-1], np.array([2, 0]), np.array([True, False]))
    assert turned.digest(["Dog", "cat", "dog"]) == known
    assert Labels(boxes, np.array([1, 0]), whole.crowd).digest(["dog", "Dog"]) == known
    others = [
        whole.digest(["dog", "cat", "Dog"]),
        whole.digest([]),
        Labels(boxes + 0.01, whole.classes, whole.crowd).digest(["Dog", "cat", "dog"]),
        Labels(boxes, whole.classes, ~whole.crowd).digest(["Dog", "cat", "dog"]),
        Labels(boxes[:0], whole.classes[:0], whole.crowd[:0]).digest([]),
    ]
    assert len({known, *others}) == 6
