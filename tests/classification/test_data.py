import gzip

import pytest
import torch

from adapruner_det.classification.data import load_data
from adapruner_det.errors import DataError
from tests.classification.tiny import tiny_config, write_idx, write_packed


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


def test_packed_data_are_read_by_their_folder(tmp_path):
    write_packed(tmp_path / "small")
    data = load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(tmp_path / "small")))
    assert (data.train.name, len(data.train), len(data.test)) == ("small_train", 36, 12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"DATA__NAME": "imagenet"}, "must be one of digits, mnist"),
        ({"DATA__NAME": "cifar10", "DATA__ROOT": "nowhere"}, "DATA.DOWNLOAD True fetches it"),
        ({"DATA__NAME": "mnist", "DATA__ROOT": "nowhere"}, "mnist is not whole in nowhere"),
        ({"DATA__NUM_TRAIN": 9999}, "digits_train has 1438 images"),
        ({"DATA__NUM_TRAIN": 3}, "no image of"),
    ],
)
def test_what_is_not_there_is_named(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(tiny_config(**settings))
    assert not list(tmp_path.iterdir())


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


def test_idx_labels_alone_do_not_make_a_data_set(tmp_path):
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", torch.zeros(3).numpy())
    with pytest.raises(DataError, match="neither train-images-idx3-ubyte nor"):
        load_data(tiny_config(DATA__NAME="packed", DATA__ROOT=str(tmp_path)))
