import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.detection.data.samples import (
    SampleIndex,
    require_datasets,
    require_registered,
    require_same_classes,
)
from adapruner_det.errors import DataError
from tests.detection.toy import register, squares, toy_cfg

FAR = {"image_id": "z", "height": 20, "width": 30, "annotations": []}


@pytest.fixture
def two_sets(tmp_path):
    """``toy`` and ``more``, whose image ids are the same."""
    toy, more = (squares(tmp_path / name, 10, seed) for seed, name in enumerate(("toy", "more")))
    register("toy", toy, evaluator_type="coco", colour="red")
    register("more", more)
    return toy, more


# The index of samples


def test_indices_are_places_among_the_sorted_keys_whatever_the_order_of_reading(tmp_path):
    dicts = squares(tmp_path, 12)
    index = SampleIndex.from_dicts({"toy": dicts})
    backwards = SampleIndex.from_dicts({"toy": dicts[::-1]})
    assert index.keys == sorted(f"toy/im{i}" for i in range(12))
    assert index.keys.index("toy/im10") < index.keys.index("toy/im2")  # by key, not by number
    assert list(index.dicts) == list(backwards.dicts)
    assert np.array_equal(index.digests, backwards.digests)
    for place, (key, sample) in enumerate(zip(index.keys, index.dicts, strict=True)):
        assert sample["sample_index"] == place
        assert key == f"toy/{sample['image_id']}"


def test_the_index_is_built_after_detectron2s_filter(tmp_path):
    dicts = squares(tmp_path, 6)
    dicts[1]["annotations"] = []
    dicts[4]["annotations"][0]["iscrowd"] = 1
    register("toy", dicts)
    cfg = toy_cfg("yolo_darknet", "unused")
    index = SampleIndex.from_config(cfg)
    assert index.keys == ["toy/im0", "toy/im2", "toy/im3", "toy/im5"]
    assert [d["sample_index"] for d in index.dicts] == [0, 1, 2, 3]
    assert {d["image_id"] for d in index.dicts} == {
        d["image_id"] for d in get_detection_dataset_dicts(["toy"])
    }
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(SampleIndex.from_config(cfg)) == 6


def test_an_image_id_twice_is_refused_by_key(tmp_path):
    dicts = squares(tmp_path, 3)
    dicts[2]["image_id"] = "im0"
    with pytest.raises(DataError, match="toy/im0 is there twice"):
        SampleIndex.from_dicts({"toy": dicts})


def test_the_same_image_id_in_two_data_sets_is_two_samples(two_sets):
    toy, more = two_sets
    index = SampleIndex.from_dicts({"toy": toy, "more": more})
    assert len(index) == 20
    assert {"toy/im3", "more/im3"} < set(index.keys)
    assert index.dicts[index.keys.index("more/im3")]["file_name"] == more[3]["file_name"]


