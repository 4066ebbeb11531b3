import io
import json
import os
import shutil
import struct
import time
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapruner_det import files, selection_file
from adapruner_det.errors import DataError
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import Selection

KEYS = [f"toy/{i:03d}" for i in range(10)]
MANY = settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def make(seed=3, keep_ratio=0.8, **changes):
    digests = np.array([digest(key) for key in KEYS], dtype=np.uint64)
    columns = {
        "key": np.array(KEYS),
        "digest": digests,
        "kept": np.arange(10) < round(10 * keep_ratio),
        "score": np.arange(10),
        "logit": np.linspace(1.0, -1.0, 10, dtype=np.float32),
        "last_loss": np.ones(10, dtype=np.float32),
        "mean_loss": np.ones(10, dtype=np.float32),
        "times_seen": np.full(10, 6, dtype=np.uint16),
        "typical_loss": np.full(10, 2.0, dtype=np.float32),
        "classes": np.array(["0", "1", "0 2", ""] * 2 + ["10", "2 10"]),
    }
    return Selection(
        method="adapruner",
        keep_ratio=keep_ratio,
        seed=seed,
        datasets={"toy": fingerprint(KEYS, digests)},
        columns={**columns, **changes},
        soft_ratio=0.79,
        parameters={"pressure_terms": {"use_selection": True}},
        versions={"numpy": "2"},
        excluded={"toy/x": "cut short"},
        class_names=("cat", "dog"),
        digest_of="bytes",
        num_threads=2,
        command="adapruner prune-net --config-file 'my \udcff.yaml'",  # of bytes that are no text
    )


def assert_same(found, wanted):
    for name in Selection.__dataclass_fields__:
        if name != "columns":
            assert getattr(found, name) == getattr(wanted, name), name
    assert list(found.columns) == list(wanted.columns)
    for name, column in wanted.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, name)


@pytest.fixture
def saved(tmp_path):
    return make().save(tmp_path / "run.json")


def npz_of(path):
    return path.with_suffix(".npz")


def edit(path, **values):
    """Change fields of the JSON; None takes a field away."""
    body = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in body.items() if v is not ABSENT}))


ABSENT = object()


def reseal(path):
    """Let the JSON name the .npz that is there, as a forger would."""
    edit(path, npz_sha256=selection_file._sha256(npz_of(path)))


def rewrite(path, entries, compression=zipfile.ZIP_DEFLATED):
    """Put ``entries``, name → bytes, in the place of those of one name, and seal."""
    with zipfile.ZipFile(npz_of(path)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(npz_of(path), "w", compression) as archive:
        for name, data in {**found, **entries}.items():
            if data is not None:
                archive.writestr(name, data)
    reseal(path)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header_of(descr, shape):
    """A .npy that says what it is and has nothing of it."""
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def refused(path, *parts):
    """The one line, which names a file of the selection."""
    with pytest.raises(DataError) as caught:
        Selection.load(path)
    message = str(caught.value)
    assert path.stem in message and "\n" not in message and len(message) < 800, message
    for part in parts:
        assert part in message
    return message


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
    real = selection_file._hash

    def hash_and_rename(file):
        found = real(file)
        if new.exists():
            new.replace(npz_of(saved))
        return found

    monkeypatch.setattr(selection_file, "_hash", hash_and_rename)
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

ONES = np.ones(10, dtype=np.float32)


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


def test_characters_that_do_not_exist(saved):
    wrong = np.array(KEYS).view(np.uint32).copy()
    wrong[5] = 0x110000
    rewrite(saved, {"key.npy": npy(wrong.view("<U7"))})
    refused(saved, "characters that do not exist")


def test_a_cut_of_extreme_columns_has_an_order(saved):
    largest = np.finfo(np.float32)
    mixed = np.where(np.arange(10) % 2, largest.max, 0).astype(np.float32)
    typical = np.full(10, largest.tiny / 4, dtype=np.float32)
    rewrite(saved, {"mean_loss.npy": npy(mixed), "typical_loss.npy": npy(typical)})
    assert Selection.load(saved).cut(0.3).num_kept == 3


# --- archives ------------------------------------------------------------------------------------


def archive_with(path, changes):
    """Change fields of the first entry in the zip's directory."""
    data = bytearray(npz_of(path).read_bytes())
    offsets = {"flags": ("<H", 8), "method": ("<H", 10), "packed": ("<I", 20), "size": ("<I", 24)}
    at = data.index(b"PK\x01\x02")
    for name, value in changes.items():
        form, offset = offsets[name]
        struct.pack_into(form, data, at + offset, value)
    npz_of(path).write_bytes(data)
    reseal(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flags": 1}, "is encrypted"),
        ({"method": 12}, "compressed in an unknown way"),
        ({"size": 1 << 30}, "claims 1073741824 bytes"),
        ({"packed": 1 << 30}, "overlap"),
    ],
)
def test_entries_that_are_not_as_numpy_writes_them(saved, changes, message):
    archive_with(saved, changes)
    refused(saved, message)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(saved, compression):
    rewrite(saved, {}, compression)
    refused(saved, "compressed in an unknown way")


