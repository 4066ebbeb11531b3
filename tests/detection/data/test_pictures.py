import pytest

from adapruner_det.detection.data.pictures import pictures_of
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import load_config
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from tests.detection.toy import process_restored, write_voc_folder


@pytest.fixture
def selection(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=6)
    pairs = ["ADAPRUNER.VOC_FOLDERS", f"['own={root}:train']", "DATASETS.TRAIN", "('own',)"]
    with process_restored():
        index = SampleIndex.from_config(load_config("", [*pairs, "DATASETS.TEST", "()"]))
        yield random_selection(index.samples, 0.5, 0)


def test_all_samples_are_there_kept_or_not(selection):
    found = pictures_of(selection)
    assert list(found) == selection.columns["key"].tolist() and selection.num_kept == 3
    for own in found.values():
        assert own.read().size == (own.width, own.height) and len(own.boxes) == 1


def test_changed_data_are_refused(selection, tmp_path):
    xml = next((tmp_path / "voc" / "Annotations").glob("*.xml"))
    xml.write_text(xml.read_text().replace("<xmax>", "<xmax>1"))
    with pytest.raises(DataError, match="other data"):
        pictures_of(selection)
