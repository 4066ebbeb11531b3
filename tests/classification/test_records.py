import os

import numpy as np
import pytest
from PIL import Image

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.records import kept_records
from adapruner_det.errors import DataError
from adapruner_det.export.formats import export
from adapruner_det.methods.random import random_selection
from tests.classification.tiny import write_folder
from tests.export.examples import keys_of


def of(root, *more):
    return ["DATA.NAME", "folder", "DATA.ROOT", str(root), "DATA.SIZE", "10", *more]


def select(options, keep_ratio=0.5):
    return random_selection(load_data(load_config("", options)).train.samples, keep_ratio, 0)


def test_the_kept_images_of_a_folder_with_their_files(tmp_path):
    root = write_folder(tmp_path / "shapes")
    selection = select(of(root))
    records = kept_records(selection, "", of(root))
    assert [r.key for r in records.records] == sorted(selection.kept_keys)
    assert records.is_classification and list(records.class_names) == ["dark", "light", "red"]
    for record in records.records:
        assert record.path == os.path.join(root, "train", record.name)
        assert record.name.split("/")[0] == records.class_names[record.label]
        assert (record.width, record.height) == Image.open(record.path).size


def test_a_folder_of_the_kept_images_trains_as_the_selection_does(tmp_path):
    root = write_folder(tmp_path / "shapes")
    selection = select(of(root))
    out = export(
        selection, kept_records(selection, "", of(root)), "yolo", tmp_path / "out", images="copy"
    )
    os.symlink(root / "test", out / "test")
    kept = load_data(load_config("", of(root))).train.kept(selection)
    again = load_data(load_config("", of(out))).train
    key_of = {name.split("/")[-1]: key for name, key in keys_of(out).items()}
    places = [kept.keys.index(key_of[key.split("\\")[-1]]) for key in again.keys]
    assert len(again) == len(kept) and np.array_equal(again.labels, kept.labels[places])
    assert np.array_equal(again.images, kept.images[places])


def test_the_other_settings_of_the_data_hold(tmp_path, caplog):
    root = write_folder(tmp_path / "shapes")
    options = of(root, "DATA.HOLDOUT", "0.3", "DATA.WRONG_LABELS", "0.5", "DATA.SEED", "3")
    selection = select(options, 1.0)
    records = kept_records(selection, "", options)
    train = load_data(load_config("", options)).train
    assert [r.key for r in records.records] == list(train.keys)
    assert [r.label for r in records.records] == train.labels.tolist()
    wrong = load_data(load_config("", options)).wrong
    first = min(train.keys[i] for i in wrong.tolist())
    told = f"{len(wrong)} of {len(train)} images are exported with a wrong label"
    assert any(told in r.getMessage() and first in r.getMessage() for r in caplog.records)


def test_images_that_were_made_smaller_are_exported_as_their_files(tmp_path):
    root = write_folder(tmp_path / "shapes")
    options = of(root, "DATA.SHRINK", "2")
    selection = select(options)
    assert selection.digest_of == "bytes"
    records = kept_records(selection, "", options)
    assert [r.key for r in records.records] == sorted(selection.kept_keys)
    Image.new("RGB", (10, 10), "navy").save(records.records[0].path)
    with pytest.raises(DataError, match="made from other data: 1 of"):
        kept_records(selection, "", options)


def test_copies_that_were_planted_are_in_no_file(tmp_path):
    root = write_folder(tmp_path / "shapes")
    options = of(root, "DATA.TWINS", "0.5")
    selection = select(options)
    assert selection.digest_of == "pixels"
    with pytest.raises(DataError, match="DATA.TWINS makes images that are in no file"):
        kept_records(selection, "", options)
    with pytest.raises(DataError, match="made from other data"):  # not known by its names alone
        kept_records(selection, "", of(root))


def test_images_that_are_no_files_and_other_data_are_refused(tmp_path):
    root = write_folder(tmp_path / "shapes")
    with pytest.raises(DataError, match="--format csv"):
        kept_records(select(["DATA.NAME", "digits"]), "", ["DATA.NAME", "digits"])
    selection = select(of(root))
    Image.new("RGB", (10, 10)).save(root / "train" / "dark" / "000.png")
    with pytest.raises(DataError, match="made from other data"):
        kept_records(selection, "", of(root))
