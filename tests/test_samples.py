import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.samples import (
    Samples,
    alike_name,
    alike_names,
    dataset_of,
    digest,
    fingerprint,
    fingerprints,
    image_id_of,
    sample_key,
)

NAMES = st.text(min_size=1).filter(lambda text: "/" not in text)


def make(**changes):
    fields = {
        "keys": ["a/0", "a/1", "b/0"],
        "digests": np.array([1, 2, 3], dtype=np.uint64),
        "datasets": {"a": "x", "b": "y"},
        "classes": [[0, 0, 2], [], [1]],
    }
    return Samples(**{**fields, **changes})


@given(NAMES, st.text(min_size=1))
def test_a_key_names_its_data_set_and_its_image(name, image_id):
    key = sample_key(name, image_id)
    assert dataset_of(key) == name
    assert image_id_of(key) == image_id.replace("/", "\\")
    assert key.count("/") == 1


def test_a_data_set_may_have_slashes_in_its_name():
    assert dataset_of("my/set/im1") == "my/set" and image_id_of("my/set/im1") == "im1"
    assert dataset_of("im1") == ""


def test_sizes_count_objects():
    assert make().sizes.tolist() == [3, 0, 1] and make().sizes.dtype == np.int64
    assert len(make()) == 3


def test_the_fingerprint_is_of_all_data_sets_in_whatever_order():
    other = make(datasets={"b": "y", "a": "x"})
    assert make().fingerprint == other.fingerprint and len(other.fingerprint) == 64
    assert make().fingerprint != make(datasets={"a": "x", "b": "z"}).fingerprint


def test_images_are_read_by_index():
    read = {1: np.zeros((2, 3, 3), np.uint8)}
    assert make(read_image=read.__getitem__).image(1).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="cannot be read one by one"):
        make().image(1)


def test_fingerprints_go_by_data_set():
    keys, digests = make().keys, make().digests
    found = fingerprints(keys, digests, ["a", "b", "empty"])
    assert found == {
        "a": fingerprint(keys[:2], [1, 2]),
        "b": fingerprint(keys[2:], [3]),
        "empty": fingerprint([], []),
    }


def test_a_fingerprint_is_that_of_release_0_1():
    text = b"a/0 0000000000000001\na/1 00000000000000ff\n"
    assert fingerprint(["a/0", "a/1"], [1, 255]) == hashlib.sha256(text).hexdigest()
    assert digest("a") == int(hashlib.sha256(b"a").hexdigest()[:16], 16)


@given(st.text())
def test_a_name_with_a_space_more_is_alike(text):
    assert alike_name(text) == alike_name(text + " ")


def test_names_that_differ_by_case_or_spaces_stand_together():
    names = ["Traffic Light", "dog", "trafficlight", "hot dog", "DOG", "TRAFFIC light"]
    assert alike_names(names) == [[names[0], names[2], names[5]], ["dog", "DOG"]]
    assert alike_names(["cat", "dog"]) == alike_names([]) == []
