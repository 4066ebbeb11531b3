import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det import files, selection_file
from adapruner_det.errors import DataError
from adapruner_det.selection import Selection
from tests.forged_selection import (
    ABSENT,
    KEYS,
    MANY,
    assert_same,
    edit,
    make,
    npy,
    npz_of,
    outcome,
    refused,
    reseal,
    rewrite,
)


@pytest.fixture
def saved(tmp_path):
    return make().save(tmp_path / "run.json")


# --- what is written is read ---------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=8)


@st.composite
def selections(draw):
    ids = draw(st.lists(TEXT.filter(bool).map(lambda t: t.replace("/", "\\")), min_size=1))
    dataset = draw(TEXT)
    keys = sorted({f"{dataset}/{i}" for i in ids})
    n, ratio = len(keys), draw(st.floats(0.01, 1.0))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    columns = {
        "key": np.array(keys),
        "digest": rng.integers(0, 2**63, n).astype(np.uint64),
        "kept": rng.permutation(n) < max(1, round(ratio * n)),
        "score": rng.random(n),
    }
    return Selection(
        method=draw(TEXT.filter(bool)),
        keep_ratio=ratio,
        seed=draw(st.integers(-(2**63), 2**63)),
        datasets={dataset: draw(TEXT), **draw(st.dictionaries(TEXT, TEXT, max_size=2))},
        columns=columns,
        soft_ratio=draw(st.none() | st.floats(0, 1)),
        excluded=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        class_names=tuple(draw(st.lists(TEXT, max_size=3))),
    )


@MANY
@given(selection=selections())
def test_whatever_is_saved_is_loaded(tmp_path, selection):
    assert_same(Selection.load(selection.save(tmp_path / "run.json")), selection)


def test_the_largest_and_most_even_columns_are_within_the_limits(tmp_path):
    """Columns that deflate as far as anything does, and long keys that no one can read."""
    n = 50_000
    keys = [f"toy/{'😀' * 20}{i:06d}" for i in range(n)]
    columns = {
        "key": np.array(keys),
        "digest": np.random.default_rng(0).integers(0, 2**63, n).astype(np.uint64),
        "kept": np.ones(n, dtype=bool),
        "score": np.zeros(n, dtype=np.int64),
        "times_seen": np.zeros(n, dtype=np.uint16),
    }
    selection = Selection("x", 1.0, 0, {"toy": ""}, columns)
    assert Selection.load(selection.save(tmp_path / "run.json")).num_kept == n


OLD = Path(__file__).parent / "old"

#: What release 0.1 cut of the two runs in tests/old at these keep ratios, a digit a sample.
CUTS_OF_0_1 = {
    "by_size": {
        0.1: "01000000000001000000",
        0.3: "01001000000101000110",
        0.5: "01001100100101011110",
        0.7: "01101100111101111110",
        0.9: "01101111111111111111",
        0.95: "11101111111111111111",
    },
    "alike": {
        0.1: "00000010000000001000",
        0.3: "00000110101000101000",
        0.5: "01000110101011101100",
        0.7: "01100111101011111110",
        0.9: "01101111111111111111",
        0.95: "11101111111111111111",
    },
}


@pytest.mark.parametrize("name", CUTS_OF_0_1)
def test_a_file_of_version_0_1_is_cut_as_it_was(name, tmp_path):
    found = Selection.load(OLD / f"selection_0_1_{name}.json")
    again = Selection.load(found.save(tmp_path / "run.json"))
    assert json.loads((tmp_path / "run.json").read_text())["schema_version"] == 2
    for selection in (found, again):
        assert selection.unseen_keys() == ["toy/000", "toy/003"]
        for keep_ratio, kept in CUTS_OF_0_1[name].items():
            cut = selection.cut(keep_ratio).columns["kept"]
            assert "".join("01"[int(stays)] for stays in cut) == kept, keep_ratio
        np.testing.assert_array_equal(selection.columns["kept"], selection.cut(0.7).columns["kept"])


