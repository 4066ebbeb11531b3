import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.report import page_data as page_data_module
from adapruner_det.report.history import History
from adapruner_det.report.page_data import page_data
from adapruner_det.report.predictions import Predicted
from adapruner_det.report.thumbs import make_thumbs
from tests.report.examples import CLASSES, many, pictures, predictions, selection


def data_of(own, shown=None, **more):
    shown = pictures(own) if shown is None else shown
    thumbs = make_thumbs([shown.get(key) for key in own.columns["key"].tolist()])
    return page_data(own, shown, thumbs, ["x" if t else "" for t in thumbs], **more)


def by_id(data, name):
    return dict(zip((k.removeprefix("toy/") for k in data["keys"]), data[name], strict=True))


def test_every_sample_is_there_with_all_that_is_known():
    own = selection()
    data = data_of(own, history=History((1, 2), (0.5, 0.6), (0.1, 0.2)))
    assert data["n"] == 10 and data["keys"] == own.columns["key"].tolist()
    assert sum(data["kept0"]) == own.num_kept and data["byScore"]
    assert by_id(data, "rank")["a"] == 0 and by_id(data, "rank")["b"] == 9
    assert data["classNames"] == list(CLASSES) and by_id(data, "classes")["g"] == [0, 2]
    assert by_id(data, "boxes")["b"] == [10, 8, 30, 24, 0, 0, 40, 20, 60, 40, 1, 0]
    assert by_id(data, "size")["a"] == [64, 48]
    assert data["columns"].keys() == {"mean_loss", "times_seen"}
    assert data["history"] == {"steps": (1, 2), "ratios": (0.5, 0.6), "alphas": (0.1, 0.2)}
    assert data["predicted"] is None and data["against"] == {}
    json.dumps(data, allow_nan=False)


def test_each_dropped_sample_has_its_reason_and_each_kept_one_what_it_would_have():
    data = data_of(selection())
    codes = [own["code"] for own in data["reasons"]]
    why = {key: codes[i] for key, i in by_id(data, "why").items()}
    later = {key: codes[i] for key, i in by_id(data, "later").items()}
    assert (why["b"], why["c"], why["d"], why["a"]) == ("fault", "twin", "easy", "")
    assert {later[k] for k in "efg"} <= {"easy", "hard"} and later["b"] == ""
    words = {own["code"]: own["words"] for own in data["reasons"]}
    assert words["easy"].startswith("Easy: the model is surer of it")
    assert words["fault"].startswith("Fault: the evidence") and "near-copy" in words["twin"]


def test_what_a_kept_sample_would_go_for_is_the_reason_of_the_first_cut_that_it_does_not_survive(
    monkeypatch,
):
    own = selection()
    place = np.argsort(np.argsort(own.columns["score"], kind="stable"))

    def cut(_, end, ratio):
        count = round(ratio * own.num_samples)
        kept = place < count
        return SimpleNamespace(columns={"kept": kept, "why": np.where(kept, "", f"at {count}")})

    monkeypatch.setattr(page_data_module, "drop_end", cut)
    data = data_of(own)
    codes = [reason["code"] for reason in data["reasons"]]
    later = [codes[i] for i in data["later"]]
    kept = own.columns["kept"]
    assert [later[i] for i in np.flatnonzero(kept)] == [
        f"at {i}" if i else "" for i in place[kept].tolist()
    ]


def test_a_twin_is_shown_with_the_one_of_its_group_that_stays():
    data = data_of(selection())
    names = [key.removeprefix("toy/") for key in data["keys"]]
    assert {k: names[t] for k, t in by_id(data, "twin").items() if t >= 0} == {"c": "a"}
    no_groups = selection()
    columns = {n: c for n, c in no_groups.columns.items() if n != "twin_group"}
    data = data_of(selection(columns={}).__class__(**{**vars(no_groups), "columns": columns}))
    assert names[by_id(data, "twin")["c"]] == "a"  # which it looks like


def test_predictions_are_beside_the_boxes_that_they_agree_with():
    data = data_of(selection(), predictions=predictions())
    own = by_id(data, "predicted")
    assert own["a"] is None and own["b"][:6] == [10, 8, 30, 24, 0, 0.9]
    row = str(data["keys"].index("toy/b"))
    assert data["against"] == {row: [[1], [1], 1]}
    nothing = Predicted(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))
    data = data_of(selection(), predictions={"toy/d": nothing})
    assert by_id(data, "predicted")["d"] == []  # looked at, in vain
    assert list(data["against"].values()) == [[[0], [], 0]]


