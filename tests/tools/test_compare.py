import re

import pytest
import torch

from adapruner_det import Selection
from adapruner_det.detection import compare as module
from adapruner_det.detection.compare import Run, compare, table, verdict
from adapruner_det.detection.setup import load_config
from adapruner_det.files import locked
from tests.detection.toy import process_restored, write_voc_folder
from tests.tools.running import assert_one_error_line, run_here, tool_arguments

RUNS = [
    Run(part, seed, 10, 10.0 * seed + value, seconds)
    for seed in (0, 1, 2)
    for part, value, seconds in (
        ("prune", 9.0, 1.0), ("all", 40.0, 2.0), ("random", 20.0, 3.0), ("selected", 30.0, 4.0),
    )
]  # fmt: skip


@pytest.fixture
def arguments(tmp_path):
    """Of a small comparison, without options."""
    write_voc_folder(tmp_path / "voc", train=10, test=4)
    (tmp_path / "empty.yaml").write_text("VERSION: 2\n")
    words = tool_arguments(tmp_path / "voc", tmp_path / "out")

    def make(*options, opts=()):
        return ["--config-file", str(tmp_path / "empty.yaml"), *options, *words, *map(str, opts)]

    return make


@pytest.fixture
def stubbed(monkeypatch, tmp_path):
    """Comparisons that give RUNS at once; what they were asked for and where the logs went."""
    calls, logs = [], []

    def stub(*arguments):
        with pytest.raises(Exception, match="another run"), locked(tmp_path / "out"):
            pass
        calls.append(arguments)
        return RUNS, []

    monkeypatch.setattr(module, "compare", stub)
    monkeypatch.setattr(module, "log_to_file", logs.append)
    return calls, logs


@pytest.mark.parametrize(
    ("options", "seeds", "processes"),
    [
        ([], [0, 1, 2], 1),
        (["--num-seeds", "2", "--processes", "2"], [0, 1], 2),
        (["--num-seeds", "5"], [0, 1, 2, 3, 4], 1),
        (["--processes", "3"], [0, 1, 2], 3),
    ],
)
def test_it_compares_as_it_is_told_and_prints_what_came_of_it(
    arguments, stubbed, monkeypatch, capsys, tmp_path, options, seeds, processes
):
    words = arguments(*options, opts=("ADAPRUNER.KEEP_RATIO", 0.6))
    assert run_here(monkeypatch, "compare.py", *words) == 0
    calls, logs = stubbed
    ((cfg, *rest),) = calls
    assert rest == [seeds, processes]
    assert (cfg.ADAPRUNER.KEEP_RATIO, cfg.DATASETS.TRAIN) == (0.6, ("own_train",))
    assert cfg.OUTPUT_DIR == str(tmp_path / "out") and logs == [cfg.OUTPUT_DIR]
    out = capsys.readouterr().out
    assert out.endswith(f"{table(RUNS)}\n{verdict(RUNS)}\n")
    assert "random" in out and "beats random here: +10.00 AP50, ahead in 3 of 3" in out


@pytest.mark.parametrize(
    ("options", "opts", "part"),
    [
        (["--num-seeds", "0"], (), "--num-seeds and --processes must be 1 or more"),
        (["--processes", "0"], (), "--num-seeds and --processes must be 1 or more"),
        ([], ("ADAPRUNER.KEEP_RATIO", 1.5), "1.5"),
        ([], ("SOLVER.MAX_ITER", 4), "none is left to prune in"),
        ([], ("DATASETS.TEST", ("gone",)), "gone"),
    ],
)
def test_what_cannot_be_compared_is_one_line_before_anything_is_written(
    arguments, stubbed, monkeypatch, capsys, tmp_path, options, opts, part
):
    words = arguments(*options, opts=opts)
    assert run_here(monkeypatch, "compare.py", *words) == 2
    assert_one_error_line(capsys.readouterr().err, part)
    assert not stubbed[0] and not (tmp_path / "out").exists()


def test_a_folder_that_another_run_holds_is_one_line(
    arguments, stubbed, monkeypatch, capsys, tmp_path
):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        assert run_here(monkeypatch, "compare.py", *arguments()) == 2
    assert_one_error_line(capsys.readouterr().err, "another run")
    assert not stubbed[0]


@pytest.mark.slow
def test_side_by_side_it_makes_what_it_makes_here_one_after_the_other(
    arguments, monkeypatch, capsys, tmp_path
):
    short = ("SOLVER.MAX_ITER", 8)
    words = arguments("--num-seeds", "2", "--processes", "2", opts=short)
    with monkeypatch.context() as patch:  # which processes of their own do not know of
        patch.setattr(module, "_timed", _not_here)
        assert run_here(monkeypatch, "compare.py", *words) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert [lines[part][1] for part in ("all", "random", "selected")] == ["10", "7", "7"]
    assert re.search(r"Selection .* here: .* AP50, ahead in \d of 2 seeds\.\n$", out)

    with process_restored():
        cfg = load_config("", [*arguments(opts=short)[2:], "OUTPUT_DIR", str(tmp_path / "alone")])
        runs, selections = compare(cfg, [0, 1])
    assert len(runs) == 8
    for seed, selection in enumerate(selections):
        folder = tmp_path / "out" / f"seed{seed}"
        found = Selection.load(folder / "prune" / "selection.json")
        assert (found.seed, found.kept_keys) == (seed, selection.kept_keys)
        for part in ("prune", "all", "random", "selected"):
            mine, alone = (
                torch.load(path / part / "model_final.pth", weights_only=True)["model"]
                for path in (folder, tmp_path / "alone" / f"seed{seed}")
            )
            assert all(torch.equal(mine[name], alone[name]) for name in alone), (seed, part)


def _not_here(*arguments):
    raise AssertionError("this seed was to have a process of its own")
