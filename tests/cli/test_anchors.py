import pytest
import yaml

from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.training.fit import fit_to_data, propose_anchors
from tests.detection.toy import process_restored, write_voc_folder
from tests.tools.running import assert_one_error_line, run_here, tool_arguments


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=12, test=2)


@pytest.mark.parametrize("detector", ["yolo_darknet", "faster_rcnn_fpn"])
def test_what_it_prints_is_a_yaml_that_sets_what_a_run_computes(
    voc, tmp_path, monkeypatch, capsys, detector
):
    arguments = tool_arguments(voc, tmp_path / "out", detector=detector)
    assert run_here(monkeypatch, "anchors.py", *arguments) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "pasted.yaml"
    file.write_text(printed)
    with process_restored():
        cfg = load_config("", [*arguments, "ADAPRUNER.AUTO_ANCHORS", "True"])
        dicts = SampleIndex.from_config(cfg).dicts
        before, found = cfg.clone(), propose_anchors(cfg, dicts)
        fit_to_data(cfg, dicts)
        before.merge_from_file(str(file))
        assert yaml.safe_load(before.dump()) == yaml.safe_load(cfg.dump())
        other = propose_anchors(cfg, dicts, 2)
    comments = [line for line in printed.splitlines() if line.startswith("#")]
    assert comments[0].startswith("# 12 boxes in 12 images;")
    assert f"{found.iou:.3f} with these, {found.iou_before:.3f} with" in comments[1]
    assert any(line.startswith(f"# {other.iou:.3f} with 2 ") for line in comments[2:])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["DATASETS.TRAIN", "()"], "no training image"),
        (["DATASETS.TRAIN", "('nobody',)"], "nobody"),
        (["MODEL.META_ARCHITECTURE", "SemanticSegmentor"], "AUTO_ANCHORS knows"),
    ],
)
def test_an_error_is_one_line_and_2(voc, tmp_path, monkeypatch, capsys, overrides, part):
    arguments = tool_arguments(voc, tmp_path / "out", *overrides)
    assert run_here(monkeypatch, "anchors.py", *arguments) == 2
    assert_one_error_line(capsys.readouterr().err, part)


def test_a_folder_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    arguments = tool_arguments(tmp_path / "nowhere", tmp_path / "out")
    assert run_here(monkeypatch, "anchors.py", *arguments) == 2
    assert_one_error_line(capsys.readouterr().err, "nowhere")
