"""What README.md shows is run as it stands there."""

import re

import pytest
import torch
import yaml

from adapruner_det import Selection
from tests.detection.toy import annotation, options_of, squares
from tests.tools.running import ROOT, run_apart

README = ROOT / "README.md"
MARK = "# +"


def block_after(text):
    """The first fenced python block behind ``text`` in README.md."""
    found = re.search(re.escape(text) + r".*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"README.md has no python block behind {text!r}"
    return found[1]


def without_marked_lines(script):
    return "".join(
        line for line in script.splitlines(keepends=True) if not line.rstrip().endswith(MARK)
    )


@pytest.fixture
def datasets(tmp_path):
    """A folder for DETECTRON2_DATASETS whose VOC2007 trainval has ten images of squares."""
    root = tmp_path / "datasets" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    dicts = squares(root / "JPEGImages", 10)
    for sample in dicts:
        text = annotation(sample).replace("blue", "cat").replace("green", "dog")
        (root / "Annotations" / f"{sample['image_id']}.xml").write_text(text)
        image = root / "JPEGImages" / f"{sample['image_id']}.png"
        image.rename(image.with_suffix(".jpg"))  # OpenCV and Pillow read by content
    names = "".join(f"{sample['image_id']}\n" for sample in dicts)
    (root / "ImageSets/Main/trainval.txt").write_text(names)
    return root.parent


@pytest.fixture
def config_file(tmp_path):
    """A configuration of Detectron2's keys alone."""
    options = [*options_of("faster_rcnn_c4", ""), "DATASETS.TRAIN", ["voc_2007_trainval"]]
    options += ["MODEL.ROI_HEADS.NUM_CLASSES", 20, "SOLVER.MAX_ITER", 8]
    tree = {}
    for name, value in zip(options[::2], options[1::2], strict=True):
        *path, last = name.split(".")
        if path == ["ADAPRUNER"]:
            continue
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def run_script(text, tmp_path, config_file, datasets, output, *options):
    file = tmp_path / f"{output.name}.py"
    file.write_text(text)
    pairs = ["OUTPUT_DIR", output, *options]
    found = run_apart(
        file, "--config-file", config_file, *pairs, DETECTRON2_DATASETS=datasets, cwd=tmp_path
    )
    assert found.returncode == 0, found.stderr
    return torch.load(output / "model_final.pth", weights_only=True)["model"]


def test_a_users_script_gains_pruning_by_at_most_five_lines():
    script = block_after("<!-- tested: user script -->")
    added = [line for line in script.splitlines() if line.rstrip().endswith(MARK)]
    assert 1 <= len(added) <= 5
    plain = without_marked_lines(script)
    assert "adapruner" not in plain.lower()
    compile(plain, "plain", "exec")


@pytest.mark.slow
def test_the_users_script_trains_without_those_lines_and_prunes_with_them(
    tmp_path, config_file, datasets
):
    script = block_after("<!-- tested: user script -->")
    plain, output = tmp_path / "plain", tmp_path / "output"
    before = run_script(without_marked_lines(script), tmp_path, config_file, datasets, plain)
    assert not (plain / "selection.json").exists()

    options = ("ADAPRUNER.KEEP_RATIO", 0.8, "ADAPRUNER.WARMUP_EPOCHS", 1)
    after = run_script(script, tmp_path, config_file, datasets, output, *options)
    selection = Selection.load(output / "selection.json")
    assert (selection.num_samples, selection.num_kept) == (10, 8)
    assert after.keys() == before.keys()

    prelude = "from detectron2.config import get_cfg\ncfg = get_cfg()\n"
    ending = (
        "from detectron2.data import DatasetCatalog\n"
        "(name,) = cfg.DATASETS.TRAIN\n"
        "print(name, *sorted(d['image_id'] for d in DatasetCatalog.get(name)))\n"
    )
    found = run_apart(
        "-c",
        prelude + block_after("To train on the result anywhere in Detectron2:") + ending,
        DETECTRON2_DATASETS=datasets,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    kept = sorted(key.split("/")[1] for key in selection.kept_keys)
    assert found.stdout.split() == ["voc_2007_trainval@kept80", *kept]