@pytest.mark.parametrize(
    "name", ["../evil.npy", "evil", "a b.npy", "1a.npy", "note.txt", "a" * 99 + ".npy", ".npy"]
)
def test_names_that_are_no_columns(saved, name):
    rewrite(saved, {name: npy(ONES)})
    refused(saved)


def test_more_entries_than_any_method_has(saved):
    rewrite(saved, {f"c{i}.npy": npy(ONES) for i in range(70)})
    refused(saved, "at most 64")


def test_an_entry_that_is_there_twice(saved):
    with (
        zipfile.ZipFile(npz_of(saved), "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("kept.npy", npy(np.arange(10) < 8))
    reseal(saved)
    refused(saved, "two entries of one name")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x93NUMPY", b"\x93NUMPY\x02\0", b"\x93NUMPY\x01\0\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x01\0\x05\0[1L] ", npy(ONES)[:-1], npy(ONES) + b"\0",
        header_of("<f4", (-1,)), header_of("<f4", (10.0,)), header_of("|O", (10,)),
        header_of([("a", "<f4")], (10,)), header_of("<U0", (10,)), header_of("nonsense", (10,)),
    ],
)  # fmt: skip
def test_arrays_that_are_none(saved, data):
    rewrite(saved, {"logit.npy": data})
    refused(saved, "run.npz")


def peak_of(path):
    """The most memory that a load which is refused takes, in bytes."""
    tracemalloc.start()
    try:
        refused(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb_of_many_rows(path):
    """As many rows of zeros as the JSON says, in a file of kilobytes."""
    with zipfile.ZipFile(npz_of(path)) as archive:
        arrays = {n: np.load(io.BytesIO(archive.read(n))) for n in archive.namelist()}
    n = 10**6
    rewrite(path, {name: npy(np.zeros(n, array.dtype)) for name, array in arrays.items()})
    edit(path, num_samples=n)


def bomb_that_says_it_has_many_rows(path):
    n = 10**12
    names = [f"{name}.npy" for name in make().columns]
    rewrite(path, {name: header_of("<f8", (n,)) for name in names})
    edit(path, num_samples=n)


def bomb_of_wide_rows(path):
    rewrite(path, {"key.npy": header_of(f"<U{10**8}", (10,))})


def bomb_of_a_long_column(path):
    rewrite(path, {"extra.npy": npy(np.zeros(10**7))})


def bomb_of_a_long_header(path):
    rewrite(path, {"extra.npy": b"\x93NUMPY\x02\0\0\0\0\x04" + b" " * (1 << 26)})


def test_arrays_of_other_formats(saved):
    file = io.BytesIO()
    np.lib.format.write_array(file, ONES, version=(2, 0))
    rewrite(saved, {"logit.npy": file.getvalue()})
    refused(saved, "an array of format (2, 0)")


def bomb_that_lies_of_its_size(path):
    rewrite(path, {"extra.npy": header_of("<f8", (10,)) + b"\0" * (1 << 26)})
    data = npz_of(path).read_bytes()
    size = struct.pack("<I", len(header_of("<f8", (10,))) + (1 << 26))
    small = struct.pack("<I", len(header_of("<f8", (10,))) + 80)
    npz_of(path).write_bytes(data.replace(size, small))
    reseal(path)


@pytest.mark.parametrize(
    "arm",
    [
        bomb_of_many_rows,
        bomb_that_says_it_has_many_rows,
        bomb_of_wide_rows,
        bomb_of_a_long_column,
        bomb_of_a_long_header,
    ],
)
def test_a_bomb_is_refused_at_its_headers(saved, arm):
    arm(saved)
    assert npz_of(saved).stat().st_size < 200_000
    assert peak_of(saved) < 2_000_000


def test_a_bomb_that_lies_of_its_size_is_no_larger_than_its_file_allows(saved):
    bomb_that_lies_of_its_size(saved)
    assert peak_of(saved) < 2 * 1032 * npz_of(saved).stat().st_size


# --- whatever is in the files --------------------------------------------------------------------


def outcome(path):
    """None for a DataError; else the selection, which can then be used."""
    try:
        found = Selection.load(path)
    except DataError as error:
        assert path.stem in str(error) and "\n" not in str(error)
        return None
    assert found.cut(0.5).num_kept == 5
    found.lost_classes(), found.unseen_keys()
    return found


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


@pytest.mark.parametrize("field", [30, 32])
def test_no_length_hides_a_column(saved, field):
    """An extra field or a comment in the zip's directory could swallow the entry that follows."""
    edit(saved, npz_sha256=ABSENT)
    columns = npz_of(saved).read_bytes()
    at = columns.rindex(b"PK\x01\x02", 0, columns.rindex(b"PK\x01\x02"))
    changed = bytearray(columns)
    struct.pack_into("<H", changed, at + field, len("classes.npy") + 46)
    npz_of(saved).write_bytes(changed)
    refused(saved)


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
