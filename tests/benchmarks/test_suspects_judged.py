"""What is judged of scores on planted faults, beside another program's, and the tables of it."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from adapruner_det.box_faults import LOCATED, OVERLOOKED, SWAPPED
from adapruner_det.errors import DataError
from adapruner_det.report.suspects import LOSS
from benchmarks import suspects as module
from benchmarks.planted_boxes import KINDS
from benchmarks.suspects import auroc, by_class, cleanlab_scores, flatness, tables

# --- scores of one kind ------------------------------------------------------------------------


def test_an_auroc_is_how_often_a_fault_is_ahead_of_a_clean_image():
    rng = np.random.default_rng(0)
    kinds = rng.choice([*KINDS, "clean"], 90)
    scores = rng.integers(0, 12, 90) + 2 * (kinds == "swapped")  # with equal ones
    ahead = scores[kinds == "swapped"][:, None] - scores[kinds == "clean"]
    expected = np.mean((ahead > 0) + 0.5 * (ahead == 0))
    assert auroc(scores, kinds, "swapped") == pytest.approx(expected) and expected > 0.6
    other = np.where(np.isin(kinds, ("missing", "shifted")), 99, scores)  # which do not count
    assert auroc(other, kinds, "swapped") == pytest.approx(expected)


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, 0.0), (0, 0.5)])
def test_the_aurocs_ends(sign, expected):
    kinds = np.repeat(["missing", "clean"], [3, 5])
    assert auroc(sign * np.arange(8, 0, -1), kinds, "missing") == expected


# --- how flat a training's loss was ------------------------------------------------------------


def write_losses(folder, *folds):
    for number, losses in enumerate(folds):
        own = folder / f"fold-{number}"
        own.mkdir()
        rows = [{"total_loss": loss, "iteration": i} for i, loss in enumerate(losses)]
        lines = [*rows[:1], {"eta_seconds": 3.0}, *rows[1:]]
        (own / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_loss_is_as_flat_as_its_last_tenth_beside_the_one_before(tmp_path):
    falls = [9.0] * 16 + [4.0, 4.0, 1.0, 3.0]  # (1 + 3) / (4 + 4)
    assert flatness(write_losses(tmp_path, falls, [7.0] * 20)) == pytest.approx((0.5 + 1.0) / 2)


def test_of_few_steps_the_last_two_are_compared(tmp_path):
    assert flatness(write_losses(tmp_path, [8.0, 4.0, 3.0])) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("folds", "words"),
    [([[3.0, 2.0], [1.0]], "fold-1/metrics.json has"), ([[]], "0 step"), ([], "no fold")],
)  # fmt: skip
def test_a_training_of_one_logged_loss_or_none_is_refused(tmp_path, folds, words):
    with pytest.raises(DataError, match=words):
        flatness(write_losses(tmp_path, *folds))


# --- the other program's scores ----------------------------------------------------------------


def test_predictions_are_parted_by_class():
    found = {"boxes": np.arange(12.0).reshape(3, 4), "scores": np.array([0.9, 0.8, 0.7]),
             "classes": np.array([2, 0, 2])}  # fmt: skip
    parts = by_class(found, 3)
    assert [part.shape for part in parts] == [(1, 5), (0, 5), (2, 5)]
    np.testing.assert_array_equal(parts[2], [[0, 1, 2, 3, 0.9], [8, 9, 10, 11, 0.7]])
    np.testing.assert_array_equal(parts[0], [[4, 5, 6, 7, 0.8]])


@pytest.fixture
def rank(monkeypatch):
    """In place of cleanlab.object_detection.rank: scores that say what they were asked for."""
    own = ModuleType("rank")
    own._get_valid_inputs_for_compute_scores = lambda alpha, labels, seen: (labels, seen)
    for place, name in enumerate(("overlooked", "swap", "badloc")):

        def compute(
            *,
            auxiliary_inputs,
            high_probability_threshold=None,
            low_probability_threshold=None,
            place=place,
        ):
            threshold = high_probability_threshold or low_probability_threshold or 0.0
            return [np.array([0.2, 10.0 * (place + 1) + threshold, 0.1])]

        setattr(own, f"compute_{name}_box_scores", compute)
    own.pool_box_scores_per_image = lambda scores: np.array([own.max() for own in scores])
    own.get_label_quality_scores = lambda labels, seen, verbose: np.array([0.25])
    package, parent = ModuleType("cleanlab.object_detection"), ModuleType("cleanlab")
    package.rank = own
    for name, one in (("", parent), (".object_detection", package)):
        monkeypatch.setitem(sys.modules, f"cleanlab{name}", one)


def test_its_scores_are_turned_round_and_have_the_thresholds_of_their_kind(rank):
    seen = {"boxes": np.zeros((1, 4)), "scores": np.ones(1), "classes": np.zeros(1)}
    label = SimpleNamespace(boxes=np.zeros((1, 4)), classes=np.zeros(1))
    annotated = SimpleNamespace(labels=[label], class_names=("a", "b"), keys=["k"])
    predictions = SimpleNamespace(of=lambda keys: SimpleNamespace(found=[seen] * len(keys)))
    found = cleanlab_scores(SimpleNamespace(annotated=annotated), predictions)
    assert {who: {k: float(v[0]) for k, v in own.items()} for who, own in found.items()} == {
        "cleanlab": {"missing": -10.0, "swapped": -20.0, "shifted": -30.0},
        "cleanlab, lower thresholds": {"missing": -10.1, "swapped": -20.1, "shifted": -30.02},
        "cleanlab, overall": dict.fromkeys(KINDS, -0.25),
    }


# --- one planted set, and all of them ----------------------------------------------------------


def test_each_kind_is_judged_by_its_own_score(tmp_path, monkeypatch):
    kinds = np.repeat([*KINDS, "clean"], [4, 4, 4, 28])
    keys = [f"set/{i:03d}" for i in range(len(kinds))]
    (tmp_path / "set-3/data").mkdir(parents=True)
    images = {key[4:]: {"kind": str(kind)} for key, kind in zip(keys, kinds, strict=True)}
    (tmp_path / "set-3/data/truth.json").write_text(json.dumps({"images": images}))
    rng = np.random.default_rng(0)
    noise = rng.random(len(kinds)) / 2
    names = {"missing": OVERLOOKED, "swapped": SWAPPED, "shifted": LOCATED}
    scores = {name: noise + (kinds == kind) for kind, name in names.items()}
    scores[LOSS] = noise + (kinds != "clean")
    overall = noise - (kinds != "clean")
    found = SimpleNamespace(scores=scores, overall=overall, found=0.75)
    samples = SimpleNamespace(class_names=("a",))
    monkeypatch.setattr(module, "configuration", lambda *_: None)
    monkeypatch.setattr(module, "all_images", lambda _: SimpleNamespace(keys=keys, samples=samples))
    monkeypatch.setattr(module, "labels_of", lambda _: [None] * len(keys))
    monkeypatch.setattr(module.Predictions, "load", lambda path: path)
    monkeypatch.setattr(module, "Annotated", lambda *_: None)
    monkeypatch.setattr(module, "find_suspects", lambda *_: found)
    theirs = {"cleanlab": {kind: -(kinds == kind).astype(float) for kind in KINDS}}
    monkeypatch.setattr(module, "cleanlab_scores", lambda *_: theirs)
    monkeypatch.setattr(module, "flatness", lambda folder: 0.9 if folder.name == "held_out" else 0)
    row = module.judge("set", 3, tmp_path)
    about = {key: row[key] for key in ("set", "seed", "images", "planted", "found", "flat")}
    planted = dict.fromkeys(KINDS, 4)
    assert about == {"set": "set", "seed": 3, "images": 40, "planted": planted, "found": 0.75,
                     "flat": 0.9}  # fmt: skip
    for kind in KINDS:
        expected = {"this": 1.0, "L / typical": 1.0, "this, overall": 0.0, "cleanlab": 0.0}
        assert {who: own[kind] for who, own in row["auroc"].items()} == expected
        fifths = {who: own[kind] for who, own in row["first_fifth"].items()}
        assert fifths["this"] == 5.0 and fifths["this, overall"] == fifths["cleanlab"] == 0.0


def judged(name, seed, this, theirs, lower):
    scores = {"this": this, "cleanlab": theirs, "cleanlab, lower thresholds": lower}
    values = {who: dict.fromkeys(KINDS, value) for who, value in scores.items()}
    fifths = {who: dict.fromkeys(KINDS, 5 * value) for who, value in scores.items()}
    about = {"images": 100, "planted": {"missing": 7, "swapped": 8, "shifted": 9}}
    return {"set": name, "seed": seed, **about, "found": 0.436, "flat": 1.0125, "auroc": values,
            "first_fifth": fifths}  # fmt: skip


def cells_of(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_the_lead_is_over_the_better_of_two_in_each_seed():
    rows = [judged("demo", 0, 0.9, 0.6, 0.7), judged("demo", 1, 0.8, 0.85, 0.5),
            judged("bccd", 0, 0.5, 0.25, 0.125)]  # fmt: skip
    scores, fifths, about = map(cells_of, tables(rows).split("\n\n"))
    assert [line[:2] for line in scores[2:]] == [[s, k] for s in ("demo", "bccd") for k in KINDS]
    ahead = "+0.200 -0.050"
    assert scores[2][2:] == ["0.850 ± 0.071", "0.725 ± 0.177", "0.600 ± 0.141", ahead]
    assert scores[5][2:] == ["0.500", "0.250", "0.125", "+0.250"]
    assert fifths[2][2:] == ["4.250 ± 0.354", "3.625 ± 0.884", "3.000 ± 0.707"]
    assert fifths[0] == ["set", "fault", "this", "cleanlab", "cleanlab, lower thresholds"]
    assert about[2] == ["demo", "0", "100", "7", "8", "9", "44%", "1.012"]


def test_what_is_judged_again_takes_the_place_of_what_was(tmp_path, monkeypatch, capsys):
    place = tmp_path / "suspects.jsonl"
    before = [judged("demo", 1, 0.1, 0.1, 0.1), judged("bccd", 0, 0.2, 0.2, 0.2)]
    place.write_text("".join(json.dumps(row) + "\n" for row in before))
    monkeypatch.setattr(module, "judge", lambda name, seed, out: judged(name, seed, 0.9, 0.5, 0.5))
    words = ["judge", "--data", "x", "--out", "y", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["suspects.py", *words, "--sets", "neu_det", "demo",
                                      "--seeds", "1", "0"])  # fmt: skip
    module.main()
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    cells = [("demo", 0), ("demo", 1), ("bccd", 0), ("neu_det", 0), ("neu_det", 1)]
    assert [(row["set"], row["seed"]) for row in rows] == cells
    assert [row["auroc"]["this"]["missing"] for row in rows] == [0.9, 0.9, 0.2, 0.9, 0.9]
    assert tables(rows) in capsys.readouterr().out
