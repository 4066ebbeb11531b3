"""Records of registered data sets, and the round trip: what is exported is what was selected."""

import json
import os
import unicodedata

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from pycocotools.coco import COCO
from pycocotools.mask import decode

from adapruner_det.detection.data.coco_set import register_coco_set
from adapruner_det.detection.data.records import kept_records
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.data.voc_folder import register_voc_folder
from adapruner_det.errors import DataError
from adapruner_det.export.formats import export
from adapruner_det.methods.random import random_selection
from tests.detection.coco_writer import annotation, content, write_coco
from tests.detection.toy import register, squares, toy_cfg, write_voc_folder
from tests.export.examples import assert_same_boxes, boxes_of, keys_of
from tests.export.owners import read


def select(*names, keep_ratio=0.5, **options):
    pairs = [word for pair in options.items() for word in pair]
    index = SampleIndex.from_config(toy_cfg("yolo_darknet", "x", "DATASETS.TRAIN", names, *pairs))
    return random_selection(index.samples, keep_ratio, 0)


def kept_dicts(name, selection):
    return {
        key: d
        for d in DatasetCatalog.get(name)
        if (key := f"{name}/{str(d['image_id']).replace('/', chr(92))}") in selection.kept_keys
    }


def rows_of(dicts, names):
    """Key → rows of class name and box, of Detectron2's dicts."""
    return {
        key: [
            [
                names[a["category_id"]],
                *BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS),
            ]
            for a in d["annotations"]
        ]
        for key, d in dicts.items()
    }


def assert_records_are_of(records, name, selection):
    names = MetadataCatalog.get(name).thing_classes
    dicts = kept_dicts(name, selection)
    assert_same_boxes(boxes_of(records), rows_of(dicts, names), 0)
    assert list(records.class_names) == list(names)
    for record in records.records:
        own = dicts[record.key]
        assert (record.path, record.width, record.height) == (
            own["file_name"],
            own["width"],
            own["height"],
        )
        assert record.difficult.tolist() == [bool(a.get("difficult")) for a in own["annotations"]]
        assert record.crowd.tolist() == [bool(a.get("iscrowd")) for a in own["annotations"]]


# --- VOC -----------------------------------------------------------------------------------------


def test_a_voc_folder(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=10, test=2)
    xml = root / "Annotations" / "im3.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1"))
    register_voc_folder("own", root, "train")
    selection = select("own", keep_ratio=0.8)
    records = kept_records(selection)
    assert len(records) == 8
    assert_records_are_of(records, "own", selection)
    for record in records.records:
        stem = record.key.partition("/")[2]
        assert record.name == f"{stem}.png"
        assert record.voc_file == str(root / "Annotations" / f"{stem}.xml")
        assert not record.coco_image and not record.ids
    assert any(r.difficult.any() for r in records.records)


def test_an_annotation_is_copied_whatever_the_case_of_its_suffix(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=2)
    xml = root / "Annotations" / "im0.xml"
    text = xml.read_text().replace("<object>", "<owner>me</owner><object>", 1)
    xml.with_suffix(".XML").write_text(text)
    xml.unlink()
    register_voc_folder("own", root, "train")
    selection = select("own", keep_ratio=1.0)
    out = export(selection, kept_records(selection), "voc", tmp_path / "out", images="copy")
    assert (out / "Annotations" / "im0.xml").read_text() == text


def test_ids_in_folders_and_letters_composed_in_two_ways(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=4)
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    for folder, end in (("JPEGImages", ".png"), ("Annotations", ".xml")):
        (root / folder / "deep").mkdir()
        for old, new in (("im0", "deep/im0"), ("im1", apart)):
            os.rename(root / folder / (old + end), root / folder / (new + end))
    (root / "ImageSets/Main/train.txt").write_text(f"deep/im0\n{composed}\nim2\nim3\n")
    register_voc_folder("own", root, "train")
    selection = select("own", keep_ratio=1.0)
    records = kept_records(selection)
    assert [r.name for r in records.records] == ["deep/im0.png", "im2.png", "im3.png", "é.png"]
    assert all(os.path.isfile(r.voc_file) for r in records.records)
    out = export(selection, records, "voc", tmp_path / "out")
    lines = (out / "ImageSets/Main/own_kept100.txt").read_text().split()
    assert sorted(lines) == sorted(["deep/im0", composed, "im2", "im3"])
    (root / "ImageSets/Main/kept.txt").write_text("\n".join(lines))
    register_voc_folder("again", root, "kept")
    assert len(DatasetCatalog.get("again")) == 4