def test_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="have no training image"):
        SampleIndex.from_dicts({"toy": []})
    with pytest.raises(DataError, match=r"\(none\).*DATASETS.TRAIN"):
        SampleIndex.from_dicts({})
    empty = squares(tmp_path, 2)
    for sample in empty:
        sample["annotations"] = []
    register("empty", empty)
    with pytest.raises(DataError, match="the data sets empty have no training image"):
        SampleIndex.from_config(toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", ("empty",)))


def test_each_data_set_has_a_fingerprint_of_its_own(two_sets):
    toy, more = two_sets
    both = SampleIndex.from_dicts({"toy": toy, "more": more}).samples.datasets
    assert both["toy"] == SampleIndex.from_dicts({"toy": toy}).samples.datasets["toy"]
    more[0]["annotations"][0]["category_id"] ^= 1
    changed = SampleIndex.from_dicts({"toy": toy, "more": more}).samples.datasets
    assert changed["toy"] == both["toy"]
    assert changed["more"] != both["more"]


# What is asked for and not there


def test_near_names_are_suggested():
    with pytest.raises(DataError, match="near it are.*voc_2007_trainval"):
        require_registered("voc_2007_trainvall")
    with pytest.raises(DataError) as caught:
        require_registered("nothing_like_it")
    with pytest.raises(DataError, match="near it are voc_2007_trainval, "):
        require_registered("voc2007_trainval")
    assert "near it" not in str(caught.value)
    for part in ("VOC_FOLDERS \"['nothing_like_it=", "COCO_SETS \"['nothing_like_it="):
        assert part in str(caught.value)
    require_registered("voc_2007_trainval")


def test_a_folder_that_is_not_there_is_named_with_how_to_get_it(tmp_path):
    gone = str(tmp_path / "gone")
    MetadataCatalog.get(register("voc_toy", [])).set(dirname=gone)
    MetadataCatalog.get(register("lake", [])).set(image_root=gone)
    with pytest.raises(DataError) as caught:
        require_datasets(["voc_toy"])
    for part in (gone, "prepare_voc.py", "DETECTRON2_DATASETS", "`make demo` needs no data set"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="datasets/README.md"):
        require_datasets(["lake"])
    os.mkdir(gone)
    require_datasets(["voc_toy", "lake"])


# What both tasks know of them


def test_the_samples_say_what_the_index_holds(tmp_path):
    dicts = squares(tmp_path, 4)
    dicts[0]["annotations"].append({"bbox": [0, 0, 5, 5], "bbox_mode": 0, "category_id": 1})
    dicts[1]["annotations"][0]["iscrowd"] = 1
    dicts[2]["annotations"].append({**dicts[2]["annotations"][0], "iscrowd": 1})
    dicts[3]["annotations"] = []
    register("toy", dicts)
    cfg = toy_cfg("yolo_darknet", "unused", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False)
    index = SampleIndex.from_config(cfg)
    samples = index.samples
    first, third = (d["annotations"][0]["category_id"] for d in (dicts[0], dicts[2]))
    assert [list(own) for own in samples.classes] == [[first, 1], [], [third], []]
    assert samples.sizes.tolist() == [2, 0, 1, 0]
    assert samples.class_names == ("blue", "green")
    assert list(samples.keys) == index.keys
    assert samples.digests is index.digests
    assert samples.digest_of == "bytes"
    assert samples.datasets.keys() == {"toy"}
    assert index.samples is samples


def test_boxes_are_corners_in_pixels_in_the_order_of_the_classes(tmp_path):
    dicts = squares(tmp_path, 3)
    square = dicts[0]["annotations"][0]["bbox"]
    dicts[0]["annotations"] += [
        {"bbox": [5, 6, 7.5, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1},
        {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 1},
        {"bbox": [10, 20, 8, 4, 0], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
    ]
    dicts[1]["annotations"] = []
    samples = SampleIndex.from_dicts({"toy": dicts}).samples
    assert samples.boxes[0].tolist() == [square, [5, 6, 12.5, 14], [6, 18, 14, 22]]
    assert samples.boxes[1].shape == (0, 4)
    assert {own.dtype for own in samples.boxes} == {np.dtype(np.float32)}
    assert [len(own) for own in samples.boxes] == samples.sizes.tolist() == [3, 0, 1]


def test_the_samples_say_what_was_left_out(tmp_path):
    dicts = squares(tmp_path, 4)
    Path(dicts[2]["file_name"]).write_bytes(b"")
    register("toy", dicts)
    cfg = toy_cfg("yolo_darknet", "unused", "ADAPRUNER.ON_BAD_SAMPLE", "skip")
    samples = SampleIndex.from_config(cfg).samples
    assert samples.excluded.keys() == {"toy/im2"}
    assert "is empty" in samples.excluded["toy/im2"]
    assert len(samples) == 3


@pytest.mark.parametrize(
    ("mode", "suffix", "orientation"),
    [("RGB", "png", 0), ("RGB", "jpg", 6), ("RGB", "jpg", 5), ("L", "png", 0), ("P", "png", 0)],
)
def test_an_image_is_read_as_detectron2_reads_it_in_rgb(tmp_path, mode, suffix, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).convert(mode).save(path, exif=exif)
    index = SampleIndex.from_dicts({"toy": [*squares(tmp_path, 1), {**FAR, "file_name": path}]})
    image = index.samples.image(1)
    assert (image.dtype, image.shape) == (np.uint8, (30, 20, 3) if orientation else (20, 30, 3))
    np.testing.assert_array_equal(image, read_image(path, "BGR")[:, :, ::-1])
    if suffix == "png" and mode == "RGB":
        np.testing.assert_array_equal(image, pixels)


def test_an_image_that_has_gone_is_named(tmp_path):
    dicts = squares(tmp_path, 2)
    samples = SampleIndex.from_dicts({"toy": dicts}).samples
    Path(dicts[1]["file_name"]).unlink()
    assert samples.image(0).shape == (dicts[0]["height"], dicts[0]["width"], 3)
    with pytest.raises(DataError, match="im1.png is not there"):
        samples.image(1)


def test_all_sets_that_name_classes_name_the_same():
    named = {"one": ["cat", "dog"], "same": ("cat", "dog"), "other": ["dog", "cat"]}
    for name in ("silent", *named):
        DatasetCatalog.register(name, list)
    for name, classes in named.items():
        MetadataCatalog.get(name).set(thing_classes=classes)
    require_same_classes(["silent", "one", "same"])
    with pytest.raises(DataError, match=r"'one' and 'other' differ: \['cat', 'dog'\] and \['dog'"):
        require_same_classes(["silent", "one", "other"])
