import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.forged_selection import (
    ABSENT,
    KEYS,
    ONES,
    edit,
    header_of,
    make,
    npy,
    npz_of,
    refused,
    reseal,
    rewrite,
)


@pytest.fixture
def saved(tmp_path):
    return make().save(tmp_path / "run.json")


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


def test_arrays_of_other_formats(saved):
    file = io.BytesIO()
    np.lib.format.write_array(file, ONES, version=(2, 0))
    rewrite(saved, {"logit.npy": file.getvalue()})
    refused(saved, "an array of format (2, 0)")


def test_characters_that_do_not_exist(saved):
    wrong = np.array(KEYS).view(np.uint32).copy()
    wrong[5] = 0x110000
    rewrite(saved, {"key.npy": npy(wrong.view("<U7"))})
    refused(saved, "characters that do not exist")


# --- memory --------------------------------------------------------------------------------------


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
