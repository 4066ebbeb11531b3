"""Every cell of the notebooks in examples/, run in their order as Jupyter runs them."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from adapruner_det.report.table import selection_table
from adapruner_det.selection import Selection

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(cells):
    """The value that each cell ends with, None where it ends with a statement; and the names."""
    names, values = {"__name__": "__main__"}, []
    for number, source in enumerate(cells):
        tree = ast.parse(source, f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        values.append(
            eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            if last
            else None
        )
    return values, names


@pytest.fixture
def one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_selection_notebook_does_what_it_says(one_thread, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values, names = run(code_cells(EXAMPLES / "selection.ipynb"))
    shown = [value for value in values if isinstance(value, Selection)]
    assert [s.keep_ratio for s in shown] == [0.8, 0.5]
    assert "of 1,438 samples" in selection_table(shown[0])
    wrong, dropped = names["wrong"], names["dropped"]
    assert wrong.sum() == round(0.2 * 1438) and dropped.sum() == 1438 - round(0.8 * 1438)
    assert (wrong & dropped).sum() > 2 * wrong.mean() * dropped.sum()  # it finds what it is to find
    assert np.array_equal(names["same"].columns["kept"], shown[0].columns["kept"])
    assert len(names["rows"]) == 1438 and names["rows"][0].keys() >= {"key", "kept", "score"}
    printed = capsys.readouterr().out
    assert printed.count("% of the test set are right") == 2


def test_notebooks_are_kept_without_what_a_run_left_in_them():
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert notebook["nbformat"] == 4
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [] and cell["execution_count"] is None


def test_nbformat_takes_them():
    nbformat = pytest.importorskip(
        "nbformat", reason="nbformat, Jupyter's own reader, is not installed here"
    )
    for path in NOTEBOOKS:
        nbformat.validate(nbformat.read(path, as_version=4))