def test_boxes_that_cannot_be_trained_on_are_counted(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=4)
    xml = root / "Annotations" / "im1.xml"
    flat = (
        "<object><name>blue</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>8</xmax>"
        "<ymax>20</ymax></bndbox></object></annotation>"
    )
    xml.write_text(xml.read_text().replace("</annotation>", flat))
    register_voc_folder("own", root, "train")
    records = kept_records(select("own", keep_ratio=1.0))
    assert [r.unusable for r in records.records] == [0, 1, 0, 0]
    assert [len(r.boxes) for r in records.records] == [1, 1, 1, 1]


def test_annotations_of_ones_own_reader_are_exported_and_not_those_of_the_folder(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=4)
    dicts = squares(root / "JPEGImages", 4, seed=7)  # other boxes than those of the XML
    place = {"dirname": str(root), "split": "train", "year": 2012}
    register("own", dicts, evaluator_type="pascal_voc", **place)
    selection = select("own", keep_ratio=1.0)
    records = kept_records(selection)
    assert [(r.name, r.voc_file) for r in records.records] == [(f"im{i}.png", "") for i in range(4)]
    out = export(selection, records, "voc", tmp_path / "out", images="copy")
    register_voc_folder("again", out, "own_kept100", records.class_names)
    again = {d["image_id"]: d for d in DatasetCatalog.get("again")}
    found, wanted = (
        rows_of({d["image_id"]: d for d in own}, records.class_names)
        for own in (again.values(), dicts)
    )
    assert_same_boxes(found, wanted, 0)


# --- COCO ----------------------------------------------------------------------------------------

RLE = {"size": [48, 64], "counts": [1000, 72, 2000]}


def coco_content():
    given = content(6)
    given["annotations"][0] |= {"segmentation": [[1, 1, 9, 1, 9, 9]], "area": 32.5, "mine": "x"}
    given["annotations"] += [
        annotation(900, 2, 17, (4, 4, 20, 30), iscrowd=1, segmentation=RLE),
        annotation(901, 3, 17, (4, 4, 0, 30)),  # without area: no training on it
        annotation(902, 4, keypoints=[5, 6, 2, 0, 0, 0], num_keypoints=1),
    ]
    given |= {"info": {"year": 2020}, "licenses": [{"id": 1, "name": "any"}]}
    given["images"][0] |= {"license": 1, "flickr_url": "http://x"}
    return given


