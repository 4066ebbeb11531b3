"""The tool as a user calls it: from a selection to a page, and from decisions to a selection."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from adapruner_det import Selection
from adapruner_det.classification.config import load_config as classifier_config
from adapruner_det.cli.report import main
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import load_config
from adapruner_det.methods.random import random_selection
from adapruner_det.predictions import save_predictions
from adapruner_det.report.overrule import identity
from tests.classification.test_records import of, select
from tests.classification.tiny import write_folder
from tests.detection.coco_writer import write_coco
from tests.detection.toy import DETECTORS, process_restored, write_voc_folder
from tests.report.browser import Opened, running
from tests.tools.running import ROOT, assert_one_error_line, run_apart, run_here, tool_arguments


@pytest.fixture(autouse=True)
def alone():
    with process_restored():
        yield


def selected(pairs, place, keep_ratio=0.7):
    """The file of a selection from the training set that ``pairs`` name."""
    with process_restored():
        samples = SampleIndex.from_config(load_config("", pairs)).samples
    return random_selection(samples, keep_ratio, 0).save(place / "selection.json")


@pytest.fixture
def run(tmp_path):
    """(selection file, overrides) of a run on a VOC folder of ten images."""
    root = write_voc_folder(tmp_path / "data", train=10)
    pairs = ["ADAPRUNER.VOC_FOLDERS", f"['own={root}:train']"]
    pairs += ["DATASETS.TRAIN", "('own',)", "DATASETS.TEST", "()"]
    return selected(pairs, tmp_path), pairs


def call(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        call(*words)
    assert stop.value.code == 2
    return capsys.readouterr().err


def data_of(path):
    """What the page works with."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def decided(place, path, **more):
    """A file of decisions on the selection at ``path``."""
    own = Selection.load(path)
    text = {
        "adapruner_det_decisions": 1,
        "selection": identity(own),
        "num_kept": own.num_kept,
        "keep": [],
        "drop": [],
        **more,
    }
    place.write_text(json.dumps(text))
    return place


def test_a_page_of_a_voc_folder_lies_beside_its_selection(run, tmp_path, capsys):
    selection, pairs = run
    call("--selection", selection, *pairs)
    page = tmp_path / "report.html"
    assert f"{page}: " in capsys.readouterr().out
    data = data_of(page)
    assert data["n"] == 10 and all(src.startswith("data:image/webp") for src in data["src"])
    assert all(len(own) == 6 for own in data["boxes"]) and sum(data["kept0"]) == 7
    assert "--selection" in page.read_text()  # the command


def test_a_page_of_a_coco_file(tmp_path):
    annotations, images = write_coco(tmp_path / "coco")
    pairs = ["ADAPRUNER.COCO_SETS", f"['own={annotations}:{images}']", "DATASETS.TRAIN", "('own',)"]
    selection = selected(pairs, tmp_path)
    call("--selection", selection, "--output", tmp_path / "look.html", *pairs)
    data = data_of(tmp_path / "look.html")
    assert all(data["src"]) and any(data["boxes"]) and data["classNames"]


def test_a_page_of_a_classification_run(tmp_path):
    root = write_folder(tmp_path / "shapes")
    selection = select(of(root)).save(tmp_path / "selection.json")
    call("--selection", selection, *of(root))
    data = data_of(tmp_path / "report.html")
    assert all(data["src"]) and not any(data["boxes"])
    assert data["classNames"] == ["dark", "light", "red"] and data["size"][0] == [10, 10]
    (tmp_path / "config.yaml").write_text(classifier_config("", of(root)).dump())
    call("--selection", selection)
    assert data_of(tmp_path / "report.html")["src"] == data["src"]


def test_the_configuration_beside_the_selection_says_where_the_data_lie(run, tmp_path):
    selection, pairs = run
    with process_restored():
        (tmp_path / "config.yaml").write_text(load_config("", pairs).dump())
    call("--selection", selection)
    assert all(data_of(tmp_path / "report.html")["src"])


def test_without_the_data_there_is_a_page_without_images_and_a_warning(run, tmp_path, caplog):
    selection, _ = run
    call("--selection", selection)
    (record,) = caplog.records
    assert "no images" in record.getMessage() and "--config-file" in record.getMessage()
    assert not any(data_of(tmp_path / "report.html")["src"])


