"""Data sets that a configuration brings along: VOC folders and COCO's annotation files."""

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.detection.config import add_adapruner_config
from adapruner_det.detection.own_sets import register_from_config
from adapruner_det.errors import DataError
from tests.detection.voc_writer import write_voc_folder

CAT, DOG = ("cat", (5, 6, 30, 40), 0), ("dog", (1, 1, 64, 48), 1)


@pytest.fixture
def folder(tmp_path):
    """Two splits of a folder: a and b in trainval, c in test."""
    splits = {"trainval": {"a": [CAT], "b": [CAT, DOG]}, "test": {"c": [DOG]}}
    return write_voc_folder(tmp_path / "mine", splits)


def _config(*entries, train=(), test=(), classes=()):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.ADAPRUNER.VOC_FOLDERS, cfg.ADAPRUNER.VOC_CLASSES = list(entries), list(classes)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    return cfg


def _class_counts(cfg):
    return [n.NUM_CLASSES for n in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET, cfg.MODEL.YOLO)]


PETS = ("pets_train=mine:trainval", "pets_test=mine:test")


def test_a_configuration_registers_beside_detectron2s_data_sets(folder, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder.parent))
    cfg = _config(*PETS, train=("pets_train",), test=("pets_test",))
    register_from_config(cfg)
    register_from_config(cfg)
    assert [d["image_id"] for d in DatasetCatalog.get("pets_test")] == ["c"]
    assert MetadataCatalog.get("pets_train").dirname == str(folder)
    assert _class_counts(cfg) == [2, 2, 2]


def test_the_place_without_the_variable_is_datasets(folder, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "moved")
    (folder.parent / "datasets").mkdir()
    (folder.parent / "moved").rename(folder.parent / "datasets" / "mine")
    register_from_config(_config(*PETS))
    # Whatever the working directory is when the data set is read.
    monkeypatch.chdir("/")
    assert len(DatasetCatalog.get("pets_train")) == 2


@pytest.mark.parametrize("form", ["{}", "~/mine", "$PLACE/mine"])
def test_paths_may_be_absolute_or_hold_variables(folder, monkeypatch, form):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("PLACE", str(folder.parent))
    register_from_config(_config(f"pets={form.format(folder)}:test"))
    assert MetadataCatalog.get("pets").dirname == str(folder)


def test_classes_of_the_configuration_come_first(folder):
    cfg = _config(f"pets={folder}:trainval", train=("pets",), classes=["ant", "cat", "dog"])
    register_from_config(cfg)
    assert MetadataCatalog.get("pets").thing_classes == ["ant", "cat", "dog"]
    assert _class_counts(cfg) == [3, 3, 3]


def test_the_number_of_classes_stays_where_another_set_is_trained_on(folder):
    cfg = _config(f"pets={folder}:trainval", train=("voc_2007_trainval",))
    before = _class_counts(cfg)
    register_from_config(cfg)
    assert _class_counts(cfg) == before


def test_a_test_folder_with_other_classes_is_refused(folder, tmp_path):
    """Its classes would be numbered otherwise than those that were learned."""
    other = write_voc_folder(tmp_path / "other", {"test": {"z": [DOG]}})
    entries = f"pets_train={folder}:trainval", f"dogs_test={other}:test"
    sets = {"train": ("pets_train",), "test": ("dogs_test",)}
    with pytest.raises(DataError, match=r"\['cat', 'dog'\] and \['dog'\].*ADAPRUNER.VOC_CLASSES"):
        register_from_config(_config(*entries, **sets))
    for name in ("pets_train", "dogs_test"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_from_config(_config(*entries, **sets, classes=["cat", "dog"]))
    assert DatasetCatalog.get("dogs_test")[0]["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize("entry", ["pets", "pets=mine", "=mine:test", "pets=:test", "pets=mine:"])
def test_an_entry_of_another_form_is_refused(entry):
    with pytest.raises(DataError, match=f"entry {entry!r}; write 'name=path:split'"):
        register_from_config(_config(entry))
