import json
import os

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from adapruner_det.errors import DataError
from adapruner_det.export.coco import write_coco
from adapruner_det.export.folder import new_folder
from adapruner_det.export.records import Records
from tests.export.examples import CLASSES, assert_same_boxes, boxes_of, keys_of, record, three
from tests.export.owners import read

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 40.0, 10.0, 40.0]


def export(place, records, images="none"):
    with new_folder(place, {}) as folder:
        write_coco(records, folder, images)
    return place


def content(out):
    return json.loads((out / "annotations.json").read_text())


def by_pycocotools(out):
    """The boxes, as pycocotools has them, by key."""
    coco = COCO(str(out / "annotations.json"))
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        rows = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        found[image["key"]] = [
            [names[r["category_id"]], x, y, x + w, y + h]
            for r in rows
            for x, y, w, h in [r["bbox"]]
        ]
    return found


@pytest.mark.parametrize("images", ["none", "link", "copy"])
def test_pycocotools_reads_the_same_boxes(tmp_path, images):
    records = three(tmp_path / "images")
    out = export(tmp_path / "out", records, images)
    assert_same_boxes(by_pycocotools(out), boxes_of(records), 1e-9)
    rows = content(out)["images"]
    assert [r["file_name"] for r in rows] == ["a.png", "deep/b.jpg", "c.png"]
    assert [(r["width"], r["height"]) for r in rows] == [(64, 48)] * 3
    if images != "none":
        assert all((out / "images" / r["file_name"]).is_file() for r in rows)
        assert set(keys_of(out).values()) == {"toy/a", "toy/b", "toy/c"}


def test_without_their_files_two_images_need_two_names(tmp_path):
    rows = [
        *(record(tmp_path / name, f"{name}/x", name="x.png") for name in ("one", "two")),
        record(tmp_path, "two/y", name="x.png", path=str(tmp_path / "two" / "x.png")),
    ]
    with pytest.raises(DataError, match=r"one/x and two/x both have the file name x.png"):
        export(tmp_path / "out", Records(rows, CLASSES))
    out = export(tmp_path / "out", Records(rows, CLASSES), "link")
    assert len({row["file_name"] for row in content(out)["images"]}) == 3
    out = export(tmp_path / "again", Records(rows[1:], CLASSES))  # one file, twice in the data set
    assert [row["file_name"] for row in content(out)["images"]] == ["x.png"] * 2


