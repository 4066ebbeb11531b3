import numpy as np
import pytest

from adapruner_det.selection import Selection
from tests.forged_selection import (
    ABSENT,
    KEYS,
    ONES,
    assert_same,
    edit,
    make,
    npy,
    refused,
    rewrite,
)


@pytest.fixture
def saved(tmp_path):
    return make().save(tmp_path / "run.json")


# --- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "method": ["", None, 3, ["adapruner"]],
        "keep_ratio": [0, -0.5, 1.5, "0.8", None, True, [0.8], 0.7],
        "seed": [1.5, "3", None, True, 2**64],
        "datasets": [{}, [], None, {"toy": 1}, "toy", {"voc": ""}],
        "soft_ratio": ["0.8", 2, True, -1],
        "config_digest": [3, None],
        "parameters": [[], None, 3, "a"],
        "versions": [{"numpy": 2}, [], None],
        "cut_from": [0, 2, "0.9", True],
        "excluded": [{"toy/1": 1}, [], None],
        "class_names": ["cat", [1], None, {"0": "cat"}],
        "digest_of": ["names", None, 1, []],
        "num_threads": [-1, 1.5, None, True],
        "command": [3, None, ["adapruner"]],
        "num_samples": [9, 0, "10", 10.0, None, True, ABSENT],
        "num_kept": [9, 0, "8", None, ABSENT],
        "keep_ratio_reached": [0.7, "0.8", None],
        "npz_sha256": ["", "0" * 64, 3, None],
        "kept": [[], KEYS[:7], [*KEYS[:8], KEYS[0]], KEYS[1:9], [1] * 8, None, {}, ABSENT],
    }.items(),
)  # fmt: skip
def test_values_that_cannot_be_meant(saved, field, values):
    body = saved.read_text()
    for value in values:
        saved.write_text(body)
        edit(saved, **{field: value})
        refused(saved)


def test_further_fields_are_for_later_versions(saved):
    edit(saved, note={"by": "someone"})
    assert_same(Selection.load(saved), make())


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("key", np.arange(10), "type <i8"),
        ("key", np.array([k.encode() for k in KEYS]), "type |S7"),
        ("key", np.array(KEYS[::-1]), "disagree"),
        ("key", np.array([k.replace("toy/", "") for k in KEYS]), "is not <data set>"),
        ("key", np.array([k.replace("toy", "voc") for k in KEYS]), "is not <data set>"),
        ("key", np.array(["toy/", *KEYS[1:]]), "is not <data set>"),
        ("digest", np.arange(10), "type <i8"),
        ("digest", np.arange(10, dtype=np.uint32), "type <u4"),
        ("kept", np.ones(10, dtype=np.uint8), "other than true and false"),
        ("kept", np.full(10, 2, dtype=np.uint8).view(bool), "other than true and false"),
        ("kept", np.arange(10) < 7, "keeps 7 of 10"),
        ("kept", np.ones(10), "type <f8"),
        ("logit", ONES * np.nan, "must be finite"),
        ("logit", ONES * np.inf, "must be finite"),
        ("logit", ONES.astype(complex), "type <c16"),
        ("logit", ONES.astype(np.float16), "type <f2"),
        ("mean_loss", -ONES, "must be 0 or more"),
        ("mean_loss", ONES * np.nan, "must be 0 or more"),
        ("score", None, "no column 'score'"),
        ("score", np.array(["a"] * 10), "type <U1"),
        ("typical_loss", ONES * 0, "must be above 0"),
        ("typical_loss", ONES * np.inf, "must be above 0"),
        ("score", ONES * np.nan, "must be a number"),
        ("times_seen", -np.arange(10), "must be 0 or more"),
        ("times_seen", ONES, "type <f4"),
        ("classes", np.arange(10), "type <i8"),
        ("classes", np.array(["2 1"] * 10), "not rising"),
        ("classes", np.array(["1 1"] * 10), "not rising"),
        ("classes", np.array(["1  2"] * 10), "not rising"),
        ("classes", np.array(["01"] * 10), "not rising"),
        ("classes", np.array(["٣"] * 10), "not rising"),
        ("classes", np.array(["9" * 5000] * 10), "not rising"),
        ("extra", np.array([{}] * 10), "type |O"),
        ("extra", np.zeros(10, dtype="M8[s]"), "type <M8"),
        ("extra", np.zeros(10, dtype=[("a", "f4")]), "type |V4"),
        ("extra", np.array(["x" * 9000] * 10), "type <U9000"),
        ("extra", np.ones((10, 1)), "shape (10, 1)"),
        ("extra", np.ones(9), "shape (9,)"),
        ("extra", np.array(1.0), "shape ()"),
        ("kept", None, "no column 'kept'"),
        ("digest", None, "no column 'digest'"),
    ],
)
def test_columns_that_cannot_be_used(saved, name, column, message):
    rewrite(saved, {f"{name}.npy": column if column is None else npy(column)})
    refused(saved, message)


def test_keys_that_are_there_twice_in_both_files(saved):
    keys = [KEYS[0], *KEYS[:9]]
    rewrite(saved, {"key.npy": npy(np.array(keys))})
    edit(saved, kept=keys[:8])
    refused(saved, "must be sorted and distinct")


def test_a_cut_of_extreme_columns_has_an_order(saved):
    largest = np.finfo(np.float32)
    mixed = np.where(np.arange(10) % 2, largest.max, 0).astype(np.float32)
    typical = np.full(10, largest.tiny / 4, dtype=np.float32)
    rewrite(saved, {"mean_loss.npy": npy(mixed), "typical_loss.npy": npy(typical)})
    assert Selection.load(saved).cut(0.3).num_kept == 3


@pytest.mark.parametrize(
    ("columns", "parameters", "message"),
    [
        ({"mean_loss.npy": None}, {}, "nothing in it ranks its samples"),
        ({"logit.npy": None}, {}, "nothing in it ranks its samples"),
        ({}, {"typical_loss": 0}, "'typical_loss' above 0"),
        ({}, {"typical_loss": "1"}, "'typical_loss' above 0"),
        ({}, {"typical_loss": 1e-50}, "'typical_loss' above 0"),
        ({}, {"typical_loss": 1e39}, "'typical_loss' above 0"),
        ({}, {"pressure_terms": []}, "true or false"),
        ({}, {"pressure_terms": {"eps": 1}}, "true or false"),
        ({}, {"pressure_terms": {"use_selection": 1}}, "true or false"),
    ],
)
def test_a_file_of_version_0_1_that_ranks_nothing_is_refused(saved, columns, parameters, message):
    rewrite(saved, {"score.npy": None, **columns})
    edit(saved, schema_version=1, parameters=parameters)
    refused(saved, message)


# --- both, before they are written ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (make(kept=np.zeros(10, dtype=bool)), "keeps 0 of 10 samples at the keep ratio 0.8"),
        (make(logit=np.full(10, np.nan, dtype=np.float32)), "logit of sample 0 is nan"),
        (make(key=np.array([f"voc/{i}" for i in range(10)])), "'voc/0' is not <data set>"),
        (make(seed="3"), "seed is '3'; it must be a whole number"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path, selection, message):
    with pytest.raises(ValueError, match=message):
        selection.save(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []
