import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapruner_det.selection import Selection, digest, fingerprint

TOOL = Path(__file__).parents[2] / "tools" / "cut.py"
KEYS = [f"toy/{i:02d}" for i in range(20)]


@pytest.fixture
def run_file(tmp_path):
    digests = np.array([digest(key) for key in KEYS], dtype=np.uint64)
    logit = np.random.default_rng(0).normal(size=20).astype(np.float32)
    columns = {"key": np.array(KEYS), "digest": digests, "kept": np.zeros(20, dtype=bool)}
    columns |= {"logit": logit, "mean_loss": np.ones(20, dtype=np.float32)}
    run = Selection("adapruner", 0.8, 0, {"toy": fingerprint(KEYS, digests)}, columns)
    run = run.cut(0.8)
    return Selection(**{**vars(run), "cut_from": None}).save(tmp_path / "run.json")


def cut(*arguments):
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_nested_files_that_say_what_they_are_from(run_file, tmp_path):
    ratios = (0.95, 0.9, 0.8, 0.7)
    done = cut("--selection", run_file, "--keep-ratio", *ratios, "--output-dir", tmp_path / "cuts")
    assert done.returncode == 0, done.stderr
    cuts = [Selection.load(tmp_path / "cuts" / f"run-keep{100 * r:g}.json") for r in ratios]
    assert [c.num_kept for c in cuts] == [19, 18, 16, 14]
    assert {c.cut_from for c in cuts} == {0.8}
    for larger, smaller in zip(cuts, cuts[1:], strict=False):
        assert smaller.kept_keys < larger.kept_keys
    assert cuts[2].kept_keys == Selection.load(run_file).kept_keys
    assert "14 of 20 kept, cut from a run made for keep ratio 0.8" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selection", "none.json", "--keep-ratio", "0.5"], "there is no selection at none.json"),
        (["--selection", "RUN", "--keep-ratio", "0.5", "1.5"], "the keep ratio is 1.5"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(run_file, tmp_path, arguments, message):
    arguments = [run_file if a == "RUN" else a for a in arguments]
    done = cut(*arguments, "--output-dir", tmp_path / "cuts")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "cuts").exists()
