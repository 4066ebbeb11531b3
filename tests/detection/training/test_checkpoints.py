"""Checkpoints: whole or absent, without code, and of the same run."""

import logging
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from adapruner_det.detection.training import checkpoints
from adapruner_det.detection.training.checkpoints import (
    TAG_FILE,
    WholeCheckpointer,
    check_weights,
    compare_runs,
    load_pth,
    newest_whole,
    require_same_run,
    require_trusted,
)
from adapruner_det.detection.training.weighting import LossWeighting
from adapruner_det.errors import DataError
from tests.detection.toy import toy_cfg

IDENTITY = {"kind": "prune", "config": "c", "data": "d", "threads": 1}


def model(size=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, size), nn.BatchNorm1d(size))


def save(folder, *names):
    checkpointer = WholeCheckpointer(model(), str(folder))
    for name in names:
        checkpointer.save(name)
    return checkpointer


def flip(path, place=None):
    """Change one byte: of a weight, or at ``place`` of the file's length."""
    data = bytearray(path.read_bytes())
    weight = model().state_dict()["0.weight"].numpy().tobytes()
    data[data.find(weight) if place is None else int(len(data) * place)] ^= 0xFF
    path.write_bytes(data)


# Saving


def test_what_is_saved_is_detectron2s_and_tagged(tmp_path):
    mine = model()
    WholeCheckpointer(mine, str(tmp_path)).save("model_0000004", iteration=4)
    state = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert state["iteration"] == 4
    assert all(torch.equal(v, state["model"][k]) for k, v in mine.state_dict().items())
    assert (tmp_path / TAG_FILE).read_text() == "model_0000004.pth"
    assert {p.name for p in tmp_path.iterdir()} == {"model_0000004.pth", TAG_FILE}


def test_numbers_of_numpy_in_what_a_hook_holds_are_loaded_again(tmp_path):
    class Best:
        def state_dict(self):
            return {"best": np.float64(0.5), "at": [np.int64(3), (None, np.bool_(True))], "n": 1}

        def load_state_dict(self, state):
            self.loaded = state

    best = Best()
    WholeCheckpointer(model(), str(tmp_path), best=best).save("model_0000004")
    WholeCheckpointer(model(), best=best).load(str(tmp_path / "model_0000004.pth"))
    assert best.loaded == {"best": 0.5, "at": [3, (None, True)], "n": 1}
    assert type(best.loaded["best"]) is float


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array([True, False]),
        np.array([0.5, np.nan], dtype=np.float16),
        np.array(["cat", "a dog"]),
        np.array(["cat", None, 3], dtype=object),
        np.empty((0, 4), dtype=np.float32),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_numpy_in_what_a_hook_holds_are_loaded_again(tmp_path, array):
    class Table:
        def state_dict(self):
            return {"scores": array}

        def load_state_dict(self, state):
            self.loaded = state["scores"]

    table = Table()
    WholeCheckpointer(model(), str(tmp_path), table=table).save("model_0000004")
    WholeCheckpointer(model(), table=table).load(str(tmp_path / "model_0000004.pth"))
    assert table.loaded.dtype == array.dtype
    np.testing.assert_array_equal(table.loaded, array)


def test_an_array_that_holds_code_is_not_loaded(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": {}, "x": np.array([Runs()], dtype=object)}, tmp_path / "model.pth")
    with pytest.raises(DataError, match="does not hold weights that can be loaded"):
        load_pth(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    save(tmp_path, "model_0000004")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"model_0000004\.pth cannot be written.*No space left"):
        save(tmp_path, "model_0000004")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


# Which one is resumed from


def test_the_tagged_one_comes_first_then_the_newest(tmp_path):
    save(tmp_path, "model_0000008", "model_final", "model_0000004")
    assert newest_whole(tmp_path).name == "model_0000004.pth"
    (tmp_path / TAG_FILE).unlink()
    assert newest_whole(tmp_path).name == "model_final.pth"
    (tmp_path / "model_final.pth").unlink()
    assert newest_whole(tmp_path).name == "model_0000008.pth"
    (tmp_path / TAG_FILE).write_text("model_gone.pth\n")
    assert newest_whole(tmp_path).name == "model_0000008.pth"
    assert WholeCheckpointer(model(), str(tmp_path)).get_checkpoint_file().endswith("08.pth")


def test_no_checkpoint_is_none(tmp_path):
    assert newest_whole(tmp_path) is None and newest_whole(tmp_path / "gone") is None
    checkpointer = WholeCheckpointer(model(), str(tmp_path))
    assert not checkpointer.has_checkpoint() and checkpointer.get_checkpoint_file() == ""
    (tmp_path / TAG_FILE).write_text("model_0000004.pth")
    assert newest_whole(tmp_path) is None


TORN = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a flipped byte": flip,
    "a plain pickle": lambda path: path.write_bytes(pickle.dumps({"model": {}})),
}