def test_the_data_of_the_run_s_configuration_may_be_elsewhere_too(run, tmp_path, caplog, capsys):
    selection, pairs = run
    with process_restored():
        (tmp_path / "config.yaml").write_text(load_config("", pairs).dump())
    (tmp_path / "data").rename(tmp_path / "moved")
    call("--selection", selection)
    assert "no images" in caplog.text and not any(data_of(tmp_path / "report.html")["src"])
    own = ("--selection", selection, "--config-file", tmp_path / "config.yaml")
    assert_one_error_line(refused(capsys, *own), f"there is no folder {tmp_path / 'data'}")


def test_data_that_are_named_and_others_are_refused(run, tmp_path, capsys):
    selection, pairs = run
    xml = next((tmp_path / "data" / "Annotations").glob("*.xml"))
    xml.write_text(xml.read_text().replace("<xmax>", "<xmax>1"))
    assert_one_error_line(refused(capsys, "--selection", selection, *pairs), "other data")
    assert not (tmp_path / "report.html").exists()


def test_predictions_come_from_a_file(run, tmp_path, capsys, caplog):
    selection, pairs = run
    keys = Selection.load(selection).columns["key"].tolist()
    row = {"boxes": np.array([[1, 2, 30, 40]]), "scores": np.array([0.5]), "classes": np.array([1])}
    file = save_predictions(tmp_path / "p.npz", keys, [row] * 10)
    call("--selection", selection, "--predictions", file, *pairs)
    assert data_of(tmp_path / "report.html")["predicted"][3] == [1, 2, 30, 40, 1, 0.5]
    words = ["--selection", selection, "--predictions", file, "--overwrite"]
    save_predictions(file, ["x/a", *keys[:9]], [row] * 10)
    call(*words, *pairs)
    assert "1 samples that the selection lacks, first x/a" in caplog.text
    save_predictions(file, ["x/a"], [row])
    assert_one_error_line(refused(capsys, *words, *pairs), "of other samples, first x/a")
    save_predictions(file, keys, [{**row, "classes": np.array([7])}] * 10)
    assert_one_error_line(refused(capsys, *words, *pairs), "the class 7; the selection's are 0 to")
    file.write_bytes(b"")
    assert_one_error_line(refused(capsys, *words, *pairs), "no .npz of predictions")
    assert_one_error_line(refused(capsys, *words, "--weights", tmp_path, *pairs), "either")


def test_a_trained_model_needs_no_weights_that_its_training_began_from(run, tmp_path, capsys):
    selection, pairs = run
    pairs = [*pairs[:-1], "('own',)", *DETECTORS["yolo_darknet"], "MODEL.WEIGHTS", "gone.pkl"]
    error = refused(capsys, "--selection", selection, "--weights", tmp_path, *pairs)
    assert_one_error_line(error, "there is no trained model at", "train there first")


def test_fewer_thumbnails_when_asked_for(run, tmp_path, capsys):
    selection, pairs = run
    call("--selection", selection, "--images", 4, *pairs)
    data = data_of(tmp_path / "report.html")
    assert sum(map(bool, data["src"])) == 4
    for word in ("-1", "ten", "1.5"):
        with pytest.raises(SystemExit):
            call("--selection", selection, f"--images={word}")
        said = f"--images: '{word}' is no whole number, 0 or more"
        assert said in capsys.readouterr().err


def test_decisions_become_a_selection(run, tmp_path, capsys):
    selection, _ = run
    own = Selection.load(selection)
    gone = sorted(set(own.columns["key"].tolist()) - own.kept_keys)[0]
    file = decided(tmp_path / "d.json", selection, keep=[gone])
    call("--apply", file, "--selection", selection, "--output", tmp_path / "mine.json")
    assert "8 of 10 samples kept; a person called 1 back" in capsys.readouterr().out
    assert Selection.load(tmp_path / "mine.json").kept_keys == own.kept_keys | {gone}


def test_classes_that_a_person_loses_are_a_warning(tmp_path, capsys):
    root = write_folder(tmp_path / "shapes")
    selection = select(of(root)).save(tmp_path / "selection.json")
    own = Selection.load(selection)
    lost = [k for k in own.kept_keys if "red" in k]
    file = decided(tmp_path / "d.json", selection, drop=lost)
    call("--apply", file, "--selection", selection, "--output", tmp_path / "mine.json")
    assert "warning: the selection keeps no image of 1 class(es): red" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--images", "0"), ("--weights", "w"), ("--overwrite",), ("SEED", "1")]
)
def test_what_a_say_has_no_use_for_is_refused(run, tmp_path, capsys, words):
    selection, _ = run
    own = ("--apply", tmp_path / "say.json", "--selection", selection, "--output", "o.json")
    assert_one_error_line(refused(capsys, *own, *words), f"{' '.join(words[:1])}", "no effect")


