"""The figure of embeddings: its arguments, its page, its file."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from adapruner_det.analysis.study import ALL, KEPT
from benchmarks import figure3
from benchmarks.figure3 import overrides, parse, report, with_a_palette


def test_the_command_line_has_the_last_word():
    args = parse(["--data", "d", "--seed", "4", "--", "SEED", "5", "DATA.NUM_TRAIN", "60"])
    words = overrides(args)
    found = dict(zip(words[::2], words[1::2], strict=True))
    expected = {"DATA.NAME": "packed", "DATA.ROOT": "d", "ADAPRUNER.KEEP_RATIO": "0.9"}
    assert found == {**expected, "SEED": "5", "DATA.NUM_TRAIN": "60"}
    assert overrides(parse([]))[:2] == ["ADAPRUNER.KEEP_RATIO", "0.9"]
    assert str(parse(["--name", "x"]).folder) == "output/figure3_x"


def test_the_page_says_which_training_is_which(monkeypatch):
    words = ["--name", "toy", "--seed", "3", "--seeds", "0", "2", "--", "DEVICE", "cpu"]
    monkeypatch.setattr(figure3, "table", lambda found, paper: f"the table of {len(paper)} parts")
    selection = SimpleNamespace(num_kept=54, num_samples=60)
    runs = {ALL: SimpleNamespace(value=98.75), KEPT: SimpleNamespace(value=97.5)}
    found = SimpleNamespace(labels=np.array([0, 2, 2, 1]))
    text = report(parse(words), words, selection, runs, found, 12.4)
    assert "    python benchmarks/figure3.py --name toy --seed 3" in text
    assert "54 of 60 images of 3 classes kept; resnet18, " in text and "seed 3;" in text
    assert "98.75% trained on all, 97.50% on the kept." in text
    assert "t-SNE seeds 0 2;" in text and "on a CPU; 12 s." in text
    assert text.endswith(f"\nthe table of {len(figure3.PAPER)} parts\n")


def test_a_picture_of_few_colours_is_the_same_one_in_fewer_bytes(tmp_path):
    shades = np.random.default_rng(0).integers(0, 256, (40, 4), dtype=np.uint8)
    shades[:, 3] = 255
    pixels = shades[np.random.default_rng(1).integers(0, 40, (90, 120))]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").stat().st_size
    with_a_palette(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as found:
        assert found.mode == "P"
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), pixels[..., :3])
    assert (tmp_path / "a.png").stat().st_size < before / 2
