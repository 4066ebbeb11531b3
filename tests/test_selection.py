import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.errors import DataError
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import (
    Selection,
    check_keep_ratio,
    class_column,
    lost_classes_line,
    warnings_of,
)

KEYS = [f"toy/{i:03d}" for i in range(10)]


def make(**changes):
    columns = {
        "key": np.array(KEYS),
        "digest": np.array([digest(key) for key in KEYS], dtype=np.uint64),
        "kept": np.arange(10) < 8,
        "score": np.arange(10),
        "mean_loss": np.ones(10, dtype=np.float32),
    }
    fields = {
        "method": "adapruner",
        "keep_ratio": 0.8,
        "seed": 3,
        "datasets": {"toy": fingerprint(KEYS, columns["digest"])},
        "columns": columns,
        "soft_ratio": 0.79,
        "parameters": {"typical_loss": 2.0, "terms": {"selection": True}},
        "versions": {"numpy": "2"},
    }
    return Selection(**{**fields, **changes})


def with_columns(**changes):
    return make(columns={**make().columns, **changes})


def test_counts_and_keys():
    selection = make()
    assert (selection.num_samples, selection.num_kept) == (10, 8)
    assert selection.kept_keys == frozenset(KEYS[:8])


def test_saved_and_loaded_it_is_the_same(tmp_path):
    selection = make(cut_from=0.9)
    path = selection.save(tmp_path / "deep" / "run.json")
    found = Selection.load(path)
    for name, column in selection.columns.items():
        np.testing.assert_array_equal(found.columns[name], column)
        assert found.columns[name].dtype == column.dtype
    for name in ("method", "keep_ratio", "seed", "datasets", "soft_ratio", "parameters"):
        assert getattr(found, name) == getattr(selection, name)
    assert found.cut_from == 0.9


def test_the_json_says_what_a_person_wants_to_know(tmp_path):
    text = json.loads(make().save(tmp_path / "run.json").read_text())
    assert text["schema_version"] == 2
    assert (text["num_samples"], text["num_kept"], text["keep_ratio"]) == (10, 8, 0.8)
    assert text["keep_ratio_reached"] == 0.8
    assert text["kept"] == KEYS[:8]


def test_the_same_selection_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        make().save(tmp_path / f"{name}.json")
    for suffix in (".json", ".npz"):
        pair = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b")]
        assert pair[0] == pair[1]


def test_a_notebook_shows_it_as_a_table():
    text = make()._repr_html_()
    assert text.startswith("<table") and "8 of 10" in text


def test_nothing_is_pickled(tmp_path):
    make().save(tmp_path / "run.json")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(make().columns)


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be plain arrays"):
        with_columns(extra=np.array([None] * 10)).save(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


# --- cutting at other ratios ---------------------------------------------------------------------


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.5, 1e300, np.inf]), min_size=10, max_size=10))
def test_cuts_are_nested_and_say_what_they_are_from(score):
    run = with_columns(score=np.array(score))
    ratios = (0.01, 0.3, 0.5, 0.7, 0.95, 1.0)
    cuts = [run.cut(ratio) for ratio in ratios]
    assert [cut.num_kept for cut in cuts] == [1, 3, 5, 7, 10, 10]
    assert [cut.keep_ratio for cut in cuts] == list(ratios)
    assert {cut.cut_from for cut in cuts} == {0.8}
    for smaller, larger in zip(cuts, cuts[1:], strict=False):
        assert smaller.kept_keys <= larger.kept_keys
    assert cuts[4].cut(0.5).kept_keys == cuts[2].kept_keys
    assert cuts[4].cut(0.5).cut_from == 0.8
    assert cuts[4].cut(cuts[4].keep_ratio) is cuts[4]


def test_the_lower_score_is_kept_first_and_of_equal_ones_the_smaller_key():
    run = with_columns(score=np.array([3, 1, 2, 1, 0, 9, 9, 9, 9, 9]))
    order = [4, 1, 3, 2, 0, 5, 6, 7, 8, 9]
    for count in range(1, 11):
        assert run.cut(count / 10).kept_keys == {KEYS[i] for i in order[:count]}


@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.01, float("nan")])
def test_keep_ratios_outside_the_range(keep_ratio):
    with pytest.raises(DataError, match=r"must lie in \(0, 1\]"):
        check_keep_ratio(keep_ratio)
    with pytest.raises(DataError, match=r"must lie in \(0, 1\]"):
        make().cut(keep_ratio)


def test_samples_without_a_finite_loss_are_known_by_their_visits():
    assert with_columns(times_seen=np.arange(10) % 4).unseen_keys() == [KEYS[0], KEYS[4], KEYS[8]]


def test_without_losses_nothing_is_known_to_be_unseen():
    assert make().unseen_keys() == []


# --- classes -------------------------------------------------------------------------------------

CLASSES = ["0", "0 2", "", "2", "0", "0", "0", "0", "2 11", "1 11"]


