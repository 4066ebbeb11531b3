import json

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from adapruner_det.detection.data.planted import planted_in


@pytest.fixture
def folder(tmp_path):
    """A data set's folder, registered as ``planted_a``."""
    MetadataCatalog.get("planted_a").set(dirname=str(tmp_path))
    yield tmp_path
    MetadataCatalog.pop("planted_a")


def write(folder, kinds):
    images = {name: {"kind": kind, "group": None} for name, kind in kinds.items()}
    (folder / "truth.json").write_text(json.dumps({"made_by": "x", "images": images}))


def test_each_kind_is_told_sample_by_sample(folder):
    write(folder, {"1": "wrong_label", "2": "clean", "3": "twin", "9": "wrong_label"})
    keys = ["other/1", "planted_a/1", "planted_a/2", "planted_a/3", "planted_a/4"]
    found = planted_in(("planted_a",), keys)
    assert list(found) == ["twin", "wrong label"]
    assert np.flatnonzero(found["wrong label"]).tolist() == [1]
    assert np.flatnonzero(found["twin"]).tolist() == [3]


def test_sets_are_told_apart(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    MetadataCatalog.get("planted_b").set(dirname=str(other))
    try:
        write(folder, {"1": "twin"})
        write(other, {"1": "clean", "2": "twin"})
        keys = ["planted_a/1", "planted_a/2", "planted_b/1", "planted_b/2"]
        found = planted_in(("planted_a", "planted_b"), keys)
    finally:
        MetadataCatalog.pop("planted_b")
    assert found["twin"].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"images": [1]}', '{"images": {"1": "twin"}}', '{"images": 3}', "\xff"],
)
def test_a_file_of_that_name_which_is_something_else_says_nothing(folder, text):
    (folder / "truth.json").write_bytes(text.encode("latin-1"))
    assert planted_in(("planted_a",), ["planted_a/1"]) == {}


def test_nothing_is_planted_where_nothing_says_so(folder):
    MetadataCatalog.get("planted_c")  # without a folder, as a user's own function has it
    assert planted_in(("planted_a", "planted_c"), ["planted_a/1", "planted_c/1"]) == {}
    write(folder, {"1": "clean"})
    assert planted_in(("planted_a",), ["planted_a/1"]) == {}
    MetadataCatalog.pop("planted_c")
