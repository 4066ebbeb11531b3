import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.box_faults import LOCATED, OVERLOOKED, SWAPPED, UNSUPPORTED, Labels, Verdict
from adapruner_det.errors import DataError
from adapruner_det.predictions import Predictions
from adapruner_det.report.suspects import (
    KINDS,
    LOSS,
    RANKED,
    Annotated,
    Suspects,
    find_suspects,
    over_typical,
    read_list,
    share_found,
)

NAMES = ("cat", "dog")
SQUARE = (10.0, 10.0, 30.0, 30.0)
FAR = (60.0, 60.0, 90.0, 90.0)


def labels(*rows, crowd=False):
    rows = np.array(rows, dtype=float).reshape(-1, 5)
    return Labels(rows[:, :4], rows[:, 4].astype(int), np.full(len(rows), crowd))


def predicted(*rows):
    rows = np.array(rows, dtype=float).reshape(-1, 6)
    return {"boxes": rows[:, :4], "classes": rows[:, 4].astype(int), "scores": rows[:, 5]}


SEEN = predicted((*SQUARE, 0, 0.9), (*FAR, 1, 0.8))
RIGHT = labels((*SQUARE, 0), (*FAR, 1))
FAULTY = {
    OVERLOOKED: labels((*SQUARE, 0)),
    LOCATED: labels((*SQUARE, 0), (70, 70, 100, 100, 1)),
    SWAPPED: labels((*SQUARE, 1), (*FAR, 1)),
}


def of(all_labels, losses=None):
    """The suspects among images in all of which the same is seen."""
    keys = [f"a/{place:02d}" for place in range(len(all_labels))]
    annotated = Annotated(keys, [f"/x/{key[2:]}.jpg" for key in keys], all_labels, NAMES)
    losses = np.full(len(keys), np.nan) if losses is None else np.array(losses, dtype=float)
    found = Predictions(keys, [SEEN] * len(keys), losses, np.zeros(len(keys), int))
    return find_suspects(annotated, found)


@pytest.fixture
def suspects():
    """20 images, of which 3, 7 and 11 have a fault each."""
    faulty = dict(zip((3, 7, 11), FAULTY.values(), strict=True))
    return of([faulty.get(place, RIGHT) for place in range(20)])


def test_planted_faults_come_first_and_are_called_by_their_kind(suspects):
    assert set(suspects.order[:3].tolist()) == {3, 7, 11}
    assert [suspects.kind(place) for place in (3, 7, 11)] == list(FAULTY)
    assert suspects.overall[[3, 7, 11]] == pytest.approx(19 / 20)


def test_equal_images_come_by_key(suspects):
    rest = suspects.order[3:].tolist()
    assert rest == sorted(rest)


def test_a_high_loss_brings_an_image_to_the_top():
    found = of([RIGHT] * 10, losses=[1, 1, 1, 1, 5, 1, 1, 1, 1, 1])
    assert found.order[0] == 4 and found.kind(4) == LOSS
    row = found.row(4)
    assert row["scores"][LOSS] == pytest.approx(5) and row["box"] is None
    assert "5.00" in found.table(1) and "times the typical loss" in found.table(1)


def test_what_no_prediction_supports_moves_no_image(suspects):
    found = of([RIGHT] * 5 + [labels((*SQUARE, 0), (*FAR, 1), (35, 5, 50, 20, 0))])
    assert found.scores[UNSUPPORTED][5] == 1
    assert UNSUPPORTED not in RANKED and set(KINDS) == {*RANKED, UNSUPPORTED}
    clean = of([RIGHT] * 6)
    np.testing.assert_array_equal(found.shares[OVERLOOKED], clean.shares[OVERLOOKED])
    assert found.kind(5) != UNSUPPORTED