@pytest.mark.parametrize("kind", TORN)
def test_a_damaged_one_is_passed_over_and_named(tmp_path, caplog, kind):
    save(tmp_path, "model_0000004", "model_0000008")
    TORN[kind](tmp_path / "model_0000008.pth")
    with caplog.at_level(logging.WARNING):
        assert newest_whole(tmp_path).name == "model_0000004.pth"
    assert "model_0000008.pth is damaged and passed over" in caplog.text
    TORN[kind](tmp_path / "model_0000004.pth")
    with pytest.raises(DataError, match="none of the 2 checkpoints in .* is whole"):
        newest_whole(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True))
def test_no_flipped_byte_changes_a_weight_unseen(tmp_path, place):
    save(tmp_path, "model_0000004")
    expected = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    flip(tmp_path / "model_0000004.pth", place)
    checkpoints._whole.clear()
    try:
        found = load_pth(newest_whole(tmp_path))
    except DataError:
        return
    assert all(torch.equal(v, found["model"][k]) for k, v in expected["model"].items())


@pytest.mark.parametrize(
    "tag", ["../model_0000004.pth", "/etc/passwd", "model.pkl", "sub/model_0000004.pth", "a\0.pth/"]
)
def test_a_tag_that_leads_elsewhere_or_to_a_pickle_is_refused(tmp_path, tag):
    save(tmp_path, "model_0000004")
    (tmp_path / TAG_FILE).write_text(tag)
    with pytest.raises(DataError, match="last_checkpoint names .*remove that file"):
        newest_whole(tmp_path)


def test_what_is_no_regular_file_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "model_0000008.pth")
    (tmp_path / "model_0000009.pth").mkdir()
    save(tmp_path, "model_0000004")
    assert newest_whole(tmp_path).name == "model_0000004.pth"


