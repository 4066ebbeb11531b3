import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.errors import DataError
from adapruner_det.selection import Selection, check_keep_ratio, digest, fingerprint

KEYS = [f"toy/{i:03d}" for i in range(10)]


def make(**changes):
    columns = {
        "key": np.array(KEYS),
        "digest": np.array([digest(key) for key in KEYS], dtype=np.uint64),
        "kept": np.arange(10) < 8,
        "logit": np.linspace(1.0, -1.0, 10, dtype=np.float32),
        "mean_loss": np.ones(10, dtype=np.float32),
    }
    fields = {
        "method": "adapruner",
        "keep_ratio": 0.8,
        "seed": 3,
        "datasets": {"toy": fingerprint(KEYS, columns["digest"])},
        "columns": columns,
        "soft_ratio": 0.79,
        "parameters": {"typical_loss": 2.0, "pressure_terms": {"use_selection": True}},
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
    assert text["schema_version"] == 1
    assert (text["num_samples"], text["num_kept"], text["keep_ratio"]) == (10, 8, 0.8)
    assert text["keep_ratio_reached"] == 0.8
    assert text["kept"] == KEYS[:8]


def test_the_same_selection_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        make().save(tmp_path / f"{name}.json")
    for suffix in (".json", ".npz"):
        pair = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b")]
        assert pair[0] == pair[1]


def test_nothing_is_pickled(tmp_path):
    make().save(tmp_path / "run.json")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(make().columns)


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be plain arrays"):
        with_columns(extra=np.array([None] * 10)).save(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


# --- cutting at other ratios ---------------------------------------------------------------------


@given(
    logit=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=10, max_size=10),
    loss=st.lists(st.sampled_from([0.0, 0.5, 2.0, 9.0]), min_size=10, max_size=10),
)
def test_cuts_are_nested_and_say_what_they_are_from(logit, loss):
    run = with_columns(logit=np.array(logit), mean_loss=np.array(loss))
    ratios = (0.01, 0.3, 0.5, 0.7, 0.95, 1.0)
    cuts = [run.cut(ratio) for ratio in ratios]
    assert [cut.num_kept for cut in cuts] == [1, 3, 5, 7, 10, 10]
    assert [cut.keep_ratio for cut in cuts] == list(ratios)
    assert {cut.cut_from for cut in cuts} == {0.8}
    for smaller, larger in zip(cuts, cuts[1:], strict=False):
        assert smaller.kept_keys <= larger.kept_keys
    assert cuts[4].cut(0.5).kept_keys == cuts[2].kept_keys
    assert cuts[4].cut(0.5).cut_from == 0.8


def test_a_cut_at_the_runs_own_ratio_is_the_runs_own_set():
    losses = np.exp(np.random.default_rng(0).normal(size=10))
    pruner = AdaPruner(10, 0.8, Schedule(1, 8))
    for _ in range(9):
        pruner.observe(np.arange(10), losses)
        pruner.end_epoch()
    kept = pruner.select()
    columns = {name: pruner.mask.full_column(name) for name in ("logit", "mean_loss")}
    run = with_columns(kept=kept, **columns)
    run = Selection(**{**vars_of(run), "parameters": pruner.ranking_parameters()})
    np.testing.assert_array_equal(run.cut(0.8).columns["kept"], kept)


def vars_of(selection):
    return {name: getattr(selection, name) for name in Selection.__dataclass_fields__}


def test_a_method_with_scores_is_cut_by_them():
    columns = {name: make().columns[name] for name in ("key", "digest", "kept")}
    peer = make(method="el2n", columns={**columns, "score": np.arange(10)[::-1]})
    assert peer.cut(0.3).kept_keys == frozenset(KEYS[7:])


def test_a_cut_needs_an_order():
    columns = {name: make().columns[name] for name in ("key", "digest", "kept")}
    with pytest.raises(DataError, match="'random' without the columns 'logit' or 'score'"):
        make(method="random", columns=columns).cut(0.5)


@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.01, float("nan")])
def test_keep_ratios_outside_the_range(keep_ratio):
    with pytest.raises(DataError, match=r"must lie in \(0, 1\]"):
        check_keep_ratio(keep_ratio)
    with pytest.raises(DataError, match=r"must lie in \(0, 1\]"):
        make().cut(keep_ratio)


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
    assert "3 of 10 samples differ" in message
    assert "toy/001 (annotated otherwise)" in message
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