def test_what_version_0_1_did_not_know_is_empty(saved):
    new = ("excluded", "class_names", "digest_of", "num_threads", "command", "npz_sha256")
    edit(saved, schema_version=1, **dict.fromkeys(new, ABSENT))
    found = Selection.load(saved)
    known = found.excluded, found.class_names, found.digest_of, found.num_threads, found.command
    assert known == ({}, (), "", 0, "")
    np.testing.assert_array_equal(found.columns["kept"], make().columns["kept"])


def test_a_file_that_does_not_say_its_command_is_read_and_written_without(saved, tmp_path):
    edit(saved, command=ABSENT)
    found = Selection.load(saved)
    assert found.command == ""
    assert json.loads(found.save(tmp_path / "again.json").read_text())["command"] == ""


def test_other_byte_orders_are_read_and_in_version_0_1_kept_as_numbers(saved):
    columns = make().columns
    swapped = {f"{n}.npy": npy(c.astype(c.dtype.newbyteorder(">"))) for n, c in columns.items()}
    rewrite(saved, {**swapped, "kept.npy": npy(columns["kept"].astype(np.uint8))})
    edit(saved, schema_version=1)
    found = Selection.load(saved)
    assert_same(found, make())
    assert found.columns["kept"].dtype == bool
    assert all(column.dtype.isnative for column in found.columns.values())


def test_a_json_with_a_byte_order_mark_is_read(saved):
    saved.write_bytes(b"\xef\xbb\xbf" + saved.read_bytes())
    assert_same(Selection.load(saved), make())


# --- a kill at any moment ------------------------------------------------------------------------


def states_of_the_disk(monkeypatch, folder, place, act):
    """Copies of ``folder`` as it was at every step of ``act()`` at which a kill leaves it."""
    states = []

    def keep():
        with monkeypatch.context() as patch:  # copying, too, calls what is watched
            for owner, name, function in steps:
                patch.setattr(owner, name, function)
            states.append(shutil.copytree(folder, place / f"{folder.name}-{len(states)}"))

    def watched(function):
        def call(*arguments, **options):
            keep()
            result = function(*arguments, **options)
            keep()
            return result

        return call

    places = [(os, name) for name in ("open", "fsync", "chmod", "replace")]
    places += [(Path, "replace"), (np, "savez_compressed")]
    steps = [(owner, name, getattr(owner, name)) for owner, name in places]
    with monkeypatch.context() as patch:
        for owner, name, function in steps:
            patch.setattr(owner, name, watched(function))
        act()
    keep()
    return states


def loaded_seed(folder):
    return Selection.load(folder / "run.json").seed


