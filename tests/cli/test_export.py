"""The tool as a user calls it: from arguments to a folder, or to one line."""

import csv
import os

import pytest

from adapruner_det import Selection
from adapruner_det.cli.export import main
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.data.voc_folder import load_voc_folder
from adapruner_det.detection.setup import load_config
from adapruner_det.methods.random import random_selection
from tests.classification.test_records import of, select
from tests.classification.tiny import write_folder
from tests.detection.toy import CLASSES, process_restored, write_voc_folder
from tests.export.examples import keys_of
from tests.tools.running import ROOT, assert_one_error_line, run_apart


@pytest.fixture(autouse=True)
def alone():
    with process_restored():
        yield


@pytest.fixture
def run(tmp_path):
    """(selection file, overrides) of a run on a VOC folder of ten images."""
    root = write_voc_folder(tmp_path / "data", train=10)
    pairs = ["ADAPRUNER.VOC_FOLDERS", f"['own={root}:train']"]
    with process_restored():
        cfg = load_config("", [*pairs, "DATASETS.TRAIN", "('own',)", "DATASETS.TEST", "()"])
        samples = SampleIndex.from_config(cfg).samples
    file = random_selection(samples, 0.7, 0).save(tmp_path / "selection.json")
    return str(file), pairs


def call(selection, place, name, *more):
    main(["--selection", selection, "--format", name, "--output", str(place), *more])


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "list", "fiftyone"])
def test_a_detection_run_in_every_format(run, tmp_path, name, capsys):
    selection, pairs = run
    call(selection, tmp_path / "out", name, "--images", "copy", *pairs)
    assert set(keys_of(tmp_path / "out").values()) == Selection.load(selection).kept_keys
    assert f"{tmp_path / 'out'}: {name}, 7 of 10 samples kept" in capsys.readouterr().out


def test_the_run_s_own_configuration_lies_beside_the_selection(run, tmp_path, capsys):
    selection, pairs = run
    words = ("--selection", selection, "--format", "yolo", "--output", str(tmp_path / "out"))
    assert_one_error_line(refused(capsys, *words), "own")
    with process_restored():
        (tmp_path / "config.yaml").write_text(load_config("", pairs).dump())
    main(list(words))
    assert set(keys_of(tmp_path / "out").values()) == Selection.load(selection).kept_keys


def test_a_list_for_the_folder_that_it_came_from(run, tmp_path):
    selection, pairs = run
    call(selection, tmp_path / "out", "voc", *pairs)
    text = (tmp_path / "out/ImageSets/Main/own_kept70.txt").read_text()
    (tmp_path / "data/ImageSets/Main/own_kept70.txt").write_text(text)
    dicts = load_voc_folder(tmp_path / "data", "own_kept70", CLASSES)
    assert {f"own/{d['image_id']}" for d in dicts} == Selection.load(selection).kept_keys


def test_a_classification_run(tmp_path):
    root = write_folder(tmp_path / "shapes")
    selection = select(of(root)).save(tmp_path / "selection.json")
    call(str(selection), tmp_path / "out", "yolo", *of(root))
    assert set(keys_of(tmp_path / "out").values()) == Selection.load(selection).kept_keys
    (tmp_path / "cls.yaml").write_text(f"DATA:\n  NAME: folder\n  ROOT: {root}\n  SIZE: 10\n")
    config = ["--config-file", str(tmp_path / "cls.yaml")]
    call(str(selection), tmp_path / "again", "yolo", *config)
    assert keys_of(tmp_path / "again") == keys_of(tmp_path / "out")


def test_a_csv_needs_no_data(run, tmp_path):
    selection, _ = run
    done = run_apart(
        "-c",
        "import sys\nsys.modules['detectron2'] = None\nfrom adapruner_det.cli.export import main\n"
        "main(sys.argv[1:])",
        *("--selection", selection, "--format", "csv", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "selection.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and sum(row["kept"] == "True" for row in rows) == 7


def test_without_detectron2_it_says_so(run, tmp_path):
    selection, pairs = run
    done = run_apart(
        "-c",
        "import sys\nsys.modules['detectron2'] = None\nfrom adapruner_det.cli.export import main\n"
        "main(sys.argv[1:])",
        *("--selection", selection, "--format", "coco", "--output", tmp_path / "out", *pairs),
    )
    assert done.returncode == 2
    assert_one_error_line(done.stderr, "Detectron2", "not installed", "--format csv")


def test_what_stands_there_is_refused_or_moved_aside(run, tmp_path, capsys):
    selection, pairs = run
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    words = ["--selection", selection, "--format", "list", "--output", tmp_path / "out"]
    assert_one_error_line(refused(capsys, *words, *pairs), "--overwrite")
    call(selection, tmp_path / "out", "list", "--overwrite", *pairs)
    assert (tmp_path / "out-old-1" / "mine.txt").read_text() == "mine"
    assert len((tmp_path / "out" / "kept.txt").read_text().split()) == 7


def test_other_data_no_data_and_no_selection_are_one_line(run, tmp_path, capsys):
    selection, pairs = run
    out = tmp_path / "out"
    words = ["--selection", selection, "--format", "coco", "--output", out]
    assert_one_error_line(refused(capsys, *words), "no data set named 'own'")
    xml = next((tmp_path / "data" / "Annotations").glob("*.xml"))
    xml.write_text(xml.read_text().replace("<xmax>", "<xmax>1"))
    assert_one_error_line(refused(capsys, *words, *pairs), "made from other data")
    words[1] = tmp_path / "none.json"
    assert_one_error_line(refused(capsys, *words, *pairs), "no selection at")
    assert not out.exists()


def test_the_three_ways_to_call_it(run, tmp_path):
    selection, pairs = run
    words = ["--selection", selection, "--format", "list", *pairs]
    for number, start in enumerate(
        ([ROOT / "tools" / "export.py"], ["-m", "adapruner_det", "export"])
    ):
        place = tmp_path / f"out{number}"
        done = run_apart(*start, *words[:4], "--output", place, *words[4:])
        assert done.returncode == 0, done.stderr
        assert os.listdir(place)
