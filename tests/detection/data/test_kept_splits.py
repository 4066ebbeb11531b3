import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from adapruner_det import Selection, register_selection
from adapruner_det.detection.data.checks import checked_set
from adapruner_det.detection.data.kept_splits import (
    leave_out_excluded,
    register_kept,
    register_parts,
)
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from tests.detection.coco_writer import write_coco
from tests.detection.toy import register, squares, toy_cfg


@pytest.fixture
def two_sets(tmp_path):
    """``toy`` and ``more``, whose image ids are the same."""
    toy, more = (squares(tmp_path / name, 10, seed) for seed, name in enumerate(("toy", "more")))
    register("toy", toy, evaluator_type="coco", colour="red")
    register("more", more)
    return toy, more


def select(*names, keep_ratio=0.9, seed=0):
    index = SampleIndex.from_config(toy_cfg("yolo_darknet", "unused", "DATASETS.TRAIN", names))
    return random_selection(index.samples, keep_ratio, seed)


def read(name):
    return {d["image_id"] for d in DatasetCatalog.get(name)}


def test_a_selection_registers_the_kept_part_under_the_names_of_its_data_sets(two_sets, tmp_path):
    selection = select("toy", "more", keep_ratio=0.6)
    names = register_selection(selection.save(tmp_path / "selection.json"))
    assert names == ["toy@kept60", "more@kept60"]
    for base, name in zip(("toy", "more"), names, strict=True):
        kept = {k.rsplit("/", 1)[1] for k in selection.kept_keys if k.startswith(f"{base}/")}
        assert read(name) == kept
    assert len(read(names[0])) + len(read(names[1])) == 12
    assert all(d in two_sets[0] for d in DatasetCatalog.get("toy@kept60"))


def test_a_data_set_of_which_nothing_is_kept_is_left_out(two_sets, tmp_path):
    selection = select("toy", "more", keep_ratio=0.5)
    selection.columns["kept"][:] = [key.startswith("more/") for key in selection.columns["key"]]
    assert register_selection(selection.save(tmp_path / "selection.json")) == ["more@kept50"]
    parts = register_parts(selection)
    assert parts == {"toy": "toy@kept50", "more": "more@kept50"}
    assert read(parts["toy"]) == set() and len(read(parts["more"])) == 10


def test_the_kept_part_has_its_base_sets_metadata_and_leaves_it_alone(two_sets):
    register_kept(select("toy"))
    meta, base = MetadataCatalog.get("toy@kept90"), MetadataCatalog.get("toy")
    assert (meta.name, base.name) == ("toy@kept90", "toy")
    assert (meta.thing_classes, meta.evaluator_type) == (base.thing_classes, "coco")
    assert meta.colour == "red"


@pytest.mark.parametrize(
    ("ratio", "name"), [(0.9, "90"), (1.0, "100"), (0.29, "29"), (0.875, "87.5"), (0.005, "0.5")]
)
def test_the_name_says_the_keep_ratio_in_percent(two_sets, ratio, name):
    assert register_kept(select("toy", keep_ratio=ratio)) == [f"toy@kept{name}"]


def test_registering_again_puts_the_new_selection_in_place_of_the_old_one(two_sets):
    for seed in (0, 1):
        selection = select("toy", keep_ratio=0.5, seed=seed)
        (name,) = register_kept(selection)
        assert read(name) == {k.split("/")[1] for k in selection.kept_keys}


def test_other_data_is_refused_naming_the_first_three_keys_that_differ(two_sets):
    toy, _ = two_sets
    (name,) = register_kept(select("toy"))
    toy[7]["annotations"][0]["category_id"] ^= 1
    toy[5]["width"] += 1
    del toy[3]
    toy.append({**toy[0], "image_id": "im99"})
    with pytest.raises(DataError) as caught:
        DatasetCatalog.get(name)
    message = str(caught.value)
    assert "4 of 11 samples differ" in message
    assert "toy/im3 (missing here)" in message
    assert "toy/im5 (another image or annotated otherwise)" in message
    assert "toy/im7 (another image or annotated otherwise)" in message
    assert "im99" not in message


def test_an_image_added_to_the_data_is_other_data(two_sets):
    toy, _ = two_sets
    (name,) = register_kept(select("toy"))
    toy.append({**toy[0], "image_id": "im99"})
    with pytest.raises(DataError, match=r"1 of 11 .*toy/im99 \(not in the selection\)"):
        DatasetCatalog.get(name)