def test_what_cannot_be_applied_is_one_line(run, tmp_path, capsys):
    selection, _ = run
    file = decided(tmp_path / "d.json", selection, selection="0" * 64)
    words = ["--apply", file, "--selection", selection]
    assert_one_error_line(refused(capsys, *words), "--apply needs --output")
    assert_one_error_line(refused(capsys, *words, "--output", selection), "is overruled")
    assert_one_error_line(refused(capsys, *words, "--output", "x.html"), "something.json")
    assert_one_error_line(refused(capsys, *words, "--output", file), "is the file of decisions")
    words += ["--output", tmp_path / "mine.json"]
    assert_one_error_line(refused(capsys, *words), "another selection")
    assert not (tmp_path / "mine.json").exists()
    words[1] = tmp_path / "none.json"
    assert_one_error_line(refused(capsys, *words), "no decisions at")


def test_a_page_that_is_no_page_or_cannot_be_written_is_one_line(run, tmp_path, capsys):
    selection, pairs = run
    words = ["--selection", selection, "--output"]
    assert_one_error_line(refused(capsys, *words, tmp_path / "x.json", *pairs), "something.html")
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "x.html"
    assert_one_error_line(refused(capsys, *words, place, *pairs), "--output", "cannot be written")


def test_without_detectron2_a_classification_page_is_made_and_others_have_no_images(tmp_path):
    root = write_folder(tmp_path / "shapes")
    chosen = select(of(root))
    selection = chosen.save(tmp_path / "selection.json")
    other = chosen.with_dataset_name("voc_2007_train").save(tmp_path / "other.json")
    code = (
        "import sys\nsys.modules['detectron2'] = None\n"
        "from adapruner_det.cli.report import main\n"
        "main(sys.argv[3:])\nmain(['--selection', sys.argv[2], '--output', sys.argv[1]])"
    )
    words = (tmp_path / "b.html", other, "--selection", selection, *of(root))
    done = run_apart("-c", code, *words)
    assert done.returncode == 0, done.stderr
    assert all(data_of(tmp_path / "report.html")["src"])
    assert "Detectron2" in done.stderr and not any(data_of(tmp_path / "b.html")["src"])


@pytest.mark.slow
def test_from_a_page_over_a_persons_say_to_a_training_on_it(tmp_path, monkeypatch, capsys):
    voc = write_voc_folder(tmp_path / "voc", train=10, test=4)
    arguments = tool_arguments(voc, tmp_path / "out", "SOLVER.STEPS", "()", "SOLVER.MAX_ITER", 4)
    path = selected(arguments, tmp_path)
    call("--selection", path, *arguments)
    with running() as browser:
        opened = Opened(browser, tmp_path / "report.html")
        back = opened.keys()[0]
        opened.page.locator(".card .flip").first.click()
        opened.show(state="kept")
        away = opened.keys()[0]
        opened.page.locator(".card .flip").first.click()
        file = opened.save(tmp_path / "decisions.json")
        opened.close()
    mine = tmp_path / "mine.json"
    call("--apply", file, "--selection", path, "--output", mine)
    own = Selection.load(path)
    assert Selection.load(mine).kept_keys == own.kept_keys | {back} - {away}
    assert run_here(monkeypatch, "train_pruned.py", "--selection", str(mine), *arguments) == 0
    assert "on 7 of 10 images" in capsys.readouterr().out
    words = ["--selection", mine, "--weights", tmp_path / "out", "--output", tmp_path / "b.html"]
    with process_restored():
        call(*words, *arguments)
    data = data_of(tmp_path / "b.html")
    assert len(data["predicted"]) == 10 and "overruled" in data["columns"]
    assert Image.open(voc / "JPEGImages" / "im0.png").size == tuple(data["size"][0])


def test_the_file_in_tools_makes_it_too(run, tmp_path):
    selection, pairs = run
    done = run_apart(ROOT / "tools" / "report.py", "--selection", selection, *pairs)
    assert done.returncode == 0, done.stderr
    assert "tools/report.py --selection" in (tmp_path / "report.html").read_text()
