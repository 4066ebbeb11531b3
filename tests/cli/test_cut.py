import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapruner_det.cli import prune_cls
from adapruner_det.cli.classifying import DEFAULT_CONFIG as DIGITS
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import Selection

TOOL = Path(__file__).parents[2] / "tools" / "cut.py"
KEYS = [f"toy/{i:02d}" for i in range(20)]


@pytest.fixture
def run_file(tmp_path):
    digests = np.array([digest(key) for key in KEYS], dtype=np.uint64)
    logit = np.random.default_rng(0).normal(size=20).astype(np.float32)
    columns = {"key": np.array(KEYS), "digest": digests, "kept": np.zeros(20, dtype=bool)}
    columns |= {"score": -logit, "mean_loss": np.ones(20, dtype=np.float32)}
    worst = np.argsort(logit)[:3]  # the only images of a class
    columns["classes"] = np.where(np.isin(np.arange(20), worst), "0 1", "0")
    datasets = {"toy": fingerprint(KEYS, digests)}
    columns["kept"][np.argsort(-logit)[:16]] = True
    run = Selection("adapruner", 0.8, 0, datasets, columns, class_names=("cat", "seal"))
    return run.save(tmp_path / "run.json")


@pytest.fixture
def cut(monkeypatch, capsys):
    """Run the tool in this process, which is fast: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def test_nested_files_that_say_what_they_are_from(run_file, tmp_path):
    ratios = (0.95, 0.9, 0.8, 0.7)
    words = ["--selection", run_file, "--keep-ratio", *ratios, "--output-dir", tmp_path / "cuts"]
    command = [sys.executable, TOOL, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    cuts = [Selection.load(tmp_path / "cuts" / f"run-keep{100 * r:g}.json") for r in ratios]
    assert [c.num_kept for c in cuts] == [19, 18, 16, 14]
    assert [c.cut_from for c in cuts] == [0.8, 0.8, None, 0.8]
    for larger, smaller in zip(cuts, cuts[1:], strict=False):
        assert smaller.kept_keys < larger.kept_keys
    assert cuts[2].kept_keys == Selection.load(run_file).kept_keys
    assert "14 of 20 kept, cut from a run made for keep ratio 0.8" in done.stdout


def test_a_class_that_a_cut_loses_is_named(cut, run_file):
    run = Selection.load(run_file)
    assert run.cut(0.9).lost_classes() == [] and run.cut(0.8).lost_classes() == ["seal"]
    done = cut("--selection", run_file, "--keep-ratio", 0.9, 0.8)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: ") and "run-keep80.json" in line
    assert "no image of 1 class(es): seal;" in line


def test_a_list_of_suspects_goes_first_into_a_file_of_its_own(cut, run_file, tmp_path):
    run = Selection.load(run_file)
    best = run.columns["key"][np.argsort(run.columns["score"])[:2]].tolist()
    listed = tmp_path / "suspects.csv"
    listed.write_text("rank,key\n1," + "\n2,".join([*best, "other/1"]) + "\n")
    words = ("--selection", run_file, "--keep-ratio", 0.95, 0.5, "--suspects", listed)
    done = cut(*words)
    assert done.returncode == 0, done.stderr
    light, deep = (
        Selection.load(tmp_path / f"run-suspects-keep{percent}.json") for percent in (95, 50)
    )
    assert light.kept_keys == set(KEYS) - {best[0]} and deep.kept_keys.isdisjoint(best)
    assert "19 of 20 kept, cut from a run made for keep ratio 0.8; 1 of 2 suspects" in done.stdout
    done = cut(*words, "--drop", "hard")
    assert done.returncode == 0, done.stderr
    assert Selection.load(tmp_path / "run-hard-suspects-keep50.json").parameters["drop"] == "hard"
    assert cut(*words, "--drop", "auto", "--config-file", DIGITS).stderr.endswith(
        "--suspects has no effect on --drop auto: name an end, or leave --drop out\n"
    )


def test_another_end_goes_into_a_file_of_its_own(cut, run_file, tmp_path):
    run = Selection.load(run_file)
    columns = {**run.columns, "mean_loss": np.arange(20, dtype=np.float32)}
    Selection(**{**vars(run), "columns": columns}).save(run_file)
    for end, kept in (("easy", KEYS[10:]), ("hard", KEYS[:10])):
        done = cut("--selection", run_file, "--keep-ratio", 0.5, "--drop", end)
        assert done.returncode == 0, done.stderr
        found = Selection.load(tmp_path / f"run-{end}-keep50.json")
        assert found.kept_keys == set(kept) and set(found.columns["why"]) == {"", end}
    done = cut("--selection", run_file, "--keep-ratio", 0.5, "--drop", "twins")
    assert_refused(done, "nothing is known of twins")
    assert not (tmp_path / "run-twins-keep50.json").exists()


def test_an_end_of_which_there_is_nothing_says_what_goes_instead(cut, run_file):
    run = Selection.load(run_file)
    spare = np.arange(20) < 2
    lots = {"draw": np.linspace(0, 0.9, 20, dtype=np.float32)}
    for twins, dropped, warnings in ((spare, "drawn 3, twin 2", 0), (spare & False, "drawn 5", 1)):
        columns = {**run.columns, "classes": np.full(20, "0"), **lots, "spare": twins}
        Selection(**{**vars(run), "columns": columns}).save(run_file)
        done = cut("--selection", run_file, "--keep-ratio", 0.75, "--drop", "twins")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f" for keep ratio 0.8; dropped as {dropped}\n")
        assert done.stderr.count("keep75.json: no near-copies were found, so that") == warnings
        assert done.stderr.count("\n") == warnings
    done = cut("--selection", run_file, "--keep-ratio", 1, "--drop", "twins")
    assert (done.returncode, done.stderr) == (0, "") and "dropped as" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selection", "none.json", "--keep-ratio", "0.5"], "there is no selection at none.json"),
        (["--selection", "", "--keep-ratio", "0.5"], "not a regular file"),
        (["--selection", "RUN", "--keep-ratio", "0.5", "1.5"], "the keep ratio is 1.5"),
        (["--selection", "RUN", "--keep-ratio", "nan"], "the keep ratio is nan"),
        (["--selection", "RUN", "--keep-ratio", "0.5", "80%"], "the keep ratio is '80%'; it must"),
        (["--selection", "RUN", "--keep-ratio", "0,8"], "number in (0, 1]: 0.9 keeps nine images"),
        (["--selection", "RUN", "--keep-ratio", "0.5", "0.50000001"], "both be written to"),
        (["--selection", "RUN", "--keep-ratio", "0.5", "--config-file", "x.yaml"], "no effect"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(cut, run_file, tmp_path, arguments, message):
    arguments = [run_file if a == "RUN" else a for a in arguments]
    done = cut(*arguments, "--output-dir", tmp_path / "cuts")
    assert_refused(done, message)
    assert not (tmp_path / "cuts").exists()


def test_no_option_is_taken_for_one_that_begins_like_it(cut, run_file, tmp_path):
    file = tmp_path / "half.json"
    done = cut("--selection", run_file, "--keep-ratio", 0.5, "--output", file)
    assert done.returncode == 2 and "--output" in done.stderr and not file.exists()


def test_overrides_that_no_cut_reads_are_refused(cut, run_file):
    done = cut("--selection", run_file, "--keep-ratio", 0.5, "DROP", "easy")
    assert_refused(done, "DROP easy has no effect: a configuration, its overrides and weights are")
    assert not list(run_file.parent.glob("*keep50*"))


def assert_refused(done, message):
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_run_itself_is_not_overwritten(cut, run_file):
    """Under a name for which a link stands, a cut's place can be the run's own."""
    for suffix in (".json", ".npz"):
        own = run_file.with_suffix(suffix)
        own.rename(own.with_stem("link-keep50"))
        own.with_stem("link").symlink_to(own.with_stem("link-keep50"))
    link = run_file.with_stem("link")
    before = link.read_bytes()
    assert_refused(cut("--selection", link, "--keep-ratio", 0.5), "is the run that is cut")
    assert link.read_bytes() == before and Selection.load(link).num_kept == 16


def test_a_folder_that_cannot_be_written_to(cut, run_file):
    done = cut("--selection", run_file, "--keep-ratio", 0.5, "--output-dir", run_file)
    assert_refused(done, f"--output-dir '{run_file}' cannot be written to")


def test_which_end_goes_is_found_out_by_training_the_runs_model(cut, tmp_path):
    few = ["DATA.NUM_TRAIN", "120", "SOLVER.EPOCHS", "1", "SOLVER.BATCH_SIZE", "60"]
    folder = tmp_path / "run"
    options = ["ADAPRUNER.WARMUP_EPOCHS", "0", "OUTPUT_DIR", str(folder)]
    prune_cls.main([*few, *options])
    words = ["--selection", folder / "selection.json", "--keep-ratio", 0.5, "--drop", "auto"]
    done = cut(*words, "--config-file", DIGITS, *few)
    assert done.returncode == 0, done.stderr
    assert "keep ratio 0.5:" in done.stdout and "held-out accuracy" in done.stdout
    assert "20 trainings" in done.stdout or "25 trainings" in done.stdout
    found = Selection.load(folder / "selection-auto-keep50.json")
    assert found.num_kept == 60 and found.parameters["drop"] == "auto"
    assert len(found.parameters["auto_values"]["stratified draw"]) == 5


def test_training_needs_a_configuration(cut, run_file):
    done = cut("--selection", run_file, "--keep-ratio", 0.5, "--drop", "auto")
    assert done.returncode == 2 and "--drop auto trains the run's model" in done.stderr