def test_after_a_kill_the_old_selection_or_the_new_one_is_there(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    old, new = make(seed=1), make(seed=2, keep_ratio=0.5)
    path = old.save(folder / "run.json")
    states = states_of_the_disk(monkeypatch, folder, tmp_path, lambda: new.save(path))
    seeds = [loaded_seed(state) for state in states]
    assert len(states) > 10
    assert seeds == sorted(seeds) and set(seeds) == {1, 2}
    assert sorted(p.name for p in states[-1].iterdir()) == ["run.json", "run.npz"]


def test_a_save_that_is_killed_after_a_killed_one_loses_nothing_either(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    path = make(seed=1).save(folder / "run.json")
    act = make(seed=2, keep_ratio=0.5).save
    last = make(seed=3, keep_ratio=0.3)
    states = states_of_the_disk(monkeypatch, folder, tmp_path, lambda: act(path))
    half_done = [state for state in states if (state / "run.npz.new").exists()]
    assert {loaded_seed(state) for state in half_done} == {1, 2}
    for state in half_done[::2]:  # the state before a step is that after the step before it
        before = loaded_seed(state)
        again = partial(last.save, state / "run.json")
        seeds = [loaded_seed(s) for s in states_of_the_disk(monkeypatch, state, tmp_path, again)]
        assert set(seeds) == {before, 3} and seeds[-1] == 3


@pytest.mark.parametrize("step", [1, 2])
def test_ctrl_c_at_the_end_of_a_file_leaves_the_old_selection_or_the_new_one(
    saved, monkeypatch, step
):
    left = [step]

    def interrupted(folder):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    old = Selection.load(saved).seed
    monkeypatch.setattr(files, "_sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(seed=4, keep_ratio=0.5).save(saved)
    assert Selection.load(saved).seed == (old if step == 1 else 4) and old != 4


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_leaves_the_old_selection_and_nothing_else(saved, monkeypatch, step):
    before = {p.name: p.read_bytes() for p in saved.parent.iterdir()}
    left = [step]

    def fsync(handle):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync_folder", lambda folder: None)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DataError, match="No space left"):
        make(seed=4, keep_ratio=0.5).save(saved)
    assert {p.name: p.read_bytes() for p in saved.parent.iterdir()} == before


def test_a_reader_meets_a_writer(saved, monkeypatch):
    """The columns get their name between the reader's looks at the two places."""
    new = saved.with_suffix(".npz.new")
    current = npz_of(saved).read_bytes()
    make(keep_ratio=0.5).save(saved)
    npz_of(saved).rename(new)
    npz_of(saved).write_bytes(current)
    real = selection_file.sha256

    def hash_and_rename(file):
        found = real(file)
        if new.exists():
            new.replace(npz_of(saved))
        return found

    monkeypatch.setattr(selection_file, "sha256", hash_and_rename)
    assert Selection.load(saved).num_kept == 5


def test_a_name_that_is_taken(tmp_path):
    with pytest.raises(DataError, match="is in the way"):
        make().save(tmp_path / "run.npz")
    (tmp_path / "run.npz").mkdir()
    with pytest.raises(DataError, match="is in the way"):
        make().save(tmp_path / "run.json")
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


# --- files that are none, or not these -----------------------------------------------------------


def test_what_is_not_there(tmp_path, saved):
    assert "there is no selection at none.json" in refused(Path("none.json"))
    npz_of(saved).unlink()
    refused(saved, "run.npz is missing")


def test_the_other_file_of_the_pair(saved):
    with pytest.raises(DataError, match=r"give the \.json beside it"):
        Selection.load(npz_of(saved))


@pytest.mark.parametrize("name", ["run.json", "run.npz"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file(saved, name, kind):
    path = saved.with_name(name)
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    refused(saved, name, "not a regular file")


@pytest.mark.parametrize("path", ["", ".", "a\0b.json", "x" * 5000, f"{__file__}/run.json"])
def test_what_is_no_path(path):
    with pytest.raises(DataError):
        Selection.load(path)


def test_the_npz_of_another_run(saved):
    make(keep_ratio=0.5).save(saved.with_name("other.json"))
    npz_of(saved.with_name("other.json")).replace(npz_of(saved))
    refused(saved, "run.npz is not what", "not from the same run")
    edit(saved, npz_sha256=ABSENT)  # as in a file of version 0.1
    refused(saved, "keeps 5 of 10 samples at the keep ratio 0.8")


def test_the_npz_of_another_run_of_the_same_ratio(saved):
    rewrite(saved, {"kept.npy": npy(np.arange(10) >= 2)})
    edit(saved, npz_sha256=ABSENT)
    refused(saved, "disagree on the kept keys", "not from the same run")


def test_columns_that_were_changed(saved):
    data = npz_of(saved).read_bytes()
    npz_of(saved).write_bytes(data + b"\0")
    refused(saved, "damaged")


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "schema version None"),
        ('{"annotations": []}', "schema version None"),
        ('{"schema_version": 9}', "schema version 9"),
        ('{"schema_version": true}', "schema version True"),
        ('{"schema_version": 1}', "no 'num_samples'"),
        ('{"schema_version": 1, "seed": 1, "seed": 2}', "'seed' is there twice"),
        ('{"schema_version": 1, "a": NaN}', "NaN is not a number"),
        ('{"schema_version": 1, "a": -Infinity}', "-Infinity is not a number"),
        ('{"schema_version": 1, "a": 1e999}', "too large"),
        ('{"schema_version": 1, "seed": ' + "9" * 5000 + "}", "integer string"),
        ("[" * 100_000, "recursion"),
        ('{"a":' * 100_000, "recursion"),
        (b"\xff\xfe{\0}\0", "utf-8"),
        (b"\x80\x04K\x01.", "utf-8"),
    ],
)
def test_json_that_is_no_selection(saved, text, message):
    saved.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(saved, message)


def test_a_gigabyte_of_json_is_not_read(saved):
    with saved.open("r+b") as file:
        file.truncate(1 << 30)
    refused(saved, "too many for the .npz")


def test_many_names_are_not_compared_with_each_other(saved):
    pairs = ",".join(f'"{i}": 1' for i in range(50_000))
    saved.write_text(f'{{{pairs}, "49999": 1}}')
    start = time.process_time()
    refused(saved, "'49999' is there twice")
    assert time.process_time() - start < 5


# --- whatever is in the files --------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = make().save(tmp_path_factory.mktemp("pair") / "run.json")
    return path, path.read_bytes(), npz_of(path).read_bytes()


def flipped(data, changes):
    data = bytearray(data)
    for place, value in changes:
        data[int(place * (len(data) - 1))] ^= value
    return bytes(data)


CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(1, 255)),
    min_size=1,
    max_size=4,
    unique_by=lambda c: c[0],
)


