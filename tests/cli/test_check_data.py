"""tools/check_data.py: all faults with their files, and nothing read twice."""

import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det import images
from tests.detection.coco_writer import annotation, content, write_coco
from tests.detection.toy import (
    CLASSES,
    process_restored,
    register,
    squares,
    write_voc_folder,
)
from tests.tools.running import assert_one_error_line, run_here


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=6, test=3)


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    """Run the tool on data sets with a cache of their own: (exit code, output, error output)."""
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        code = run_here(monkeypatch, "check_data.py", *map(str, arguments))
        return code, *capsys.readouterr()

    return run


def voc_arguments(voc):
    folders = [f"own_{split}={voc}:{split}" for split in ("train", "test")]
    return [
        "ADAPRUNER.VOC_FOLDERS", folders,
        "DATASETS.TRAIN", ("own_train",), "DATASETS.TEST", ("own_test",),
    ]  # fmt: skip


def coco_arguments(file, images_):
    return [
        "ADAPRUNER.COCO_SETS", [f"pets={file}:{images_}"],
        "DATASETS.TRAIN", ("pets",), "DATASETS.TEST", (),
    ]  # fmt: skip


def test_sound_data_are_said_to_be_so(voc, check):
    code, out, err = check(*voc_arguments(voc))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "own_train: 6 image(s) with 6 box(es) are fit, 0 faulty",
        "own_test: 3 image(s) with 3 box(es) are fit, 0 faulty",
    ]


def test_all_faults_are_listed_with_their_files(voc, check, tmp_path):
    (voc / "JPEGImages" / "im1.png").write_bytes(b"")
    (voc / "JPEGImages" / "im2.png").unlink()
    os.mkfifo(voc / "JPEGImages" / "im2.png")
    (voc / "Annotations" / "im4.xml").write_text("<annotation>")
    (voc / "JPEGImages" / "im7.png").unlink()
    code, out, err = check(*voc_arguments(voc), "OUTPUT_DIR", tmp_path / "out")
    assert code == 2
    assert_one_error_line(err, "4 sample(s) are faulty; they are listed above")
    lines = out.splitlines()
    for part in ("im1.png", "im2.png", "im4.xml does not parse", "names 'im7', whose image is"):
        assert sum(part in line for line in lines) == 1
    assert "own_train: 3 image(s) with 3 box(es) are fit, 3 faulty" in lines
    assert "own_test: 2 image(s) with 2 box(es) are fit, 1 faulty" in lines
    assert not (tmp_path / "out").exists()


def test_a_second_run_reads_no_image(voc, check, monkeypatch):
    assert check(*voc_arguments(voc))[0] == 0
    read = []
    monkeypatch.setattr(images, "inspect", read.append)
    assert check(*voc_arguments(voc))[0] == 0
    assert read == []


def test_a_coco_file_is_looked_at_too(tmp_path, check):
    data = content()
    del data["annotations"][1]["bbox"]
    data["annotations"][2]["bbox"] = [70, 6, 20, 20]
    file, folder = write_coco(tmp_path, data)
    code, out, err = check(*coco_arguments(file, folder))
    assert code == 2
    assert "image 2" in out and "has no bbox in annotation 2" in out
    assert_one_error_line(err, "1 sample(s) are faulty")


@pytest.mark.parametrize("faulty", [False, True])
def test_boxes_are_looked_at_and_counted_as_a_run_takes_them(tmp_path, check, caplog, faulty):
    """Those without area are said and left out, whether an image is faulty or none is."""
    data = content()  # 4 images with a cat each, and a dog in the first and the third
    data["annotations"].append(annotation(500, 2, box=(9, 9, 0, 5)))
    file, folder = write_coco(tmp_path, data)
    if faulty:
        (folder / "004.png").write_bytes(b"")
    code, out, _ = check(*coco_arguments(file, folder))
    assert code == (2 if faulty else 0)
    counts = "3 image(s) with 5 box(es) are fit, 1" if faulty else "4 image(s) with 6 box(es) are"
    assert f"pets: {counts}" in out
    assert caplog.messages == [
        f"pets: 1 box(es) without area are left out, the first in {folder}/002.png"
    ]


def test_images_without_objects_are_said_of_a_training_set_alone(voc, check, caplog):
    for image in ("im3", "im4", "im7"):  # im7 is one of the test set, which is not filtered
        (voc / "Annotations" / f"{image}.xml").write_text("<annotation></annotation>")
    code, out, _ = check(*voc_arguments(voc))
    assert code == 0 and "own_train: 6 image(s) with 4 box(es) are fit, 0 faulty" in out
    said = [text for text in caplog.messages if "without objects" in text]
    assert said == [
        "own_train: 2 image(s) without objects are left out "
        f"(DATALOADER.FILTER_EMPTY_ANNOTATIONS), the first is {voc}/JPEGImages/im3.png"
    ]
    caplog.clear()
    assert check(*voc_arguments(voc), "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")[0] == 0
    assert "without objects" not in caplog.text


def test_faulty_boxes_are_warned_of_and_are_no_fault_of_their_sample(tmp_path, check, caplog):
    data = content()
    data["annotations"] += [
        annotation(500, 2, box=(70, 6, 20, 20)),
        annotation(501, 2, box=[9] * 4),
    ]
    data["categories"].append({"id": 20, "name": "Cat"})
    code, out, _ = check(*coco_arguments(*write_coco(tmp_path, data)))
    assert code == 0
    said = [record.getMessage() for record in caplog.records]
    assert any("pets: 1 box(es) wholly outside their image are left out" in line for line in said)
    assert any("the classes 'cat' and 'Cat' differ by case or spaces" in line for line in said)
    assert "pets: 4 image(s)" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "name no data set to look at"),
        (("DATASETS.TRAIN", ("nowhere",)), "no data set named 'nowhere'"),
        (("--config-file", "gone.yaml"), "no configuration file"),
        (("ADAPRUNER.COCO_SETS", "['a=b']"), "COCO_SETS has the entry 'a=b'"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(check, arguments, part):
    code, _, err = check(*arguments)
    assert code == 2
    assert_one_error_line(err, part)


def test_sets_whose_classes_differ_are_refused(voc, tmp_path, check):
    file, folder = write_coco(tmp_path / "coco")
    code, _, err = check(
        "ADAPRUNER.VOC_FOLDERS", [f"own_train={voc}:train"],
        "ADAPRUNER.COCO_SETS", [f"pets={file}:{folder}"],
        "DATASETS.TRAIN", ("own_train",), "DATASETS.TEST", ("pets",),
    )  # fmt: skip
    assert code == 2
    assert_one_error_line(err, "classes of 'own_train' and 'pets' differ")


def test_so_are_registered_sets_of_another_origin(tmp_path, check):
    dicts = squares(tmp_path, 2)
    with process_restored():
        register("toy", dicts)
        DatasetCatalog.register("turned", lambda: dicts)
        MetadataCatalog.get("turned").set(thing_classes=CLASSES[::-1])
        code, _, err = check("DATASETS.TRAIN", ("toy", "turned"), "DATASETS.TEST", ())
    assert code == 2
    assert_one_error_line(err, "classes of 'toy' and 'turned' differ")