def with_classes(names=("cat", "dog", "seal"), classes=tuple(CLASSES)):
    columns = {**make().columns, "classes": np.array(classes)}
    return make(columns=columns, class_names=names)


def test_classes_without_a_kept_image_are_named():
    selection = with_classes()
    assert selection.lost_classes() == ["dog", "class 11"]
    assert selection.cut(0.1).lost_classes() == ["dog", "seal", "class 11"]
    assert selection.cut(1.0).lost_classes() == []
    assert make().lost_classes() == []
    assert with_classes(names=()).lost_classes() == ["class 1", "class 11"]


def test_the_line_that_tools_print_of_lost_classes():
    assert lost_classes_line(make()) == lost_classes_line(with_classes().cut(1.0)) == ""
    line = lost_classes_line(with_classes())
    assert line.startswith("the selection keeps no image of 2 class(es): dog, class 11; ")
    many = with_classes((), [" ".join(map(str, range(i, i + 15))) for i in range(10)]).cut(0.1)
    line = lost_classes_line(many)
    assert "of 9 class(es): class 15, class 16" in line and "more" not in line
    wide = with_classes((), ["0", *[" ".join(map(str, range(1, 13)))] * 9]).cut(0.1)
    line = lost_classes_line(wide)
    assert "of 12 class(es)" in line and "class 10 and 2 more; " in line and "class 11" not in line
    assert "\n" not in lost_classes_line(with_classes(("cat", "dog\n\x1b[2J", "seal")))


def test_what_is_to_be_known_of_a_selection_is_said():
    assert warnings_of(make()) == []
    (line,) = warnings_of(with_classes())
    assert line == lost_classes_line(with_classes())
    (lost, auto) = warnings_of(replace(with_classes(), parameters={"unsettled": True}))
    assert lost == line and "--resume" in auto and "cut --drop" in auto
    by_faults = make(parameters={"drop": "faults"})
    (missed,) = warnings_of(by_faults)
    assert missed.startswith("no faults were looked for")
    assert warnings_of(by_faults.cut(1.0)) == []  # nothing goes


def test_class_ids_become_a_column():
    column = class_column([[2, 0, 2], [], (10, 9)])["classes"]
    assert column.tolist() == ["0 2", "", "9 10"]
    assert class_column(None) == {}
    assert class_column([[], []])["classes"].dtype.kind == "U"


# --- another name --------------------------------------------------------------------------------


def test_the_data_set_under_another_name(tmp_path):
    run = make(excluded={"toy/x": "cut short"}).cut(0.5)
    found = run.with_dataset_name("my/set")
    keys = [key.replace("toy", "my/set") for key in KEYS]
    assert found.columns["key"].tolist() == keys
    assert found.datasets == {"my/set": fingerprint(keys, found.columns["digest"])}
    assert found.excluded == {"my/set/x": "cut short"}
    assert found.kept_keys == frozenset(keys[:5])
    found.check(keys, run.columns["digest"])
    assert Selection.load(found.save(tmp_path / "run.json")).kept_keys == found.kept_keys
    assert found.with_dataset_name("toy").columns["key"].tolist() == KEYS


@pytest.mark.parametrize(("datasets", "name"), [({"toy": "", "b": ""}, "c"), ({"toy": ""}, "")])
def test_a_name_for_several_data_sets_or_none(datasets, name):
    with pytest.raises(DataError, match="cannot be read as one of"):
        make(datasets=datasets).with_dataset_name(name)


# --- the data it is for --------------------------------------------------------------------------


def test_its_own_data_passes():
    make().check(KEYS, make().columns["digest"])


def test_other_data_is_refused_naming_three_keys():
    digests = make().columns["digest"].copy()
    digests[1] += np.uint64(1)
    keys = [*KEYS[:2], "toy/002b", *KEYS[3:]]
    with pytest.raises(DataError) as caught:
        make().check(keys, digests)
    message = str(caught.value)
    assert "3 of 11 samples differ" in message
    assert "toy/001 (another image or annotated otherwise)" in message
    assert "toy/002 (missing here)" in message
    assert "toy/002b (not in the selection)" in message


def test_a_fingerprint_depends_on_keys_and_annotations():
    assert fingerprint(["a"], [1]) == fingerprint(["a"], [1])
    assert len({fingerprint(["a"], [1]), fingerprint(["b"], [1]), fingerprint(["a"], [2])}) == 3
    assert digest("a") != digest("b") and 0 <= digest("a") < 2**64


# --- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": np.ones(9, dtype=bool)}, "differ in length"),
        ({"key": np.array(KEYS[::-1])}, "sorted and distinct"),
        ({"key": np.array([KEYS[0], *KEYS[:9]])}, "sorted and distinct"),
    ],
)
def test_columns_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        with_columns(**changes)


def test_missing_columns():
    with pytest.raises(ValueError, match="needs the columns"):
        make(columns={"key": np.array(KEYS)})
