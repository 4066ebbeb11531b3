"""Data sets that a configuration brings along: VOC folders and COCO's annotation files."""

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.detection.config import add_adapruner_config
from adapruner_det.detection.data.own_sets import register_from_config
from adapruner_det.errors import DataError
from tests.detection.coco_writer import content, write_coco
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


@pytest.mark.parametrize("twice", [("cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_a_class_that_is_listed_twice_is_refused(folder, twice):
    with pytest.raises(DataError, match="lists '(cat|café)' twice"):
        register_from_config(_config(f"pets={folder}:trainval", classes=twice))


def test_a_class_that_is_a_number_is_refused(folder):
    with pytest.raises(DataError, match="lists 0, which is no name; write '0' with quotes"):
        register_from_config(_config(f"pets={folder}:trainval", classes=["cat", 0]))


@pytest.mark.parametrize("entry", ["pets", "pets=mine", "=mine:test", "pets=:test", "pets=mine:"])
def test_an_entry_of_another_form_is_refused(entry):
    with pytest.raises(DataError, match=f"entry {entry!r}; write 'name=path:split'"):
        register_from_config(_config(entry))


# COCO's files


def _coco(*entries, **sets):
    cfg = _config(**sets)
    cfg.ADAPRUNER.COCO_SETS = list(entries)
    return cfg


def test_coco_sets_register_with_their_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_coco(tmp_path / "mine")
    cfg = _coco("my_train=mine/train.json:mine/images", train=("my_train",))
    for _ in range(2):
        register_from_config(cfg)
    assert MetadataCatalog.get("my_train").thing_classes == ["cat", "dog"]
    assert _class_counts(cfg) == [2, 2, 2]
    assert len(DatasetCatalog.get("my_train")) == 4
    register_from_config(_coco(f"all={tmp_path}/mine/train.json:{tmp_path}/mine/images"))
    assert len(DatasetCatalog.get("all")) == 4


def test_a_colon_in_a_path_parts_nothing_that_is_there(tmp_path):
    write_coco(tmp_path / "a:b")
    file, images = tmp_path / "a:b" / "train.json", tmp_path / "a:b" / "images"
    register_from_config(_coco(f"mine={file}:{images}"))
    images.rename(tmp_path / "images")
    register_from_config(_coco(f"other={file}:{tmp_path}/images"))
    with pytest.raises(DataError, match="no annotation file|no folder of images"):
        register_from_config(_coco(f"third={file}:{images}"))


@pytest.mark.parametrize(
    "entry", ["mine", "mine=a.json", "=a.json:b", "mine=:b", "mine=a.json:", 7]
)
def test_a_coco_entry_of_another_form_is_refused(entry):
    with pytest.raises(DataError, match="COCO_SETS has the entry .*write 'name=annotations.json:i"):
        register_from_config(_coco(entry))


@pytest.mark.parametrize("name", ["a/b", "a@kept90"])
def test_a_name_that_a_key_could_not_hold_is_refused(folder, name):
    with pytest.raises(DataError, match=f"names a data set '{name}'; leave / and @ out of it"):
        register_from_config(_config(f"{name}={folder}:trainval"))


def test_one_name_for_two_sets_is_refused(folder, tmp_path):
    file, images = write_coco(tmp_path / "coco")
    with pytest.raises(DataError, match="names two data sets 'pets'"):
        register_from_config(_config(f"pets={folder}:trainval", f"pets={folder}:test"))
    cfg = _coco(f"cats={file}:{images}")
    cfg.ADAPRUNER.VOC_FOLDERS = [f"cats={folder}:trainval"]
    with pytest.raises(DataError, match="names two data sets 'cats'"):
        register_from_config(cfg)


@pytest.mark.parametrize("key", ["VOC_FOLDERS", "COCO_SETS"])
def test_an_entry_without_a_list_around_it_is_refused_with_one_that_has(key):
    cfg = _config()
    cfg.ADAPRUNER[key] = "my_train=a:b"
    with pytest.raises(DataError, match=rf"ADAPRUNER.{key} is 'my_train=a:b'; it must be a list"):
        register_from_config(cfg)


def test_coco_sets_whose_classes_differ_are_refused(tmp_path):
    write_coco(tmp_path)
    other = content()
    other["categories"].reverse()
    for number, category in enumerate(other["categories"]):
        category["id"] = number
    for row in other["annotations"]:
        row["category_id"] = 1 if row["category_id"] == 3 else 0
    write_coco(tmp_path, other, "test.json")
    entries = [f"my_{s}={tmp_path}/{s}.json:{tmp_path}/images" for s in ("train", "test")]
    with pytest.raises(
        DataError, match=r"classes of 'my_train' and 'my_test' differ: \['cat', 'dog"
    ):
        register_from_config(_coco(*entries, train=("my_train",), test=("my_test",)))