def test_the_lists_hold_all_images_the_most_suspicious_first(suspects, tmp_path):
    paths = suspects.save(tmp_path)
    rows = list(csv.DictReader(paths[0].read_text().splitlines()))
    content = json.loads(paths[1].read_text())
    keys = [suspects.annotated.keys[place] for place in suspects.order]
    assert [row["key"] for row in rows] == keys
    assert [row["key"] for row in content["images"]] == keys
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 21)]
    assert content["found"] == pytest.approx(suspects.found)
    row = rows[keys.index("a/11")]
    assert row["kind"] == SWAPPED and row["file"] == "/x/11.jpg"
    assert (row["given"], row["predicted"]) == ("dog", "cat")
    assert [float(row[name]) for name in ("x0", "y0", "x1", "y1")] == list(SQUARE)
    assert float(row["swapped"]) == pytest.approx(suspects.scores[SWAPPED][11], abs=1e-4)
    assert row["high_loss"] == ""  # it is not known
    other = content["images"][keys.index("a/11")]
    assert other["scores"][LOSS] is None
    assert other["by_kind"][SWAPPED]["box"] == list(SQUARE)
    assert set(other["by_kind"]) == {OVERLOOKED, LOCATED, SWAPPED, UNSUPPORTED}
    missing = rows[keys.index("a/03")]
    assert (missing["given"], missing["predicted"]) == ("", "dog")
    assert [float(missing[f"predicted_{name}"]) for name in ("x0", "y0")] == [60, 60]


def test_the_table_says_what_is_wrong_where(suspects):
    text = suspects.table(3)
    assert len(text.splitlines()) == 5
    for words in ("dog without a label", "dog, or cat?", "60 60 90 90", "/x/03.jpg", "a/07"):
        assert words in text


def test_a_name_that_a_terminal_would_obey_is_escaped():
    annotated = Annotated(["a/\x1b[2J"], ["/x/\x1b.jpg"], [RIGHT], NAMES)
    found = Predictions(annotated.keys, [SEEN], np.array([np.nan]), np.array([0]))
    assert "\x1b" not in find_suspects(annotated, found).table(1)


def test_a_class_without_a_name_has_a_number():
    annotated = Annotated([], [], [], NAMES)
    assert [annotated.name(number) for number in (None, 1, 7)] == ["", "dog", "class 7"]


def test_predictions_of_other_images_are_refused():
    annotated = Annotated(["a/1"], ["/x"], [RIGHT])
    other = Predictions(["a/2"], [SEEN], np.array([0.0]), np.array([0]))
    with pytest.raises(DataError, match="lack 1 of 1 images, first a/1"):
        find_suspects(annotated, other)


# --- losses ---


def test_a_loss_is_compared_with_that_of_images_with_as_many_objects():
    sizes = np.repeat([1, 4], 40)
    losses = sizes * 1.0
    losses[[5, 60]] = 3.0, 12.0
    over = over_typical(losses, sizes)
    assert over[[5, 60]] == pytest.approx(3.0)
    assert np.delete(over, [5, 60]) == pytest.approx(1.0)


def test_a_loss_that_is_not_known_or_not_finite_has_no_score():
    over = over_typical(np.array([1.0, np.nan, np.inf, 3.0, 2.0]), np.ones(5, int))
    assert over == pytest.approx([0.5, np.nan, np.nan, 1.5, 1.0], nan_ok=True)
    assert np.isnan(over_typical(np.full(3, np.nan), np.ones(3, int))).all()


def test_of_more_images_than_a_window_holds_all_kinds_are_compared_with():
    losses = np.repeat([1.0, 3.0], (5000, 4096))  # the last 4096 alone would make 3 typical
    assert over_typical(losses, np.ones(9096, int))[0] == 1


@given(st.lists(st.one_of(st.integers(0, 4).map(float), st.just(np.nan)), max_size=12))
@settings(max_examples=60)
def test_the_share_of_less_suspicious_images(values):
    values = np.array(values, dtype=float)
    empty = Annotated([], [], [])
    shares = Suspects(empty, [], {LOSS: values}, 1.0).shares[LOSS]
    known = values[np.isfinite(values)]
    for value, share in zip(values, shares, strict=True):
        if np.isnan(value):
            assert share == 0
        else:
            below, equal = (known < value).sum(), (known == value).sum()
            assert share == pytest.approx((below + (equal - 1) / 2) / len(known))


def test_of_equally_suspicious_images_the_one_that_more_speaks_against_comes_first():
    scores = {kind: np.zeros(4) for kind in RANKED}
    scores[OVERLOOKED] = np.array([0.0, 3.0, 1.0, 0.0])
    scores[SWAPPED] = np.array([3.0, 1.0, 0.0, 0.0])
    found = Suspects(Annotated([], [], []), [], scores, 1.0)
    assert found.overall[0] == found.overall[1] > found.overall[2]
    assert found.order.tolist() == [1, 0, 2, 3]


# --- what is found ---