@MANY
@given(data=st.binary(max_size=200), which=st.sampled_from(["json", "npz", "both"]))
def test_random_bytes(pair, data, which):
    path, text, columns = pair
    path.write_bytes(text if which == "npz" else data)
    npz_of(path).write_bytes(columns if which == "json" else data)
    assert outcome(path) is None


@MANY
@given(part=st.floats(0, 1, exclude_max=True), sealed=st.booleans())
def test_truncations(pair, part, sealed):
    path, text, columns = pair
    path.write_bytes(text[: int(part * (len(text) - 1))])
    npz_of(path).write_bytes(columns)
    assert outcome(path) is None
    path.write_bytes(text)
    npz_of(path).write_bytes(columns[: int(part * len(columns))])
    if sealed:
        reseal(path)
    assert outcome(path) is None


@MANY
@given(changes=CHANGES)
def test_flipped_bytes_of_the_columns(pair, changes):
    path, text, columns = pair
    path.write_bytes(text)
    changed = flipped(columns, changes)
    npz_of(path).write_bytes(changed)
    assert changed == columns or outcome(path) is None
    reseal(path)  # without its hash, the archive still has its own checksums
    found = outcome(path)
    for name, column in ({} if found is None else found.columns).items():
        np.testing.assert_array_equal(column, make().columns[name])


@MANY
@given(changes=CHANGES)
def test_flipped_bytes_of_the_json(pair, changes):
    path, text, columns = pair
    path.write_bytes(flipped(text, changes))
    npz_of(path).write_bytes(columns)
    found = outcome(path)
    if found is not None:  # another text or number, which could have been meant
        for name, column in make().columns.items():
            np.testing.assert_array_equal(found.columns[name], column)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@MANY
@given(data=st.data())
def test_any_value_in_any_field(pair, data):
    path, text, columns = pair
    npz_of(path).write_bytes(columns)
    body = json.loads(text)
    field = data.draw(st.sampled_from(sorted(body)))
    path.write_text(json.dumps({**body, field: data.draw(VALUES)}))
    found = outcome(path)
    if found is not None:
        assert_same(Selection.load(found.save(path.with_name("run2.json"))), found)