def test_ids_begin_at_one_which_pycocotools_needs_to_evaluate(tmp_path):
    records = three(tmp_path)
    out = export(tmp_path / "out", records)
    ids = [a["id"] for a in content(out)["annotations"]]
    assert ids == [1, 2, 3] and [i["id"] for i in content(out)["images"]] == [1, 2, 3]
    coco = COCO(str(out / "annotations.json"))
    found = coco.loadRes([{**a, "score": 1.0} for a in content(out)["annotations"]])
    evaluation = COCOeval(coco, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.slow
def test_supervision_reads_the_same_boxes(tmp_path):
    records = three(tmp_path / "images")
    out = export(tmp_path / "out", records, "copy")  # it takes no links to other folders
    keys = keys_of(out)
    found = read("supervision", "coco", out)
    found = {keys[os.path.relpath(path, os.path.realpath(out))]: r for path, r in found.items()}
    assert_same_boxes(found, boxes_of(records))


def test_crowds_and_difficult_ones_are_marked_and_unusable_ones_said(tmp_path, caplog):
    boxes = [(1, 1, 9, 9), (2, 2, 30, 30), (5, 5, 20, 20)]
    flags = [(0, 0), (1, 0), (0, 1)]
    row = record(tmp_path, "toy/a", boxes, [0, 1, 2], flags=flags, unusable=3)
    found = content(export(tmp_path / "out", Records([row], CLASSES)))["annotations"]
    assert [a["iscrowd"] for a in found] == [0, 1, 0]
    assert [a.get("difficult") for a in found] == [None, None, 1]
    assert [a["area"] for a in found] == [64, 784, 225]
    assert "coco: 3 box(es) with which nothing can be trained" in caplog.text


@pytest.mark.parametrize("kind", ["polygon", "compressed", "counts"])
def test_a_mask_is_kept_and_its_area_is_its_own(tmp_path, kind):
    mask = [SQUARE, [1.0, 1.0, 3.0, 1.0, 1.0, 3.0]]
    area = 20 * 30 + 2
    if kind != "polygon":
        pixels = np.zeros((48, 64), dtype=np.uint8, order="F")
        pixels[10:40, 10:30] = 1
        area = 600
        mask = coco_mask.encode(pixels)
        mask = {"size": [48, 64], "counts": mask["counts"].decode()}
    if kind == "counts":
        flat = pixels.flatten(order="F")
        runs = np.diff(np.flatnonzero(np.diff(flat, prepend=1 - flat[0], append=1 - flat[-1])))
        mask = {"size": [48, 64], "counts": runs.tolist()}
    row = record(tmp_path, "toy/a", [(10, 10, 35, 45)], [0], extras=[{"segmentation": mask}])
    (found,) = content(export(tmp_path / "out", Records([row], CLASSES)))["annotations"]
    assert found["segmentation"] == mask and found["area"] == pytest.approx(area)
    said = record(tmp_path, "toy/a", extras=[{"segmentation": mask, "area": 7.5, "mine": "x"}])
    (found,) = content(export(tmp_path / "out", Records([said], CLASSES)))["annotations"]
    assert found["area"] == 7.5 and found["mine"] == "x"


# --- of one COCO file ----------------------------------------------------------------------------

CATEGORIES = [
    {"id": 17, "name": "dog", "supercategory": "animal"},
    {"id": 3, "name": "cat", "supercategory": "animal"},
]
HEADER = {"info": {"year": 2020}, "licenses": [{"id": 4}], "categories": CATEGORIES, "mine": [1]}


def of_a_file(folder, file_name="a.png"):
    entry = {"id": 77, "file_name": file_name, "width": 64, "height": 48, "license": 4}
    rows = [
        {"id": 900, "image_id": 77, "category_id": 17, "bbox": [1, 2, 3, 4], "area": 0.5,
         "iscrowd": 0, "segmentation": [SQUARE]},
        {"id": 12, "image_id": 77, "category_id": 3, "bbox": [1, 2, 0, 4], "area": 0,
         "iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [3072]}, "mine": {"a": 1}},
    ]  # fmt: skip
    row = record(
        folder, "toy/77", [(1, 2, 4, 6)], [1], name=file_name, unusable=1, coco_image=entry,
        coco_annotations=rows, extras=[{"area": 0.5}],
    )  # fmt: skip
    return Records([row], ("cat", "dog"), HEADER), entry, rows


def test_a_coco_file_is_taken_over_as_it_stands_there(tmp_path, caplog):
    records, entry, rows = of_a_file(tmp_path / "images")
    found = content(export(tmp_path / "out", records))
    assert found == {**HEADER, "images": [entry], "annotations": rows}
    assert list(found)[:4] == list(HEADER)
    assert caplog.text == ""  # nothing is lost: unusable boxes are there too


def test_a_file_name_that_is_not_safe_is_another_where_images_are_placed(tmp_path):
    records, entry, rows = of_a_file(tmp_path / "images", "deep//a.png")
    found = content(export(tmp_path / "none", records))
    assert found["images"] == [entry]
    found = content(export(tmp_path / "out", records, "link"))
    assert (
        found["images"] == [{**entry, "file_name": "deep/a.png"}] and found["annotations"] == rows
    )
    assert (tmp_path / "out/images/deep/a.png").is_file()
    assert records.records[0].coco_image["file_name"] == "deep//a.png"  # the caller's own


def test_no_file_name_leads_out(tmp_path):
    records, entry, _ = of_a_file(tmp_path / "images" / "in", "../up.png")
    out = export(tmp_path / "out", records, "copy")
    assert content(out)["images"] == [{**entry, "file_name": "up.png"}]
    assert sorted(os.listdir(tmp_path)) == ["images", "out"]


def test_several_files_get_ids_of_their_own(tmp_path):
    one, *_ = of_a_file(tmp_path / "one")
    two, *_ = of_a_file(tmp_path / "two")
    from dataclasses import replace

    rows = [*one.records, *(replace(r, key=f"zoo/{r.key[4:]}") for r in two.records)]
    out = export(tmp_path / "out", Records(rows, ("cat", "dog")), "link")
    found = content(out)
    assert [i["id"] for i in found["images"]] == [1, 2]
    assert [i["file_name"] for i in found["images"]] == ["toy/a.png", "zoo/a.png"]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in found["annotations"]] == [
        (1, 1, 2),
        (2, 2, 2),
    ]
    assert [a["area"] for a in found["annotations"]] == [0.5, 0.5]
