import pickle
import shutil
import zipfile

import pytest
import torch

from adapruner_det import files
from adapruner_det.classification.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    run_folder,
    save_checkpoint,
    save_tensors,
)
from adapruner_det.errors import DataError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, place=0.5):
    """Change one bit of what a tensor holds."""
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 1
    path.write_bytes(raw)


def state(step):
    return {"step": step, "x": torch.full((1000,), float(step))}


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(state(1), tmp_path)
    save_checkpoint(state(2), tmp_path)
    return tmp_path


def test_the_newest_is_read_and_the_one_before_it_is_kept(folder):
    assert names(folder) == ["checkpoint.prev.pt", "checkpoint.pt"]
    path, found = load_checkpoint(folder)
    assert (path.name, found["step"]) == ("checkpoint.pt", 2)
    save_checkpoint(state(3), folder)
    assert torch.load(folder / "checkpoint.prev.pt", weights_only=True)["step"] == 2


def test_where_files_have_no_links_one_is_whole_all_the_same(folder, monkeypatch):
    def refuse(*args):
        raise OSError(95, "not supported")

    monkeypatch.setattr("os.link", refuse)
    save_checkpoint(state(3), folder)
    assert names(folder) == ["checkpoint.prev.pt", "checkpoint.pt"]
    assert torch.load(folder / "checkpoint.prev.pt", weights_only=True)["step"] == 2


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-500])])
def test_a_damaged_one_is_said_and_the_one_before_it_taken(folder, damage, caplog):
    damage(folder / "checkpoint.pt")
    path, found = load_checkpoint(folder)
    assert (path.name, found["step"]) == ("checkpoint.pt", 1)
    assert "checkpoint.pt cannot be read: it is damaged; going on from" in caplog.text
    assert names(folder) == ["checkpoint.pt"]  # the damaged one never pushes out a whole one


def test_two_damaged_ones_are_one_line(folder):
    flip(folder / "checkpoint.pt")
    flip(folder / "checkpoint.prev.pt")
    with pytest.raises(DataError, match=r"checkpoint\.pt .*checkpoint\.prev\.pt .*start anew"):
        load_checkpoint(folder)
    assert len(names(folder)) == 2


class Hostile:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


def as_torch_does(path):
    torch.save({"step": 3, "x": Hostile()}, path)


def as_pickle_does(path):
    path.write_bytes(pickle.dumps({"step": 3, "x": Hostile()}))


def as_a_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Hostile()))


@pytest.mark.parametrize("write", [as_torch_does, as_pickle_does, as_a_zip])
def test_no_code_of_a_checkpoint_runs(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=r"checkpoint\.pt cannot be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_something_else_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="it is no checkpoint of a run"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_last_one(folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        for _ in range(2):
            with pytest.raises(DataError, match="No space left on device; free space"):
                save_checkpoint(state(3), folder)
    assert load_checkpoint(folder)[1]["step"] == 2
    save_checkpoint(state(3), folder)
    assert names(folder) == ["checkpoint.prev.pt", "checkpoint.pt"]


def test_a_write_that_torch_cannot_finish_is_the_system_s_error(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Full(file)))
    with pytest.raises(DataError, match="No space left on device"):
        save_tensors(state(1), tmp_path / "model.pt")
    assert not names(tmp_path)


def enter(folder, resume=None, inputs=()):
    with run_folder(folder, resume, inputs):
        return names(folder)


def test_a_new_run_sets_the_files_of_an_old_one_aside(folder):
    selections = ("selection.json", "selection.npz", "selection-2.json")
    for name in ("model.pt", "model.json", "result.json", *selections):
        (folder / name).write_bytes(b"old")
    (folder / "config.yaml").write_bytes(b"old")
    (folder / "notes.txt").write_bytes(b"mine")
    (folder / ".checkpoint.pt.x.part~").write_bytes(b"torn")
    assert enter(folder) == [".lock", "notes.txt", "old-1"]
    assert len(names(folder / "old-1")) == 9
    save_checkpoint(state(1), folder)
    assert enter(folder) == [".lock", "notes.txt", "old-1", "old-2"]
    (folder / "config.yaml").write_bytes(b"mine")  # of no run
    assert "config.yaml" in enter(folder)


def test_a_run_that_goes_on_keeps_its_files(folder):
    (folder / "model.pt").write_bytes(b"old")
    kept = [".lock", "checkpoint.prev.pt", "checkpoint.pt", "model.pt"]
    assert enter(folder, lambda: True) == kept
    assert enter(folder, lambda: False) == [".lock", "old-1"]


def test_two_runs_never_share_a_folder(tmp_path):
    with (
        run_folder(tmp_path, None, ()),
        pytest.raises(DataError, match="another run is writing to"),
        run_folder(tmp_path, None, ()),
    ):
        pass


@pytest.mark.parametrize("given", ["selection.json", "./selection.json", "link/selection.json"])
def test_a_new_run_never_sets_aside_what_it_reads(folder, given, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "selection.json").write_bytes(b"read")
    (folder / "link").symlink_to(folder)
    before = names(folder)
    with pytest.raises(DataError, match="selection.json lies in OUTPUT_DIR"):
        enter(folder, None, ["", None, given])
    assert names(folder) == before
    assert "selection.json" in enter(folder, lambda: True, [given])
    shutil.copy(folder / "selection.json", folder.parent / "selection.json")
    (folder / "selection.json").unlink()
    (folder / "selection.json").symlink_to("../selection.json")
    with pytest.raises(DataError, match="lies in OUTPUT_DIR"):
        enter(folder, None, [given])
    enter(folder, None, ["../selection.json"])


def test_to_go_on_without_a_checkpoint_is_a_new_run(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"read")
    assert not has_checkpoint(tmp_path)
    with pytest.raises(DataError, match="lies in OUTPUT_DIR"):
        enter(tmp_path, lambda: False, [str(tmp_path / "model.pt")])


@pytest.mark.parametrize("place", ["file", "file/deeper", "n\0ull"])
def test_a_folder_that_cannot_be_is_one_line(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written to"):
        enter(tmp_path / place)
    assert names(tmp_path) == ["file"]