def test_one_that_would_go_as_a_twin_has_the_one_of_its_group_that_stays_longest(monkeypatch):
    def reasons(own):
        later = {"e": "twin", "g": "twin", "a": "twin"}
        ids = [key.removeprefix("toy/") for key in own.columns["key"].tolist()]
        return own.columns["why"].tolist(), [later.get(image_id, "") for image_id in ids]

    monkeypatch.setattr(page_data_module, "_reasons", reasons)
    own = selection()
    groups = own.columns["twin_group"].copy()
    ids = [key.removeprefix("toy/") for key in own.columns["key"].tolist()]
    for image_id in ("e", "f", "g", "b"):  # of which b has gone, and e stays longest
        groups[ids.index(image_id)] = 77
    data = data_of(selection(columns={"twin_group": groups}))
    twin = {k: ids[t] for k, t in by_id(data, "twin").items() if t >= 0}
    assert twin == {"c": "a", "g": "e"}


def test_a_classifier_says_a_class_and_how_sure_it_is():
    own = selection()
    said = {"toy/a": predictions()["toy/b"]}
    said["toy/a"] = type(said["toy/a"])(np.zeros((0, 4)), np.array([2]), np.array([0.75]))
    data = data_of(own, pictures(own, boxes=False), predictions=said)
    assert by_id(data, "predicted")["a"] == [2, 0.75] and data["against"] == {}
    assert not any(data["boxes"])


def test_a_method_without_reasons_and_classes_and_data_without_pictures():
    own = many(12)
    data = data_of(own, {})
    assert [r["code"] for r in data["reasons"]] == [""] and set(data["src"]) == {""}
    assert data["columns"] == {} and data["classes"][:3] == [[0], [1], [2]]
    no_classes = {n: c for n, c in own.columns.items() if n != "classes"}
    bare = type(own)(**{**vars(own), "columns": no_classes, "class_names": ()})
    assert data_of(bare, {})["classes"] == [[]] * 12
    shown = pictures(own)
    data = data_of(bare, shown)  # they know the classes too
    assert data["classes"][:3] == [[0], [1], [2]] and data["classNames"][2] == "class 2"


def test_a_set_that_the_score_does_not_give_is_told():
    kept = selection().columns["score"] >= 4
    assert not data_of(selection(columns={"kept": kept}))["byScore"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([1.23456, np.inf, np.nan]), [1.235, None, None]),
        (np.array([1, 2, 3], np.uint8), [1, 2, 3]),
        (np.array([True, False, True]), [1, 0, 1]),
        (np.array(["a", "b\x1b", "c"]), ["a", "'b\\x1b'", "c"]),
    ],
)
def test_further_columns_of_any_kind_are_plain_values(values, wanted):
    own = many(3, 0.34)
    own = type(own)(**{**vars(own), "columns": {**own.columns, "extra": values}})
    assert data_of(own, {})["columns"]["extra"] == wanted


def test_crowds_and_difficult_boxes_are_marked():
    own = selection()
    shown = pictures(own)
    shown["toy/g"].crowd[1] = shown["toy/g"].difficult[0] = True
    boxes = by_id(data_of(own, shown), "boxes")["g"]
    assert (boxes[5], boxes[11]) == (2, 1)


@pytest.mark.parametrize(
    ("image_id", "file", "wanted"),
    [
        ("7", "000007.jpg", "000007.jpg"),
        ("000007", "000007.jpg", ""),
        ("000007.jpg", "000007.jpg", ""),
        ("cats\\7.jpg", "7.jpg", ""),
        ("7", "a\x1b.jpg", "'a\\x1b.jpg'"),
        ("7", "", ""),
    ],
)
def test_a_file_is_named_where_the_id_does_not_say_it(image_id, file, wanted):
    own = selection(samples={"a": (True, 0, "", (0,), 0), image_id: (False, 1, "easy", (0,), 1)})
    shown = pictures(own)
    key = f"toy/{image_id}"
    shown[key] = replace(shown[key], file=file)
    data = data_of(own, shown)
    assert (by_id(data, "files")[image_id] if wanted else data["files"]) == (wanted or [])
    assert data_of(own, {})["files"] == []  # nor does a page without pictures grow
