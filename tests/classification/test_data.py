import gzip

import numpy as np
import pytest
import torch

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import SOURCES, TORCHVISION, load_data, load_files
from adapruner_det.classification.folder import FileImages
from adapruner_det.errors import DataError
from tests.classification.tiny import (
    tiny_config,
    tiny_pixels,
    write_folder,
    write_idx,
    write_packed,
)


def test_digits_need_nothing_and_share_no_image_with_their_test():
    data = load_data(tiny_config())
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.train.images.max() == 255 and data.train.images.shape[1:] == (1, 8, 8)
    assert not {i.numpy().tobytes() for i in data.train.images} & {
        i.numpy().tobytes() for i in data.test.images
    }


def test_what_is_drawn_is_the_same_for_every_seed_of_the_run():
    settings = {"DATA__NUM_TRAIN": 200, "DATA__WRONG_LABELS": 0.15}
    one = load_data(tiny_config(**settings, SEED=1))
    two = load_data(tiny_config(**settings, SEED=2))
    assert one.train.keys == two.train.keys and len(one.wrong) == 30
    assert torch.equal(one.train.labels, two.train.labels)
    clean = load_data(tiny_config(DATA__NUM_TRAIN=200)).train
    wrong = torch.nonzero(clean.labels != one.train.labels).flatten()
    assert torch.equal(wrong, one.wrong)


def test_a_hold_out_comes_from_training_and_stays_clean():
    data = load_data(tiny_config(DATA__HOLDOUT=0.2, DATA__WRONG_LABELS=0.5))
    everything = load_data(tiny_config())
    assert len(data.train) + len(data.test) == len(everything.train)
    assert data.test.name == "digits_train" and not set(data.test.keys) & set(data.train.keys)
    places = [everything.train.keys.index(key) for key in data.test.keys]
    assert torch.equal(data.test.labels, everything.train.labels[places])


def test_packed_data_are_read_whatever_their_folder_is_called(tmp_path):
    write_packed(tmp_path / "small")
    data = load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(tmp_path / "small")))
    assert (data.train.name, len(data.train), len(data.test)) == ("packed_train", 36, 12)


def test_faults_in_a_folder_are_skipped_where_the_configuration_says_so(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "red" / "x.png").write_bytes(b"no image")
    settings = {"DATA__NAME": "folder", "DATA__ROOT": str(tmp_path), "DATA__SIZE": 8}
    with pytest.raises(DataError, match=r"red/x\.png is not an image"):
        load_data(tiny_config(**settings))
    data = load_data(tiny_config(**settings, ADAPRUNER__ON_BAD_SAMPLE="skip", DATA__NUM_TRAIN=9))
    assert len(data.train) == 9 and list(data.train.excluded) == ["folder_train/red\\x.png"]


def other_channels(root):
    images, labels = tiny_pixels(12)
    for path in root.glob("test*"):
        path.unlink()
    write_idx(root / "test-labels-idx1-ubyte.gz", labels)
    write_idx(root / "test-images-idx3-ubyte.gz", images[..., 0])