def registers(name, file, root, ours):
    """Puts a COCO file into the catalogs, anew if it is there: an export has a process of its own,
    in which no check has left anything out yet."""

    def put():
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        if ours:
            register_coco_set(name, file, root)
        else:
            register_coco_instances(name, {}, str(file), str(root))
            DatasetCatalog.get(name)

    return put


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("images", ["none", "link"])
def test_an_export_never_takes_the_place_of_the_coco_file_that_it_is_of(tmp_path, ours, images):
    file, root = write_coco(tmp_path / "data", coco_content())
    register_coco_set("first", file, root)
    selection = select("first", keep_ratio=1.0)
    records = kept_records(selection)
    out = export(selection, records, "coco", tmp_path / "out", images="link")
    again = registers("own", out / "annotations.json", out / "images", ours)
    again()
    part = select("own", keep_ratio=0.5)
    again()
    with pytest.raises(DataError, match="annotations.json, which is exported, lies in"):
        export(part, kept_records(part), "coco", out, images=images, overwrite=True)
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == len(records)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("images", ["none", "copy"])
def test_a_coco_file_comes_out_as_it_went_in(tmp_path, ours, images):
    given = coco_content()
    given["images"] = given["images"][::-1]  # no order of files is the order of keys
    file, root = write_coco(tmp_path / "data", given)

    put = registers("own", file, root, ours)
    put()
    selection = select("own")
    put()
    records = kept_records(selection)
    assert len(records) == 3
    out = export(selection, records, "coco", tmp_path / "out", images=images)
    found = json.loads((out / "annotations.json").read_text())
    kept = {int(key.partition("/")[2]) for key in selection.kept_keys}
    wanted = [a for a in given["annotations"] if a["image_id"] in kept]
    assert {a["id"]: a for a in found["annotations"]} == {a["id"]: a for a in wanted}
    assert {i["id"]: i for i in found["images"]} == {
        i["id"]: i for i in given["images"] if i["id"] in kept
    }
    rest = ("info", "licenses", "categories")
    assert {name: found[name] for name in rest} == {name: given[name] for name in rest}
    coco = COCO(str(out / "annotations.json"))
    assert set(coco.getImgIds()) == kept
    if images == "copy":
        assert sorted(os.listdir(out / "images")) == [f"{i:03d}.png" for i in sorted(kept)]


def test_what_a_coco_file_says_of_its_objects(tmp_path):
    file, root = write_coco(tmp_path / "data", coco_content())
    register_coco_set("own", file, root)
    selection = select("own", keep_ratio=1.0)
    records = kept_records(selection)
    by_key = {r.key: r for r in records.records}
    assert by_key["own/1"].extras[0] == {
        "area": 32.5,
        "segmentation": [[1, 1, 9, 1, 9, 9]],
        "mine": "x",
    }
    assert by_key["own/2"].crowd.tolist() == [False, True]
    assert by_key["own/2"].ids == [2, 900] and by_key["own/3"].unusable == 1
    assert by_key["own/1"].name == "001.png"
    # of two files nothing can be taken over as it is, but what is said of an object stays
    file, root = write_coco(tmp_path / "other", coco_content())
    register_coco_set("zoo", file, root)
    selection = select("own", "zoo", keep_ratio=1.0)
    out = export(selection, kept_records(selection), "coco", tmp_path / "out", images="link")
    found = json.loads((out / "annotations.json").read_text())
    assert len(found["images"]) == 12 and len({a["id"] for a in found["annotations"]}) == 22
    key_of = {i["id"]: i["key"] for i in found["images"]}
    (first,) = (a for a in found["annotations"] if key_of[a["image_id"]] == "zoo/1" and "mine" in a)
    assert first["area"] == 32.5 and first["segmentation"] == [[1, 1, 9, 1, 9, 9]]
    crowds = [a for a in found["annotations"] if a["iscrowd"]]
    assert [a["segmentation"] for a in crowds] == [RLE, RLE]


def merged(dicts):
    for own in dicts:
        for a in own["annotations"]:
            a["category_id"] = 0


def moved(dicts):
    dicts[-1]["annotations"][0]["bbox"][2] -= 1


def text(dicts):
    for own in dicts:
        own["image_id"] = str(own["image_id"])


@pytest.mark.parametrize("change", [merged, moved, text])
def test_a_coco_file_that_says_otherwise_than_its_reader_is_not_taken(tmp_path, caplog, change):
    file, root = write_coco(tmp_path / "data", content(4))
    register_coco_set("own", file, root)
    dicts = DatasetCatalog.get("own")
    change(dicts)
    MetadataCatalog.get("zoo").set(
        thing_classes=["animal"] if change is merged else ["cat", "dog"],
        json_file=str(file), image_root=str(root), evaluator_type="coco",
    )  # fmt: skip
    DatasetCatalog.register("zoo", lambda: dicts)
    selection = select("zoo", keep_ratio=1.0)
    out = export(selection, kept_records(selection), "coco", tmp_path / "out")
    coco = COCO(str(out / "annotations.json"))
    found = {image["key"]: [] for image in coco.imgs.values()}
    for a in coco.anns.values():
        x, y, w, h = a["bbox"]
        name = coco.cats[a["category_id"]]["name"]
        found[coco.imgs[a["image_id"]]["key"]].append([name, x, y, x + w, y + h])
    names = MetadataCatalog.get("zoo").thing_classes
    assert_same_boxes(found, rows_of({f"zoo/{d['image_id']}": d for d in dicts}, names), 1e-9)
    assert "zoo: what is exported is what its reader gives, for" in caplog.text