# No code


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_hostile_pickle_never_runs(tmp_path, monkeypatch, as_zip):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model_0000004.pth"
    if as_zip:
        torch.save({"model": Hostile()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Hostile()}))
    with pytest.raises(DataError, match="does not hold weights that can be loaded") as caught:
        load_pth(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        check_weights(toy_cfg("yolo_darknet", "x", "MODEL.WEIGHTS", str(path)))
    with pytest.raises(DataError):
        require_same_run(path, IDENTITY)
    with pytest.raises(DataError):
        WholeCheckpointer(model()).load(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_loaded_only_where_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    weights = {k: np.asarray(v.numpy() + 1) for k, v in model().state_dict().items()}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "me"}))
    cfg = toy_cfg("yolo_darknet", "x", "MODEL.WEIGHTS", str(path))
    with pytest.raises(
        DataError, match="is a pickle.*--trust-pickle, or in a script.*trust_pickle = True"
    ):
        check_weights(cfg)
    with pytest.raises(DataError, match="is a pickle"):
        WholeCheckpointer(model()).load(str(path))
    check_weights(cfg, trust_pickle=True)
    mine = model()
    WholeCheckpointer(mine, trust_pickle=True).load(str(path))
    assert all(np.array_equal(v.numpy(), weights[k]) for k, v in mine.state_dict().items())
    for other, match in (
        ({"model": {"a": 1}, "__author__": "me"}, "'a' is a int"),
        ({}, "weights"),
        (b"", "weights"),
    ):
        path.write_bytes(pickle.dumps(other) if other else b"no pickle")
        with pytest.raises(DataError, match=match):
            WholeCheckpointer(model(), trust_pickle=True).load(str(path))
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError):
        WholeCheckpointer(model()).load(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pkl", "detectron2://a/b.pkl", "https://host/a.pyth"])
def test_a_pickle_is_known_by_its_name_wherever_it_is(name):
    with pytest.raises(DataError, match="is a pickle"):
        require_trusted(name, False)
    require_trusted(name, True)
    require_trusted("a.pth", False)


# Weights


def test_weights_of_another_head_are_loaded_but_for_the_head(tmp_path, caplog):
    save(tmp_path, "model_0000004")
    other = model(5)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        WholeCheckpointer(other).load(str(tmp_path / "model_0000004.pth"))
    assert "Skip loading parameter '0.weight'" in caplog.text
    assert torch.equal(other.state_dict()["0.weight"], before["0.weight"])


class Detector(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 4), nn.Linear(4, size)

    def losses_per_image(self, batched_inputs):
        return {}


@pytest.mark.parametrize("sizes", [(2, 2), (80, 2)])
def test_plain_weights_go_into_the_wrapper_and_back_bit_for_bit(tmp_path, sizes):
    plain, wrapped = Detector(sizes[0]), LossWeighting(Detector(sizes[1]))
    WholeCheckpointer(plain, str(tmp_path / "plain")).save("plain")
    WholeCheckpointer(wrapped).load(str(tmp_path / "plain" / "plain.pth"))
    assert torch.equal(wrapped.detector.backbone.weight, plain.backbone.weight)
    assert torch.equal(wrapped.detector.head.weight, plain.head.weight) == (sizes[0] == sizes[1])
    WholeCheckpointer(wrapped, str(tmp_path / "pruned")).save("pruned")
    again = Detector(sizes[1])
    WholeCheckpointer(again).load(str(tmp_path / "pruned" / "pruned.pth"))
    mine, theirs = again.state_dict(), wrapped.detector.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    bare = torch.load(tmp_path / "pruned" / "pruned.pth", weights_only=True)["model"]
    assert set(bare) == set(Detector(2).state_dict())


def test_weights_without_a_model_around_them_are_taken_as_such(tmp_path):
    mine, other = model(), model()
    other.load_state_dict({k: v + 1 for k, v in mine.state_dict().items()})
    torch.save(other.state_dict(), tmp_path / "bare.pth")
    WholeCheckpointer(mine).load(str(tmp_path / "bare.pth"))
    assert torch.equal(mine[0].weight, other[0].weight)


NO_WEIGHTS = {
    "a list": [1, 2],
    "a tensor": torch.ones(3),
    "plain values": {"a": 1},
    "a model of plain values": {"model": {"a": 1}},
    "a model that is a list": {"model": [torch.ones(2)]},
    "numbers for names": {"model": {1: torch.ones(2)}},
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_a_file_without_weights_is_refused_before_the_run(tmp_path, kind):
    path = tmp_path / "weights.pth"
    torch.save(NO_WEIGHTS[kind], path)
    with pytest.raises(DataError, match=r"weights\.pth does not hold weights"):
        check_weights(toy_cfg("yolo_darknet", "x", "MODEL.WEIGHTS", str(path)))
    with pytest.raises(DataError, match=r"weights\.pth does not hold weights"):
        WholeCheckpointer(model()).load(str(path))


def test_weights_that_are_not_there_or_torn_are_named_before_the_run(tmp_path):
    def check(weights):
        check_weights(toy_cfg("yolo_darknet", "x", "MODEL.WEIGHTS", str(weights)))

    check("")
    with pytest.raises(DataError, match="nowhere://w.pth cannot be"):
        check("nowhere://w.pth")
    with pytest.raises(DataError, match="cannot be fetched: model not present in the catalog"):
        check("catalog://Nothing/such")
    with pytest.raises(DataError, match=r"no weights at MODEL.WEIGHTS .*/gone\.pth"):
        check(tmp_path / "gone.pth")
    with pytest.raises(DataError, match="no weights at MODEL.WEIGHTS"):
        check(tmp_path)
    save(tmp_path, "model_0000004")
    check(tmp_path / "model_0000004.pth")
    flip(tmp_path / "model_0000004.pth")
    with pytest.raises(DataError, match="does not hold weights|is damaged"):
        check(tmp_path / "model_0000004.pth")


# Of which run


def test_a_checkpoint_of_the_same_run_is_taken():
    compare_runs("it", dict(IDENTITY), IDENTITY)


@pytest.mark.parametrize(
    ("key", "match"),
    [("kind", "another kind of run"), ("config", "another configuration"), ("data", "other data")],
)
def test_a_checkpoint_of_another_run_is_refused(key, match):
    with pytest.raises(DataError, match=f"it is of a run with {match}.*another OUTPUT_DIR"):
        compare_runs("it", {**IDENTITY, key: "x"}, IDENTITY)


def test_what_differs_is_said_where_both_runs_tell_their_settings():
    mine = {**IDENTITY, "settings": '{"A.B": 1}'}
    with pytest.raises(DataError, match=r"another configuration \(A\.B is 2 there and 1 here\);"):
        compare_runs("it", {**mine, "config": "x", "settings": '{"A.B": 2}'}, mine)
    with pytest.raises(DataError, match="another configuration; "):
        compare_runs("it", {**IDENTITY, "config": "x"}, mine)
    compare_runs("it", IDENTITY, mine)


def test_another_number_of_threads_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        compare_runs("it", {**IDENTITY, "threads": 7}, IDENTITY)
    assert "started with 7 thread(s) and goes on with 1" in caplog.text


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"trainer": None},
        {"trainer": 5},
        {"trainer": {"hooks": 5}},
        {"trainer": {"hooks": {}}},
        {"trainer": {"hooks": {"RunState": 5}}},
        {"trainer": {"hooks": {"RunState": {"kind": "prune"}}}},
    ],
    ids=str,
)
def test_a_checkpoint_that_is_of_no_run_of_ours_is_refused(tmp_path, state):
    torch.save({"model": {}, **state}, tmp_path / "model_0000004.pth")
    with pytest.raises(DataError, match=r"model_0000004\.pth is (not )?of a run"):
        require_same_run(tmp_path / "model_0000004.pth", IDENTITY)


def test_a_zip_of_other_things_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "model_0000004.pth", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(DataError, match="does not hold weights"):
        require_same_run(newest_whole(tmp_path), IDENTITY)
