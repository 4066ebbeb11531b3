"""The same samples in the same order give the same mask on 1, 2 and 4 processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapruner_det.core.mask import COLUMNS

SCRIPT = Path(__file__).with_name("processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where every rank has put its results."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(
        [sys.executable, SCRIPT, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def of_ranks(folder, prefix=""):
    """The result of every rank, by (number of processes, rank)."""
    ranks = [(w, r) for w in (1, 2, 4) for r in range(w)]
    return {(w, r): dict(np.load(folder / f"{prefix}{w}-{r}.npz")) for w, r in ranks}


@pytest.fixture(scope="module")
def results(folder):
    return of_ranks(folder)


def test_same_kept_set_and_same_state(results):
    alone = results[1, 0]
    assert 0 < np.count_nonzero(alone["cut"]) < len(alone["cut"])
    assert alone["numbers"][3] > 0, "some losses were NaN"
    for found in results.values():
        np.testing.assert_array_equal(found["cut"], alone["cut"])
        for name in (*COLUMNS, "typical", "numbers", "dual", "weights"):
            np.testing.assert_allclose(found[name], alone[name], rtol=0, atol=1e-6, err_msg=name)


def test_each_process_holds_only_its_own_rows(results):
    n = len(results[1, 0]["cut"])
    for (world, _), found in results.items():
        owned, total = found["owned"]
        assert total == n
        assert owned in (n // world, -(-n // world))


def test_what_each_process_tells_reaches_all_in_the_order_of_their_ranks(results):
    told = {1: [0], 2: [0, 1, 2], 4: [0, 1, 2, 2, 3, 4, 3, 4, 5, 6]}
    for (world, rank), found in results.items():
        expected = np.array([told[world], np.multiply(told[world], 10)])
        np.testing.assert_array_equal(found["told"], expected)
        first = rank * (rank + 1) // 2  # rank k tells k + 1 numbers
        np.testing.assert_array_equal(found["mine"], expected[:, first : first + rank + 1])
        ranks = world * (world - 1) // 2
        np.testing.assert_array_equal(found["summed"], [[ranks, world], [10 * ranks, 2 * world]])


def test_the_objective_that_draws_is_the_same_to_the_bit(folder):
    results = of_ranks(folder, "inclusion-")
    alone = results[1, 0]
    assert np.count_nonzero(alone["cut"]) == 81 and alone["flagged"].sum() == 12
    middle, mean_informed, gate_open = alone["known"]
    assert alone["spare"].sum() == 10 and middle > 0 and mean_informed > 0 and gate_open
    for found in results.values():
        assert found.keys() == alone.keys()
        for name, column in alone.items():
            np.testing.assert_array_equal(found[name], column, name)
