import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapruner_det.files import write_whole
from adapruner_det.whole_zip import is_whole_zip

STATE = {"x": torch.arange(6.0), "name": "a name", "steps": [1, 2]}


def saved(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


WHOLE = saved(lambda file: torch.save(STATE, file))
PLACE = st.integers(0, len(WHOLE) - 1)


def is_state(found):
    return found.keys() == STATE.keys() and all(
        torch.equal(found[key], value) if key == "x" else found[key] == value
        for key, value in STATE.items()
    )


def judge(path, data):
    """A damaged checkpoint is found, or PyTorch reads what was saved."""
    path.write_bytes(data)
    if is_whole_zip(path):
        assert is_state(torch.load(path, weights_only=True))


anything = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


@anything
@given(place=PLACE, value=st.integers(1, 255))
def test_a_byte_that_is_flipped_is_found_or_of_no_account(tmp_path, place, value):
    data = bytearray(WHOLE)
    data[place] ^= value
    judge(tmp_path / "x.pt", data)


def test_every_bit_of_the_list_of_entries_is(tmp_path):
    """What stands after the entries has no checksum: a flip in each byte, of each bit in turn."""
    start = WHOLE.index(b"PK\1\2")
    for place in range(start, len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= 1 << place % 8
        judge(tmp_path / "x.pt", data)


@anything
@given(start=PLACE, length=st.integers(1, 64), tail=st.binary(max_size=64))
def test_a_torn_file_is_found_or_of_no_account(tmp_path, start, length, tail):
    judge(tmp_path / "x.pt", WHOLE[:start] + tail)
    judge(tmp_path / "x.pt", WHOLE[:start] + bytes(length) + WHOLE[start + length :])
    judge(tmp_path / "x.pt", WHOLE[:start] + WHOLE[start + length :])


def zipped(file, comment=b"", kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("folder/", "")
        archive.writestr("x", b"x" * 1000)
        archive.comment = comment


@pytest.mark.parametrize(
    "write",
    [
        lambda file: torch.save(STATE, file),
        lambda file: torch.save({}, file),
        lambda file: torch.save({"x": torch.zeros(2**18)}, file),
        lambda file: torch.save([torch.zeros(1) for _ in range(200)], file),
        lambda file: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file),
        lambda file: np.savez(file, x=np.zeros(3), y=np.array(["a"])),
        lambda file: np.savez_compressed(file, x=np.zeros(3000)),
        lambda file: zipped(file, b"a comment"),
        lambda file: zipped(file, kind=zipfile.ZIP_LZMA),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_what_was_written_whole_is_whole(tmp_path, write):
    path = write_whole(tmp_path / "x", write)
    assert is_whole_zip(path) and is_whole_zip(str(path))
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_whole_zip(path)


def test_what_is_no_archive_is_not_whole(tmp_path):
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    for name in ("text", "empty", "nowhere", "", "n\0ull"):
        assert not is_whole_zip(tmp_path / name)
