"""A person's say: what a file of decisions may hold, and the selection that it makes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.errors import DataError
from adapruner_det.methods.adapruner import drop_end
from adapruner_det.report.overrule import (
    Decisions,
    apply,
    identity,
    read_decisions,
    summary,
)
from adapruner_det.selection import Selection
from tests.report.examples import many, selection


def say(own, keep=(), drop=(), num_kept=None):
    keep, drop = (frozenset(f"toy/{i}" for i in ids) for ids in (keep, drop))
    return Decisions(identity(own), own.num_kept if num_kept is None else num_kept, keep, drop)


def kept_ids(own):
    return {key.removeprefix("toy/") for key in own.kept_keys}


def test_samples_are_called_back_and_sent_away_and_it_is_on_record(tmp_path):
    own = selection()
    found = apply(own, say(own, keep=["b", "d"], drop=["a"]))
    assert kept_ids(found) == (kept_ids(own) | {"b", "d"}) - {"a"}
    assert found.keep_ratio == 7 / 10 and found.cut_from == own.keep_ratio
    said = dict(
        zip(found.columns["key"].tolist(), found.columns["overruled"].tolist(), strict=True)
    )
    assert {k: v for k, v in said.items() if v} == {
        "toy/a": "dropped",
        "toy/b": "kept",
        "toy/d": "kept",
    }
    why = dict(zip(found.columns["key"].tolist(), found.columns["why"].tolist(), strict=True))
    assert why["toy/a"] == "overruled" and why["toy/b"] == "" and why["toy/c"] == "twin"
    assert found.columns["run_score"].tolist() == own.columns["score"].tolist()
    assert found.parameters["overruled"] == {
        "kept": 2,
        "dropped": 1,
        "of": identity(own),
        "cut_at": 0.6,
    }
    assert summary(found) == "7 of 10 samples kept; a person called 2 back and sent 1 away"
    again = Selection.load(found.save(tmp_path / "mine.json"))  # which checks all of it
    assert again.kept_keys == found.kept_keys


def test_a_reason_of_another_package_s_method_stays_whole():
    own = selection()
    reason = "a reason of many words"
    why = np.where(own.columns["kept"], "", reason)
    own = replace(own, columns={**own.columns, "why": why})
    found = apply(own, say(own, keep=["b"], drop=["a"]))
    assert set(found.columns["why"].tolist()) == {"", reason, "overruled"}


def test_a_later_cut_holds_to_what_was_said():
    own = selection()
    found = apply(own, say(own, keep=["b"], drop=["a"]))
    assert found.cut(0.1).kept_keys == {"toy/b"}
    assert "toy/a" not in found.cut(0.9).kept_keys
    assert found.cut(found.keep_ratio).kept_keys == found.kept_keys


def test_a_later_cut_gives_the_say_as_its_reason():
    own = selection()
    found = apply(own, say(own, keep=["b"], drop=["a"]))
    for cut in (drop_end(found, "", 0.3), drop_end(found, "", 0.9)):
        why = dict(zip(cut.columns["key"].tolist(), cut.columns["why"].tolist(), strict=True))
        assert why["toy/a"] == "overruled" and why["toy/b"] == ""
    everything = drop_end(found, "", 1.0)
    assert everything.num_kept == 10 and not any(everything.columns["why"])


def test_a_set_that_the_score_does_not_give_is_what_the_say_is_over():
    own = selection()
    kept = own.columns["score"] >= 4  # the other way round
    own = selection(columns={"kept": kept, "why": np.where(kept, "", "x")})
    found = apply(own, say(own, drop=["b"]))
    assert found.kept_keys == own.kept_keys - {"toy/b"}
    assert found.cut(found.keep_ratio).kept_keys == found.kept_keys


def test_the_say_is_over_another_cut_where_the_slider_stood_elsewhere():
    own = selection()
    found = apply(own, say(own, keep=["d"], num_kept=3))
    assert (
        kept_ids(found) == {"a", "e", "f", "d"} and found.parameters["overruled"]["cut_at"] == 0.3
    )
    assert found.parameters["overruled"]["kept"] == 1
    without_losses = many(10)
    assert apply(without_losses, say(without_losses, num_kept=2)).num_kept == 2


def test_what_the_cut_does_by_itself_is_no_change():
    own = selection()
    found = apply(own, say(own, keep=["a"], drop=["b"]))
    assert found.kept_keys == own.kept_keys and not any(found.columns["overruled"])
    assert found.columns["why"].tolist() == own.columns["why"].tolist()


def test_a_second_say_goes_over_the_first():
    own = selection()
    first = apply(own, say(own, keep=["b"], drop=["a"]))
    second = apply(first, say(first, drop=["e"]))
    assert kept_ids(second) == kept_ids(own) - {"a", "e"} | {"b"}
    said = dict(zip(second.columns["key"].tolist(), second.columns["overruled"], strict=True))
    assert [said[f"toy/{i}"] for i in "abe"] == ["dropped", "kept", "dropped"]
    assert second.columns["run_score"].tolist() == own.columns["score"].tolist()
    assert second.cut_from == own.keep_ratio
    third = apply(second, say(second, keep=["a"]))
    said = dict(zip(third.columns["key"].tolist(), third.columns["overruled"], strict=True))
    assert said["toy/a"] == "kept" and third.parameters["overruled"]["dropped"] == 1


@settings(max_examples=40)
@given(
    st.integers(2, 60).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.integers(1, n),
            st.lists(st.integers(-1, 1), min_size=n, max_size=n),
        )
    )
)
def test_whatever_is_said_the_files_take_it_and_a_cut_gives_it_again(case):
    n, num_kept, sides = case
    own = many(n, 0.5)
    keys = own.columns["key"].tolist()
    keep = frozenset(k for k, s in zip(keys, sides, strict=True) if s > 0)
    drop = frozenset(k for k, s in zip(keys, sides, strict=True) if s < 0)
    decisions = Decisions(identity(own), num_kept, keep, drop)
    before = own.kept_keys if num_kept == own.num_kept else own.cut(num_kept / n).kept_keys
    wanted = before - drop | keep
    if not wanted:
        with pytest.raises(DataError, match="leave no sample"):
            apply(own, decisions)
        return
    found = apply(own, decisions)
    assert found.kept_keys == wanted
    assert found.cut(found.keep_ratio).kept_keys == wanted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keep": ["a"], "drop": ["a"]}, "both keep and drop toy/a"),
        ({"keep": ["nobody"]}, "lacks: toy/nobody; a key is .*, such as toy/.*: correct them"),
        ({"num_kept": 0}, "keeps 0 of 10"),
        ({"num_kept": 11}, "keeps 11 of 10"),
        ({"drop": ["a", "e", "f", "g", "nobody"]}, "lacks"),
    ],
)
def test_decisions_that_do_not_fit_are_refused(change, words):
    own = selection()
    with pytest.raises(DataError, match=words):
        apply(own, say(own, **change))


def test_nothing_may_not_be_kept():
    own = many(4, 0.5)
    with pytest.raises(DataError, match="leave no sample"):
        apply(own, Decisions(identity(own), own.num_kept, frozenset(), own.kept_keys))


def test_decisions_are_about_one_selection():
    own = selection()
    for other in (own.cut(0.5), many(10), selection(name="other")):
        with pytest.raises(DataError, match="another selection .* or decide anew on a report"):
            apply(other, Decisions(identity(own), 5, frozenset(), frozenset()))
    score = own.columns["score"].astype(np.float64) / 7 - 3  # the same order
    assert identity(selection(columns={"score": score})) == identity(own)
    assert identity(selection(columns={"score": -score})) != identity(own)
    digests = own.columns["digest"] + np.uint64(1)
    assert identity(selection(columns={"digest": digests})) != identity(own)


GOOD = {
    "adapruner_det_decisions": 1,
    "selection": "ab",
    "num_kept": 6,
    "keep": ["toy/a"],
    "drop": [],
}


def test_a_file_is_read_as_it_was_saved(tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text("\ufeff" + json.dumps(GOOD), encoding="utf-8")
    assert read_decisions(path) == Decisions("ab", 6, frozenset({"toy/a"}), frozenset())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no file of decisions"),
        ("[]", "no 'adapruner_det_decisions'"),
        ("[" * 100_000, "no file of decisions"),
        ("\xff", "no file of decisions"),
        (json.dumps(GOOD | {"adapruner_det_decisions": 2}), "no 'adapruner_det_decisions'"),
        (json.dumps(GOOD | {"selection": 1}), "selection must be a text"),
        (json.dumps(GOOD | {"num_kept": True}), "num_kept must be a whole number"),
        (json.dumps(GOOD | {"num_kept": 6.5}), "num_kept must be a whole number"),
        (json.dumps(GOOD | {"keep": "toy/a"}), "keep must be a list of keys"),
        (json.dumps(GOOD | {"drop": [1]}), "drop must be a list of keys"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "drop"}), "drop must be a list"),
        ('{"keep": [], ' + json.dumps(GOOD)[1:], "a name is there twice"),
    ],
)
def test_a_file_that_is_something_else_is_one_line(tmp_path, text, words):
    path = tmp_path / "decisions.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words) as stop:
        read_decisions(path)
    assert "\n" not in str(stop.value) and str(path) in str(stop.value)


def test_no_file_and_a_folder_are_one_line(tmp_path):
    with pytest.raises(DataError, match="there are no decisions at"):
        read_decisions(tmp_path / "none.json")
    with pytest.raises(DataError, match="no file of decisions"):
        read_decisions(tmp_path)