def test_the_share_of_labels_that_are_found():
    pairs = [
        (RIGHT, SEEN),
        (labels((*SQUARE, 1)), SEEN),  # another class
        (labels((*SQUARE, 0)), predicted((*SQUARE, 0, 0.05))),  # not sure
        (labels((*SQUARE, 0)), predicted((20, 10, 40, 30, 0, 0.9))),  # elsewhere
        (labels((*SQUARE, 0), crowd=True), predicted()),  # not judged
        (labels(), SEEN),
    ]
    assert share_found(pairs) == pytest.approx(2 / 5)
    assert share_found([]) == 1


def test_a_verdict_that_scores_nothing_has_no_box():
    annotated = Annotated(["a/1"], ["/x"], [RIGHT], NAMES)
    scores = {kind: np.zeros(1) for kind in KINDS}
    nothing = Suspects(annotated, [{OVERLOOKED: Verdict(0.0)}], scores, 1.0)
    assert nothing.row(0)["box"] is None and nothing.row(0)["predicted"] == ""
    assert "a/1" in nothing.table(5)


# --- labels that were mended since ---------------------------------------------------------------


def test_a_mended_label_has_no_loss_any_more_and_numbers_of_classes_follow_their_names():
    before = [labels((*SQUARE, 1), (*FAR, 2))] * 9 + [labels((*SQUARE, 0), (*FAR, 2))]
    names, now = ["Cat", "cat", "dog"], ("cat", "dog")
    keys = [f"a/{place}" for place in range(10)]
    seen = predicted((*SQUARE, 1, 0.9), (*FAR, 2, 0.8))
    made = Predictions(
        *(keys, [seen] * 10, np.array([1.0] * 9 + [9.0]), np.zeros(10, int)),
        {"class_names": names},
        digests=np.array([own.digest(names) for own in before], dtype=np.uint64),
    )
    first = find_suspects(Annotated(keys, keys, before, names), made)
    assert first.order[0] == 9 and first.scores[SWAPPED][9] > 0.9 and first.scores[LOSS][9] == 9
    mended = find_suspects(Annotated(keys, keys, [RIGHT] * 10, now), made)
    assert mended.found == 1 and mended.scores[SWAPPED].max() < 0.1
    loss = mended.scores[LOSS]
    assert np.isnan(loss[9]) and np.all(loss[:9] == 1)


# --- a list that is read again -------------------------------------------------------------------


def test_the_list_that_is_written_is_read_in_its_order(suspects, tmp_path):
    file, _ = suspects.save(tmp_path)
    keys = suspects.annotated.keys
    places = read_list(file, keys)
    np.testing.assert_array_equal(np.argsort(places), suspects.order)
    assert sorted(places) == list(range(1, 21))
    assert read_list(file, ["a/07", "b/07"]).tolist() == [places[7], 0]


def test_a_name_that_holds_a_line_s_end_does_not_end_a_line(tmp_path):
    """As names of classes have it that were read from a file of another system."""
    keys = ["a/00\r", "a/01"]
    annotated = Annotated(keys, keys, [FAULTY[SWAPPED], RIGHT], ("cat\r", "dog\r"))
    found = Predictions(keys, [SEEN] * 2, np.full(2, np.nan), np.zeros(2, int))
    path, _ = find_suspects(annotated, found).save(tmp_path)
    assert sorted(read_list(path, keys).tolist()) == [1, 2]
    with open(path, newline="") as file:
        assert "dog\r" in {row["given"] for row in csv.DictReader(file)}


def test_a_person_s_list_has_lines_in_any_order_and_a_key_is_enough(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_bytes('\ufeffnote,key\r\n"blurred, dark",a/05\r\n\r\n,a/02\r\n'.encode())
    assert read_list(file, ["a/01", "a/02", "a/05"]).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no list .*`suspects` writes suspects.csv"),
        (b"", "names no column 'key'"),
        (b"rank;key\n1;a/01\n", "names no column 'key'"),
        (b"rank,key\n1,a/01\n2\n", "image 2 of the list has no key"),
        (b"key\na/01\na/02\na/01\n", "names a/01 more than once"),
        (b"key\nb/01\nb/02\n", "names 2 images, none of which is in the selection.* is a/01;"),
        (b"key\n", "names 0 images"),
        (b"\xff\xfe\x00", "is no list of suspects"),
        (b'key\n"a/01', "is no list of suspects"),
    ],
)
def test_what_is_no_list_of_these_images_is_refused(tmp_path, content, words):
    file = tmp_path / "list.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_list(file, ["a/01", "a/02"])