# --- any other -----------------------------------------------------------------------------------


def test_a_data_set_of_dicts_with_masks_keypoints_and_rotated_boxes(tmp_path, caplog):
    dicts = squares(tmp_path, 4)
    dicts[0]["annotations"][0] |= {
        "segmentation": [np.array([1.0, 1, 9, 1, 9, 9])],
        "keypoints": [5.5, 6.5, 2, 0.5, 0.5, 0],
    }
    dicts[1]["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": b"PPP"}
    dicts[2]["annotations"][0] |= {"bbox": [30, 20, 20, 10, 90], "bbox_mode": BoxMode.XYWHA_ABS}
    dicts[3]["file_name"] = os.path.join(tmp_path, ".", "im3.png")
    register("toy", dicts)
    selection = select("toy", keep_ratio=1.0)
    rows = kept_records(selection).records
    assert rows[0].extras == [
        {
            "segmentation": [[1, 1, 9, 1, 9, 9]],
            "keypoints": [5, 6, 2, 0, 0, 0],
            "num_keypoints": 1,
        }
    ]
    assert rows[1].extras == [{"segmentation": {"size": [48, 64], "counts": "PPP"}}]
    assert np.allclose(rows[2].boxes, [[25, 10, 35, 30]])
    assert "toy: 1 rotated box(es) become the upright ones around them" in caplog.text
    assert [r.name for r in rows] == [f"im{i}.png" for i in range(4)]


def test_a_mask_that_is_an_array_is_exported_as_it_is(tmp_path):
    dicts = squares(tmp_path, 2)
    mask = np.zeros((dicts[0]["height"], dicts[0]["width"]), dtype=bool)
    mask[4:20, 6:11] = True
    dicts[0]["annotations"][0]["segmentation"] = mask
    register("toy", dicts)
    selection = select("toy", keep_ratio=1.0)
    out = export(selection, kept_records(selection), "coco", tmp_path / "out")
    (found,) = (a for a in COCO(str(out / "annotations.json")).anns.values() if "segmentation" in a)
    assert (decode(found["segmentation"]) == mask).all() and found["area"] == 80


def test_a_coco_file_whose_annotations_have_no_ids(tmp_path):
    file, root = write_coco(tmp_path / "data", given := content(2))
    register_coco_set("own", file, root)
    dicts = DatasetCatalog.get("own")
    for row in given["annotations"]:
        del row["id"]
    file.write_text(json.dumps(given))
    MetadataCatalog.get("zoo").set(thing_classes=["cat", "dog"], json_file=str(file))
    DatasetCatalog.register("zoo", lambda: dicts)
    first, _ = kept_records(select("zoo", keep_ratio=1.0)).records
    assert first.coco_annotations == [a for a in given["annotations"] if a["image_id"] == 1]


def test_names_are_below_the_folder_of_images_where_that_is_known(tmp_path):
    dicts = squares(tmp_path / "root" / "a", 2)
    dicts += squares(tmp_path / "elsewhere", 2, first=2)
    register("toy", dicts, image_root=str(tmp_path / "root"))
    rows = kept_records(select("toy", keep_ratio=1.0)).records
    assert [r.name for r in rows] == ["a/im0.png", "a/im1.png", "im2.png", "im3.png"]


