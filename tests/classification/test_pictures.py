import numpy as np

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.pictures import pictures_of
from tests.classification.test_records import of
from tests.classification.tiny import tiny_set, write_folder


def test_images_in_memory_are_shown_pixel_by_pixel():
    images = tiny_set(12)
    found = pictures_of(images)
    assert list(found) == list(images.keys)
    for row, key in enumerate(images.keys):
        own = found[key]
        assert own.label == int(images.labels[row]) and (own.width, own.height) == (8, 8)
        assert np.array_equal(np.asarray(own.read()), images.samples.image(row))


def test_images_in_files_are_shown_as_they_are(tmp_path):
    root = write_folder(tmp_path / "shapes", side=10)
    cfg = load_config("", of(root, "DATA.SIZE", "4", "DATA.MEMORY_MB", "0"))
    found = pictures_of(load_data(cfg).train)
    assert found and all(own.read().size == (10, 10) for own in found.values())
    assert all((own.width, own.height) == (10, 10) for own in found.values())