def test_data_moved_to_another_folder_is_the_same_data(two_sets):
    toy, _ = two_sets
    (name,) = register_kept(select("toy"))
    for sample in toy:
        moved = Path(sample["file_name"]).parent.with_name("moved") / Path(sample["file_name"]).name
        moved.parent.mkdir(exist_ok=True)
        sample["file_name"] = shutil.copy(sample["file_name"], moved)
    assert len(DatasetCatalog.get(name)) == 9


def test_another_picture_under_the_same_name_is_other_data(two_sets):
    toy, _ = two_sets
    (name,) = register_kept(select("toy"))
    shutil.copy(toy[3]["file_name"], toy[5]["file_name"])  # of the same size
    with pytest.raises(DataError, match=r"first toy/im5 \(another image"):
        DatasetCatalog.get(name)


def test_a_selection_of_0_1_is_known_by_the_names_of_its_files(two_sets):
    toy, _ = two_sets
    index = SampleIndex.from_dicts({"toy": toy})  # as no image was read
    (name,) = register_kept(random_selection(index.samples, 0.9, 0))
    assert index.samples.digest_of == ""
    assert len(DatasetCatalog.get(name)) == 9


def test_images_that_training_filters_out_do_not_make_the_data_other_data(two_sets):
    toy, _ = two_sets
    toy[2]["annotations"] = []
    toy[6]["annotations"][0]["iscrowd"] = 1
    (name,) = register_kept(select("toy", keep_ratio=1.0))
    assert read(name) == {f"im{i}" for i in range(10) if i not in (2, 6)}


def select_with_keypoints(toy, visible, least):
    """Of images with so many visible keypoints of three, where a training asks for ``least``."""
    for sample, count in zip(toy, visible, strict=True):
        flags = [2] * count + [0] * (3 - count)
        points = [v for flag in flags for v in (20.0, 20.0, flag)]
        sample["annotations"][0]["keypoints"] = points
    cfg = toy_cfg("faster_rcnn_fpn", "unused", "MODEL.KEYPOINT_ON", True)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = least
    return random_selection(SampleIndex.from_config(cfg).samples, 0.5, 0)


@pytest.mark.parametrize(("least", "left_out"), [(0, 0), (1, 2), (2, 4)])
def test_a_selection_for_keypoints_can_be_trained_on(two_sets, least, left_out):
    toy, _ = two_sets
    selection = select_with_keypoints(toy, [0, 3, 1, 3, 0, 2, 1, 2, 3, 3], least)
    assert selection.num_samples == 10 - left_out
    (name,) = register_kept(selection)
    assert read(name) == {key.split("/")[1] for key in selection.kept_keys}


def test_where_keypoints_are_asked_for_other_data_is_refused_all_the_same(two_sets):
    toy, _ = two_sets
    (name,) = register_kept(select_with_keypoints(toy, [0, 3, 1, 3, 0, 2, 1, 2, 3, 3], 1))
    toy.append({**toy[2], "image_id": "im99"})
    with pytest.raises(DataError, match=r"1 of 9 .*toy/im99 \(not in the selection\)"):
        DatasetCatalog.get(name)
    toy[-1] = {**toy[0], "image_id": "im99"}  # without a visible one it would not be trained on
    assert len(DatasetCatalog.get(name)) == 4
    del toy[2]
    with pytest.raises(DataError, match=r"1 of 8 .*toy/im2 \(missing here\)"):
        DatasetCatalog.get(name)


def test_a_selection_without_keypoints_asks_for_none(two_sets):
    toy, _ = two_sets
    toy[1]["annotations"][0]["keypoints"] = [20.0, 20.0, 2]
    (name,) = register_kept(select("toy"))
    toy.append({**toy[0], "image_id": "im99"})
    with pytest.raises(DataError, match=r"toy/im99 \(not in the selection\)"):
        DatasetCatalog.get(name)


def test_a_change_of_one_data_set_leaves_the_other_of_a_selection_usable(two_sets):
    _, more = two_sets
    register_kept(select("toy", "more"))
    more[0]["annotations"][0]["category_id"] ^= 1
    assert len(DatasetCatalog.get("toy@kept90")) > 0
    with pytest.raises(DataError, match="more/im0"):
        DatasetCatalog.get("more@kept90")