def one_class(root):
    write_idx(root / "train-labels-idx1-ubyte.gz", np.zeros(36))
    write_idx(root / "test-labels-idx1-ubyte.gz", np.zeros(12))
    (root / "classes.txt").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_channels, r"shape \(3, 8, 8\) .* those of packed_test \(1, 8, 8\)"),
        (one_class, "packed_train has one class, 0; a classifier needs two"),
    ],
)
def test_sets_that_no_model_serves_are_refused(tmp_path, change, message):
    write_packed(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(tmp_path)))


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied", "x"), OSError(36, "too long", "x")]
)
def test_what_the_system_refuses_to_read_is_named(monkeypatch, error):
    def refuse(cfg):
        raise error

    monkeypatch.setitem(SOURCES, "digits", refuse)
    with pytest.raises(DataError, match="x cannot be read: (denied|too long)"):
        load_data(tiny_config())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"DATA__NAME": "imagenet"}, "must be one of digits, mnist"),
        ({"DATA__NAME": "cifar10", "DATA__ROOT": "nowhere"}, "DATA.DOWNLOAD True fetches it"),
        ({"DATA__NAME": "mnist", "DATA__ROOT": "nowhere"}, "mnist is not whole in nowhere"),
        ({"DATA__NUM_TRAIN": 9999}, "digits_train has 1438 images"),
        ({"DATA__NUM_TRAIN": 3}, r"no image of .*; raise DATA\.NUM_TRAIN, which is 3"),
        ({"DATA__HOLDOUT": 0.998}, r"no image of .*; lower DATA\.HOLDOUT, which is 0\.998"),
        ({"DATA__HOLDOUT": 0.0001}, r"DATA\.HOLDOUT 0\.0001 of 1438 images is 0"),
    ],
)
def test_what_is_not_there_is_named(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(tiny_config(**settings))
    assert not list(tmp_path.iterdir())


def test_a_download_that_fails_is_not_told_to_download(tmp_path, monkeypatch):
    def refuse(root, train, download):
        raise OSError("the network is unreachable")

    monkeypatch.setitem(TORCHVISION, "cifar10", refuse)
    with pytest.raises(DataError, match="unreachable; fetching it failed: see to the network"):
        load_data(tiny_config(DATA__NAME="cifar10", DATA__DOWNLOAD=True))


def test_torchvision_refuses_cifar_with_a_wrong_checksum(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"wrong")
    with pytest.raises(DataError, match="cifar10 is not whole in .*corrupted"):
        load_data(tiny_config(DATA__NAME="cifar10", DATA__ROOT=str(tmp_path)))


@pytest.mark.parametrize("shared_data", ["mnist"], indirect=True)
def test_mnist_by_torchvision_is_mnist_packed(shared_data, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in shared_data.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    by_torchvision = load_data(tiny_config(DATA__NAME="mnist", DATA__ROOT=str(tmp_path)))
    packed = load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(shared_data)))
    assert torch.equal(by_torchvision.train.images, packed.train.images)
    assert torch.equal(by_torchvision.test.labels, packed.test.labels)
    assert by_torchvision.train.class_names[0] == "0 - zero"


@pytest.mark.parametrize("raw", [b"", b"\0\0\x08\x03", b"\0\0\x63\x03" + b"\xff" * 16])
def test_torchvision_s_own_errors_are_one_line(tmp_path, raw):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        for name in ("images-idx3", "labels-idx1"):
            (folder / f"{split}-{name}-ubyte").write_bytes(raw)
    with pytest.raises(DataError, match="mnist is not whole in"):
        load_data(tiny_config(DATA__NAME="mnist", DATA__ROOT=str(tmp_path)))


def test_idx_labels_alone_do_not_make_a_data_set(tmp_path):
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", torch.zeros(3).numpy())
    with pytest.raises(DataError, match="neither train-images-idx3-ubyte nor"):
        load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(tmp_path)))


def test_images_in_files_stay_there_and_others_are_read_as_ever(tmp_path):
    """Those in memory are known by their pixels, so that they are made smaller all the same."""
    root = write_folder(tmp_path / "shapes")
    of_files = ["DATA.NAME", "folder", "DATA.ROOT", str(root), "DATA.SIZE", "10"]
    cfg = load_config("", [*of_files, "DATA.SHRINK", "2"])
    found = load_files(cfg).train
    assert isinstance(found.images, FileImages) and found.images.shape[2:] == (10, 10)
    assert np.array_equal(found.samples.digests, load_data(cfg).train.samples.digests)
    assert (cfg.DATA.SHRINK, cfg.DATA.MEMORY_MB) == (2, 4096)
    with pytest.raises(DataError, match="DATA.TWINS makes images that are in no file"):
        load_files(load_config("", [*of_files, "DATA.TWINS", "0.5"]))
    digits = load_config("", ["DATA.SHRINK", "2", "DATA.TWINS", "0.5", "DATA.NUM_TRAIN", "60"])
    whole = load_data(digits).train
    assert np.array_equal(load_files(digits).train.samples.digests, whole.samples.digests)
