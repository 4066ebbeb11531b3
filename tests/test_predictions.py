import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.errors import DataError
from adapruner_det.predictions import FORMAT, Predictions, joined, read_rows, save_predictions
from adapruner_det.report.predictions import read_predictions


def found(count, seed=0):
    rng = np.random.default_rng([seed, count])
    low = rng.uniform(0, 50, (count, 2))
    return {
        "boxes": np.hstack([low, low + rng.uniform(1, 20, (count, 2))]).astype(np.float32),
        "scores": rng.uniform(0, 1, count).astype(np.float32),
        "classes": rng.integers(0, 3, count),
    }


def made(keys, counts=None, **about):
    counts = counts or [2] * len(keys)
    return Predictions(
        keys,
        [found(count, place) for place, count in enumerate(counts)],
        np.arange(len(keys), dtype=float),
        np.arange(len(keys)) % 2,
        about,
    )


def same(first, second):
    assert list(first.keys) == list(second.keys)
    for one, other in zip(first.found, second.found, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(first.folds, second.folds)
    assert first.about == second.about
    assert (first.digests is None) == (second.digests is None)
    if first.digests is not None:
        np.testing.assert_array_equal(first.digests, second.digests)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
@settings(max_examples=20)
def test_what_is_saved_is_read(tmp_path_factory, counts):
    whole = made([f"a/{i}" for i in range(len(counts))], counts, folds=2, title="ü")
    path = tmp_path_factory.mktemp("p") / "predictions.npz"
    assert whole.save(path) == path
    same(Predictions.load(path), whole)


def test_a_loss_may_be_unknown(tmp_path):
    whole = dataclasses.replace(made(["a/1", "a/2"]), losses=np.array([np.nan, 1.0]))
    same(Predictions.load(whole.save(tmp_path / "p.npz")), whole)


def test_what_losses_are_of_is_saved_joined_and_taken_apart(tmp_path):
    first, second = (
        dataclasses.replace(made(keys), digests=np.array(digests, dtype=np.uint64))
        for keys, digests in ((["a/1", "a/4"], [2**64 - 1, 4]), (["a/2"], [2]))
    )
    whole = joined([first, second], {})
    assert whole.digests.tolist() == [2**64 - 1, 2, 4]
    same(Predictions.load(whole.save(tmp_path / "p.npz")), whole)
    assert whole.of(["a/4", "a/1"]).digests.tolist() == [4, 2**64 - 1]
    assert joined([first, made(["a/2"])], {}).digests is None


def test_classes_follow_their_names(tmp_path):
    whole = made(["a/1", "a/2"], [40, 0], class_names=["Dog", "cat", "dog"])
    path = whole.save(tmp_path / "p.npz")
    new = Predictions.load(path).for_classes(["bird", "cat", "dog"])
    before = whole.found[0]
    stays = before["classes"] > 0  # there are no Dogs any more
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(new.found[0][name], before[name][stays])
    moved = whole.for_classes(["cat", "dog"]).found[0]["classes"]
    np.testing.assert_array_equal(moved, before["classes"][stays] - 1)
    same(new.for_classes(["bird", "cat", "dog"]), new)
    shown = read_predictions(path, ["cat", "dog"])["a/1"]
    sure = stays & (before["scores"] >= 0.05)
    np.testing.assert_array_equal(np.sort(shown.classes), np.sort(before["classes"][sure] - 1))


def test_without_names_on_either_side_classes_stay_as_they_are(tmp_path):
    for names, now in (([], ["cat"]), (["Dog", "cat"], [])):
        whole = made(["a/1"], [9], **({"class_names": names} if names else {}))
        found = whole.for_classes(now).found[0]
        np.testing.assert_array_equal(found["classes"], whole.found[0]["classes"])
        rows = read_predictions(whole.save(tmp_path / "p.npz"), now)["a/1"]
        assert set(rows.classes) <= set(whole.found[0]["classes"])


def test_parts_are_joined_by_key():
    whole = joined([made(["a/1", "a/4"]), made(["a/2", "a/3"], [0, 3])], {"folds": 2})
    assert whole.keys == ["a/1", "a/2", "a/3", "a/4"]
    assert [len(own["scores"]) for own in whole.found] == [2, 0, 3, 2]
    assert whole.losses.tolist() == [0, 0, 1, 1] and whole.folds.tolist() == [0, 0, 1, 1]
    assert whole.about == {"folds": 2}


def test_those_of_some_keys_come_in_their_order():
    part = made(["a/1", "a/2", "a/3"], [1, 2, 3]).of(["a/3", "a/1"])
    assert part.keys == ["a/3", "a/1"] and part.losses.tolist() == [2, 0]
    assert [len(own["scores"]) for own in part.found] == [3, 1]
    assert len(part) == 2


def test_a_key_that_lacks_is_named():
    with pytest.raises(DataError, match=r"lack 2 of 3 images, first a/8"):
        made(["a/1"]).of(["a/1", "a/8", "a/9"])


def columns():
    whole = made(["a/1", "a/2"])
    return {
        "header": np.array(f'{{"format": "{FORMAT}"}}'),
        "image": np.array(whole.keys),
        "key": np.array(["a/1", "a/1", "a/2", "a/2"]),
        "loss": whole.losses,
        "fold": whole.folds,
        **{name: np.concatenate([own[name] for own in whole.found]) for name in found(1)},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header", np.array('{"format": "another"}')),
        ("header", np.array("[]")),
        ("header", np.array("{")),
        ("image", np.array(["a/2", "a/1"])),
        ("image", np.array(["a/1", "a/1"])),
        ("image", np.array(["a/1", "a/3"])),
        ("image", np.array([1, 2])),
        ("image", np.array([], dtype="U1")),
        ("key", np.array(["a/1"] * 3)),
        ("key", np.array("a/1")),
        ("loss", np.array([1.0])),
        ("fold", np.array([0.5, 1])),
        ("boxes", np.zeros((4, 5))),
        ("boxes", np.zeros(4)),
        ("boxes", np.full((4, 4), np.nan)),
        ("scores", np.array([0.1, 0.2, 0.3, 1.1])),
        ("scores", np.array([0.1, 0.2, 0.3, np.nan])),
        ("classes", np.array([0, 1, 2, -1])),
        ("classes", np.array([0.0, 1, 2, 1])),
        ("boxes", None),
        ("loss", None),
        ("key", np.array(["a", None], dtype=object)),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, name, value):
    path = tmp_path / "p.npz"
    np.savez(path, **{k: v for k, v in (columns() | {name: value}).items() if v is not None})
    with pytest.raises(DataError, match="holds no predictions"):
        Predictions.load(path)


def test_its_own_columns_are_taken(tmp_path):
    np.savez(tmp_path / "p.npz", **columns())
    assert Predictions.load(tmp_path / "p.npz").about == {}


def test_a_file_of_another_program_needs_rows_alone(tmp_path):
    rows = {name: columns()[name] for name in ("key", "boxes", "scores", "classes")}
    mixed = np.array([2, 0, 3, 1])
    np.savez(tmp_path / "p.npz", **{name: own[mixed] for name, own in rows.items()})
    read = Predictions.load(tmp_path / "p.npz")
    part = read.of(["a/2", "a/5"])  # nothing was detected in the latter
    np.testing.assert_array_equal(part.found[0]["scores"], rows["scores"][[2, 3]])
    assert len(part.found[1]["scores"]) == 0 and np.isnan(part.losses).all()
    with pytest.raises(DataError, match="lack 1 of 1 images, first b/1"):
        read.of(["b/1"])


def test_the_page_of_a_selection_reads_the_file(tmp_path):
    whole = made(["a/1", "a/2", "a/3"], [3, 0, 2])
    shown = read_predictions(whole.save(tmp_path / "p.npz"))
    assert shown.keys() <= {"a/1", "a/3"}
    for key, own in zip(whole.keys, whole.found, strict=True):
        sure = own["scores"] >= 0.05
        expected = np.sort(own["scores"][sure])[::-1]
        assert (shown[key].scores if key in shown else []) == pytest.approx(expected)


def test_what_the_page_of_a_selection_writes_is_read(tmp_path):
    whole = made(["a/1", "a/2"])
    path = save_predictions(tmp_path / "p.npz", whole.keys, whole.found)
    read = Predictions.load(path)
    same(dataclasses.replace(read, losses=whole.losses, folds=whole.folds), whole)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", b"\x93NUMPY"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(DataError, match="holds no predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_a_bare_array_is_refused(tmp_path):
    with open(tmp_path / "p.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="holds no predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_a_file_cut_short_is_refused(tmp_path):
    path = made(["a/1", "a/2"]).save(tmp_path / "p.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="holds no predictions"):
        Predictions.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file of predictions at .*none\.npz"):
        Predictions.load(tmp_path / "none.npz")
    with pytest.raises(DataError, match="holds no predictions"):
        Predictions.load(tmp_path)


# --- rows of any program -------------------------------------------------------------------------

PLAIN = {
    "key": np.array(["toy/a", "toy/b"]),
    "boxes": np.zeros((2, 4)),
    "classes": np.array([0, 1]),
    "scores": np.array([0.5, 0.6]),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": None}, "no array 'key"),
        ({"scores": None}, "no array 'scores"),
        ({"key": np.array([1, 2])}, "'key' must be"),
        ({"key": np.array([["toy/a", "toy/b"]])}, "'key' must be"),
        ({"classes": np.array([0.0, 1.0])}, "'classes' must be"),
        ({"classes": np.array([0, -1])}, "'classes' must be"),
        ({"classes": np.array([0])}, "'classes' must be"),
        ({"scores": np.array([0.5, 1.5])}, "'scores' must be"),
        ({"scores": np.array([0.5, np.nan])}, "'scores' must be"),
        ({"boxes": np.zeros((2, 5))}, "'boxes' must be"),
        ({"boxes": np.full((2, 4), np.inf)}, "'boxes' must be"),
        ({"key": np.array(["a", None], dtype=object)}, "is no .npz of predictions"),
    ],
)
def test_a_file_of_other_arrays_is_one_line(tmp_path, change, words):
    table = {name: array for name, array in (PLAIN | change).items() if array is not None}
    np.savez(tmp_path / "p.npz", **table)
    with pytest.raises(DataError, match=words) as stop:
        read_rows(tmp_path / "p.npz")
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY"])
def test_no_npz_is_one_line(tmp_path, content):
    with pytest.raises(DataError, match=r"no file of predictions at .*none\.npz"):
        read_rows(tmp_path / "none.npz")
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(DataError, match="no .npz of predictions"):
        read_rows(tmp_path / "p.npz")


def test_whole_numbers_are_boxes(tmp_path):
    np.savez(tmp_path / "p.npz", **PLAIN | {"boxes": np.array([[0, 0, 1, 2], [3, 4, 5, 6]])})
    assert read_rows(tmp_path / "p.npz").boxes.dtype.kind == "f"
    read = Predictions.load(tmp_path / "p.npz")
    assert [own["boxes"].tolist() for own in read.found] == [[[0, 0, 1, 2]], [[3, 4, 5, 6]]]


def test_those_of_a_classifier_have_no_boxes_and_do_not_judge_any(tmp_path):
    path = save_predictions(tmp_path / "p.npz", ["a/1", "a/2"], np.array([[0.2, 0.8], [1, 0]]))
    rows = read_rows(path)
    assert rows.boxes is None and rows.classes.tolist() == [1, 0]
    with pytest.raises(DataError, match="holds no predictions: it has no array 'boxes'"):
        Predictions.load(path)


def test_rows_are_read_whatever_stands_beside_them(tmp_path):
    more = {"header": np.array("x"), "image": np.array([1, None], dtype=object)}
    np.savez(tmp_path / "p.npz", **PLAIN, **more)
    assert read_rows(tmp_path / "p.npz").key.tolist() == ["toy/a", "toy/b"]
    del more["header"]
    np.savez(tmp_path / "p.npz", **PLAIN, **more)  # nor are images looked for without a header
    assert Predictions.load(tmp_path / "p.npz").keys == ["toy/a", "toy/b"]


def test_a_file_without_a_detection_is_one_line(tmp_path):
    none = {name: array[:0] for name, array in PLAIN.items()}
    np.savez(tmp_path / "p.npz", **none)
    with pytest.raises(DataError, match="holds no predictions: it has no detection"):
        Predictions.load(tmp_path / "p.npz")