def test_a_base_set_that_is_not_registered_is_named_with_its_cure(two_sets, tmp_path):
    path = select("toy").save(tmp_path / "selection.json")
    DatasetCatalog.remove("toy")
    with pytest.raises(DataError, match="no data set named 'toy'.*ADAPRUNER.VOC_FOLDERS"):
        register_selection(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no selection at .*none.json"):
        register_selection(tmp_path / "none.json")


def test_a_selection_of_a_part_is_one_of_that_part(two_sets, tmp_path):
    """A pruned split is a data set like any other: it can be pruned again."""
    (first,) = register_kept(select("toy", keep_ratio=0.8))
    second = select(first, keep_ratio=0.5)
    assert second.num_samples == 8
    path = second.save(tmp_path / "again.json")
    (name,) = register_selection(path)
    assert name == "toy@kept80@kept50"
    assert read(name) < read(first)
    assert Selection.load(path).kept_keys == {f"{first}/{i}" for i in read(name)}


# Two selections of one data set


def test_two_selections_of_as_many_images_have_two_names(two_sets, tmp_path):
    first, second = (select("toy", keep_ratio=0.5, seed=seed) for seed in (0, 1))
    assert first.kept_keys != second.kept_keys
    (one,), (other,) = register_kept(first), register_kept(second)
    assert one == "toy@kept50" and other.startswith("toy@kept50-")
    for name, selection in ((one, first), (other, second)):
        assert {f"toy/{i}" for i in read(name)} == selection.kept_keys
        assert MetadataCatalog.get(name).thing_classes == ["blue", "green"]
    # The same once more is the same, from a file too.
    assert register_kept(first) == [one]
    assert register_selection(second.save(tmp_path / "second.json")) == [other]
    assert len({n for n in DatasetCatalog.list() if n.startswith("toy@")}) == 2


def test_the_same_images_of_other_data_have_a_name_of_their_own(two_sets):
    toy, _ = two_sets
    (one,) = register_kept(select("toy", keep_ratio=1.0))
    toy[0]["annotations"][0]["category_id"] ^= 1
    (other,) = register_kept(select("toy", keep_ratio=1.0))
    assert one != other
    assert len(DatasetCatalog.get(other)) == 10
    with pytest.raises(DataError, match="toy/im0 .another image or annotated otherwise"):
        DatasetCatalog.get(one)


# What a run left out


def excluding(selection, *ids):
    excluded = {f"toy/{i}": f"{i} is empty" for i in ids}
    return selection.__class__(**{**vars(selection), "excluded": excluded})


def test_what_a_run_left_out_stays_out_and_is_not_missed(tmp_path):
    dicts = squares(tmp_path, 6)
    register("whole", dicts)
    register("toy", dicts)
    index = SampleIndex.from_dicts({"toy": dicts[:4]})
    chosen = random_selection(index.samples, 1.0, 0)
    selection = excluding(chosen, "im4", "im5")
    (name,) = register_kept(selection)
    assert read(name) == {"im0", "im1", "im2", "im3"}
    (tmp_path / "im4.png").write_bytes(b"")
    with pytest.raises(DataError, match="im4.png"):
        checked_set("toy")
    leave_out_excluded(selection)
    assert len(checked_set("toy").dicts) == 4
    assert read(name) == {"im0", "im1", "im2", "im3"}
    (tmp_path / "im1.png").write_bytes(b"")  # one that it chose from
    with pytest.raises(DataError, match="im1.png"):
        checked_set("toy")


def test_nothing_left_out_changes_no_data_set(two_sets):
    before = DatasetCatalog["toy"]
    leave_out_excluded(select("toy"))
    assert DatasetCatalog["toy"] is before
    with pytest.raises(DataError, match="no data set named 'gone'"):
        leave_out_excluded(select("toy").with_dataset_name("gone"))


def test_a_selection_in_a_new_process_knows_a_coco_sets_classes(tmp_path):
    """Detectron2's own COCO sets tell them only once they have been read."""
    file, images = write_coco(tmp_path)
    register_coco_instances("pets", {}, str(file), str(images))
    selection = select("pets")
    DatasetCatalog.remove("pets")
    MetadataCatalog.remove("pets")
    register_coco_instances("pets", {}, str(file), str(images))
    assert MetadataCatalog.get("pets").get("thing_classes") is None
    (name,) = register_kept(selection)
    meta = MetadataCatalog.get(name)
    assert meta.thing_classes == ["cat", "dog"]
    assert meta.thing_dataset_id_to_contiguous_id == {3: 0, 17: 1}
    assert meta.get("json_file") is None and meta.evaluator_type == "coco"


def test_the_same_part_chosen_by_other_scores_is_the_same_part(two_sets):
    first = select("toy", keep_ratio=0.5)
    columns = {**first.columns, "score": first.columns["score"] * 2 + 1}
    second = first.__class__(**{**vars(first), "columns": columns, "method": "another"})
    assert register_kept(first) == register_kept(second) == ["toy@kept50"]