def test_several_data_sets_are_read_in_the_order_of_their_keys(tmp_path):
    register("toy", squares(tmp_path / "toy", 6))
    register("more", squares(tmp_path / "more", 6, seed=1))
    selection = select("toy", "more", keep_ratio=0.75)
    records = kept_records(selection)
    assert [r.key for r in records.records] == sorted(selection.kept_keys)
    out = export(selection, records, "yolo", tmp_path / "out")
    assert len(os.listdir(out / "images")) == len(os.listdir(out / "labels")) == 9
    assert set(keys_of(out).values()) == selection.kept_keys


def test_changed_data_and_a_data_set_that_is_not_there_are_refused(tmp_path):
    dicts = squares(tmp_path / "toy", 6)
    register("toy", dicts)
    selection = select("toy")
    dicts[0]["annotations"][0]["bbox"][0] += 1
    with pytest.raises(DataError, match="made from other data"):
        kept_records(selection)
    DatasetCatalog.remove("toy")
    with pytest.raises(DataError, match="no data set named 'toy'"):
        kept_records(selection)


def test_what_the_run_left_out_is_left_out(tmp_path):
    root = write_voc_folder(tmp_path / "voc", train=6)
    (root / "Annotations" / "im2.xml").write_text("<no")
    register_voc_folder("own", root, "train", ["blue", "green"])
    selection = select("own", keep_ratio=1.0, **{"ADAPRUNER.ON_BAD_SAMPLE": "skip"})
    assert list(selection.excluded) == ["own/im2"]
    assert [r.key for r in kept_records(selection).records] == [
        f"own/im{i}" for i in (0, 1, 3, 4, 5)
    ]


# --- real data -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shared_data", ["bccd", "neu_det", "foda"], indirect=True)
def test_real_boxes_come_back_by_detectron2_and_pycocotools(shared_data, tmp_path):
    register_voc_folder("real", shared_data, "trainval")
    selection = select("real", keep_ratio=0.1)
    records = kept_records(selection)
    assert_records_are_of(records, "real", selection)
    wanted = boxes_of(records)

    out = export(selection, records, "voc", tmp_path / "voc", images="link")
    dicts = load_voc_instances(str(out), "real_kept10", records.class_names)
    found = {f"real/{d['image_id']}": d for d in dicts}
    assert all(os.path.isfile(d["file_name"]) for d in dicts)
    assert_same_boxes(rows_of(found, records.class_names), wanted, 1e-9)

    out = export(selection, records, "coco", tmp_path / "coco", images="link")
    coco = COCO(str(out / "annotations.json"))
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    found = {image["key"]: [] for image in coco.loadImgs(coco.getImgIds())}
    for a in coco.loadAnns(coco.getAnnIds()):
        x, y, w, h = a["bbox"]
        key = coco.imgs[a["image_id"]]["key"]
        found[key].append([names[a["category_id"]], x, y, x + w, y + h])
    assert_same_boxes(found, wanted, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["ultralytics", "supervision", "fiftyone"])
@pytest.mark.parametrize("shared_data", ["bccd", "neu_det", "foda"], indirect=True)
def test_real_boxes_come_back_by_the_owners_of_the_other_formats(shared_data, tmp_path, library):
    register_voc_folder("real", shared_data, "trainval")
    selection = select("real", keep_ratio=0.1)
    records = kept_records(selection)
    name, what = ("fiftyone", "detections") if library == "fiftyone" else ("yolo", "yolo")
    out = export(selection, records, name, tmp_path / "out", images="link")
    keys = keys_of(out)
    found = {keys[os.path.relpath(p, out)]: rows for p, rows in read(library, what, out).items()}
    wanted = boxes_of(records)
    if name == "yolo":  # which cuts boxes off at the edges of their image
        sizes = {r.key: [r.width, r.height] * 2 for r in records.records}
        wanted = {
            key: [[n, *np.clip(box, 0, sizes[key]).tolist()] for n, *box in rows]
            for key, rows in wanted.items()
        }
    # Of boxes that are alike, Ultralytics drops all but one.
    assert_same_boxes(found, wanted, copies=library != "ultralytics")
