"""The adapter to OmniSelect-Benchmark, on a checkout that a test can hold."""

import json
import sys

import numpy as np
import pytest

from adapruner_det.methods import Recorder, select
from benchmarks.omniselect import evidence as module
from benchmarks.omniselect import run as adapter
from benchmarks.omniselect.evidence import PoolEvidence

#: Asks for methods by name, as the benchmark's task does, and says what it was given.
SCRIPT = """
import json, os
from pathlib import Path
import numpy as np
from mmdataselect.selectors.external_baselines import grand_expected

rng = np.random.default_rng(0)
labels = np.arange(60) % 3
x = rng.normal(size=(60, 6)) + 2 * np.eye(6)[labels]
rows = []
for name in os.environ["METHODS"].split(","):
    chosen = grand_expected(x, labels, 18, seed=7) if name == "grand" else list(range(18))
    rows.append({"method": name, "n": len(set(chosen)), "f1": sum(chosen) / 1e4, "clean%": 0.5})
seed = os.environ["SEED"]
setting = os.environ["MODEL"] + os.environ["PAIRED_RNG"]
tags = f"run_id={os.environ['RUN_ID']}-{setting}"
place = Path(__file__).parents[1] / "outputs" / "tep" / "tep21" / tags / f"seed_{seed}"
place.mkdir(parents=True)
(place / "results.json").write_text(json.dumps({"results": rows}))
"""


@pytest.fixture
def checkout(tmp_path):
    selectors = tmp_path / "src" / "mmdataselect" / "selectors"
    selectors.mkdir(parents=True)
    for folder in (selectors, selectors.parent):
        (folder / "__init__.py").touch()
    theirs = "def grand_expected(features, labels, k, *, seed=0):\n    return list(range(k))\n"
    (selectors / "external_baselines.py").write_text(theirs)
    (tmp_path / "scripts").mkdir()
    (tmp_path / adapter.TASK).write_text(SCRIPT)
    return tmp_path


def test_our_methods_take_the_place_of_theirs_and_keep_their_names(checkout, monkeypatch):
    out = checkout / "rows.jsonl"
    words = ["run.py", str(checkout), "--out", str(out), "--seeds", "0", "--theirs", "grand"]
    monkeypatch.setattr(sys, "argv", [*words, "--ours", "random", "every-kth"])
    adapter.main()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["by"], row["method"], row["seed"], row["n"]) for row in rows] == [
        ("theirs", "grand", 0, 18),
        ("ours", "random", 0, 18),
        ("ours", "every-kth", 0, 18),
    ]
    assert rows[0]["f1"] == sum(range(18)) / 1e4 and len({row["f1"] for row in rows}) == 3
    before = out.read_text()
    adapter.main()  # all is done
    assert out.read_text() == before


def test_the_evidence_serves_methods_of_every_kind(monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 40)
    monkeypatch.setattr(PoolEvidence, "epochs", 40)
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    vectors = rng.normal(size=(90, 6)) + 3 * np.eye(6)[labels]
    labels[:9] = (labels[:9] + 1) % 3
    evidence = PoolEvidence(vectors, labels, 1)
    for name in ("adapruner", "aum-clean", "forgetting", "glister", "semdedup", "cg-score", "tdds"):
        own = evidence.with_options({"WARMUP_EPOCHS": 1, "OBJECTIVE": "paper"})
        assert select(name, own, 0.3).num_kept == 27, name
    assert evidence.signal("loss").shape == (40, 90) and evidence.features().shape == (90, 64)
    np.testing.assert_array_equal(evidence.features("thumbnails"), vectors.astype(np.float32))
    assert (evidence.predictions().argmax(1) == labels)[9:].mean() > 0.9
    kept = np.arange(90) > 20
    value, _ = evidence.respond(kept, ~kept, 0)
    assert value == evidence.respond(kept, ~kept, 0)[0] and 30 < value < 80  # nine labels are wrong


class Deaf(Recorder):
    """Gives the first third of 30 samples no weight."""

    def weights(self, ids):
        return (ids >= 10).float()


def test_a_guide_weights_the_losses_and_what_is_not_kept_is_not_trained_on(monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 40)
    labels = np.repeat([0, 1, 2], 10)
    evidence = PoolEvidence(np.random.default_rng(0).normal(size=(30, 6)), labels, 1)
    guide = Deaf(30)
    evidence.train(guide)
    last = guide.signal("loss")[-1]
    assert last[:10].min() > last[10:].max()
    held = np.arange(30) % 3 == 0  # four, three and three of each class
    value, _ = evidence.respond((labels == 0) & ~held, held, 0)
    assert value == pytest.approx(40.0)


def test_the_table_pairs_seeds_with_the_benchmarks_random():
    def rows(by, method, values):
        known = {"by": by, "method": method, "n": 5, "clean%": 0.25}
        return [{**known, "seed": s, "f1": f1} for s, f1 in enumerate(values)]

    found = adapter.table(
        [
            *rows("theirs", "random", [0.2, 0.4]),
            *rows("ours", "random", [0.1, 0.6]),
            *rows("ours", "aum", [0.1]),
        ]
    )
    cells = [[w.strip() for w in line.split("|")[1:-1]] for line in found.splitlines()[2:]]
    assert cells == [
        ["random", "ours", "5", "35.00 ± 35.36", "+5.00 (-185.59 to +195.59)", "1 of 2", "25"],
        ["random", "theirs", "5", "30.00 ± 14.14", "", "", "25"],
        ["aum", "ours", "5", "10.00", "-10.00", "0 of 1", "25"],
    ]


def test_the_table_is_paired_with_the_benchmarks_own_random_and_the_best_stands_first():
    values = {("theirs", "random"): (0.30, 0.31, 0.32), ("ours", "random"): (0.2, 0.2),
              ("ours", "aum"): (0.33, 0.33, 0.39), ("theirs", "full"): (0.4,)}  # fmt: skip
    rows = [
        {"by": by, "method": method, "seed": seed, "n": 18, "f1": value, "clean%": 0.5 + seed / 5}
        for (by, method), own in values.items()
        for seed, value in enumerate(own)
    ]
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in adapter.table(rows).splitlines()[2:]]
    assert lines == [
        ["full", "theirs", "18", "40.00", "+10.00", "1 of 1", "50"],
        ["aum", "ours", "18", "35.00 ± 3.46", "+4.00 (-2.57 to +10.57)", "3 of 3", "70"],
        ["random", "theirs", "18", "31.00 ± 1.00", "", "", "70"],
        ["random", "ours", "18", "20.00 ± 0.00", "-10.50 (-16.85 to -4.15)", "0 of 2", "60"],
    ]
