"""torchvision's own downloader, checksums and extraction, on small archives from a local server."""

import functools
import hashlib
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from detectron2.data.datasets.pascal_voc import load_voc_instances
from torchvision.datasets import voc

from tests.datasets.scripts import load
from tests.detection.voc_writer import write_voc_folder

prepare_voc = load("prepare_voc")

ARCHIVES = {  # torchvision's key → folder in the archive, split
    "2007": ("VOC2007", "trainval"),
    "2007-test": ("VOC2007", "test"),
    "2012": ("VOC2012", "trainval"),
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The address of a server of the files in tmp_path."""
    handler = functools.partial(_Quiet, directory=tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def archives(tmp_path, monkeypatch, address):
    """Small archives in place of the real ones; key → file."""
    files = {}
    for key, (folder, split) in ARCHIVES.items():
        devkit = tmp_path / key / "VOCdevkit"
        objects = {f"{key}_{i}": [("cat", (5, 5, 30, 30), 0)] for i in range(2)}
        write_voc_folder(devkit / folder, {split: objects}, suffix=".jpg")
        files[key] = tmp_path / voc.DATASET_YEAR_DICT[key]["filename"]
        with tarfile.open(files[key], "w") as tar:
            tar.add(devkit, "VOCdevkit")
        entry = {
            "url": f"{address}/{files[key].name}",
            "md5": hashlib.md5(files[key].read_bytes()).hexdigest(),
        }
        monkeypatch.setitem(voc.DATASET_YEAR_DICT, key, voc.DATASET_YEAR_DICT[key] | entry)
    return files


def _exit_of(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        prepare_voc.main(list(arguments))
    output = capsys.readouterr().err.splitlines()
    return stopped.value.code, [line for line in output if line.startswith("error: ")]


def test_the_archives_become_the_layout_that_detectron2_reads(archives, tmp_path, capsys):
    root = tmp_path / "root"
    prepare_voc.main(["--root", str(root)])
    assert sorted(p.name for p in root.iterdir()) == ["VOC2007", "VOC2012"]
    for folder, split, key in (
        ("VOC2007", "trainval", "2007"),
        ("VOC2007", "test", "2007-test"),
        ("VOC2012", "trainval", "2012"),
    ):
        dicts = load_voc_instances(str(root / folder), split, ["cat"])
        assert [d["image_id"] for d in dicts] == [f"{key}_0", f"{key}_1"]
    assert capsys.readouterr().out.splitlines() == [
        f"{root}/VOC2007: ready",
        f"{root}/VOC2012: ready",
    ]


def test_the_default_place_is_detectron2s(archives, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "named"))
    prepare_voc.main([])
    assert (tmp_path / "named/VOC2007/JPEGImages").is_dir()
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.chdir(tmp_path)
    prepare_voc.main([])
    assert (tmp_path / "datasets/VOC2012/JPEGImages").is_dir()


def test_what_is_there_is_not_fetched_again(archives, tmp_path, capsys):
    root = tmp_path / "root"
    prepare_voc.main(["--root", str(root)])
    for file in archives.values():
        file.unlink()
    capsys.readouterr()
    prepare_voc.main(["--root", str(root)])
    assert capsys.readouterr().out.count("already there") == 2


def test_a_wrong_checksum_leaves_nothing_under_the_final_name(
    archives, tmp_path, monkeypatch, capsys
):
    entry = voc.DATASET_YEAR_DICT["2007-test"]
    monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2007-test", entry | {"md5": "0" * 32})
    code, errors = _exit_of(capsys, "--root", str(tmp_path / "root"))
    assert code == 2 and len(errors) == 1
    assert "VOC2007 could not be prepared: File not found or corrupted" in errors[0]
    assert not (tmp_path / "root/VOC2007").exists()


def test_without_network_one_line_and_the_next_run_goes_on(archives, tmp_path, capsys):
    moved = archives["2007-test"].rename(tmp_path / "away")
    code, errors = _exit_of(capsys, "--root", str(tmp_path / "root"))
    assert code == 2 and len(errors) == 1
    assert "HTTP Error 404" in errors[0] and "check the network" in errors[0]
    assert not (tmp_path / "root/VOC2007").exists()
    moved.rename(archives["2007-test"])
    archives["2007"].unlink()  # has been downloaded and is not asked for again
    prepare_voc.main(["--root", str(tmp_path / "root")])
    assert (tmp_path / "root/VOC2007/ImageSets/Main/trainval.txt").is_file()


def test_archives_put_there_by_hand_need_no_network(archives, tmp_path):
    """What the error message advises."""
    downloads = tmp_path / "root" / prepare_voc.DOWNLOADS
    downloads.mkdir(parents=True)
    for file in archives.values():
        file.rename(downloads / file.name)
    prepare_voc.main(["--root", str(tmp_path / "root")])
    assert sorted(p.name for p in (tmp_path / "root").iterdir()) == ["VOC2007", "VOC2012"]


def test_where_nothing_arrives_nothing_is_left(archives, tmp_path, capsys):
    archives["2007"].unlink()
    assert _exit_of(capsys, "--root", str(tmp_path / "root"))[0] == 2
    assert list((tmp_path / "root").iterdir()) == []


def test_one_year_that_fails_leaves_the_other_whole(archives, tmp_path, capsys):
    archives["2012"].unlink()
    code, errors = _exit_of(capsys, "--root", str(tmp_path / "root"))
    assert code == 2 and "VOC2012" in errors[0]
    assert load_voc_instances(str(tmp_path / "root/VOC2007"), "test", ["cat"])
    assert not (tmp_path / "root/VOC2012").exists()


def test_a_folder_without_its_test_split_is_named_and_left_alone(archives, tmp_path, capsys):
    root = tmp_path / "root"
    write_voc_folder(root / "VOC2007", {"trainval": {"mine": [("cat", (1, 1, 9, 9), 0)]}})
    code, errors = _exit_of(capsys, "--root", str(root))
    assert code == 2 and "has no ImageSets/Main/test.txt" in errors[0]
    assert (root / "VOC2007/Annotations/mine.xml").is_file()
    assert not (root / "VOC2012").exists()


def test_a_place_that_cannot_be_written_is_one_line(archives, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, errors = _exit_of(capsys, "--root", str(tmp_path / "file"))
    assert code == 2 and len(errors) == 1
    assert "cannot be written to" in errors[0] and "set another --root" in errors[0]
    assert "network" not in errors[0]
