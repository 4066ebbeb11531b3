import numpy as np
import pytest

from adapruner_det.core import (
    ENDS,
    REASONS,
    AdaPruner,
    Inclusion,
    Neighbours,
    Schedule,
    cut,
    end_reasons,
    end_score,
    reasons,
)
from adapruner_det.core.ends import end_missed
from adapruner_det.core.equations import pressure


def columns():
    """Ten samples: 0 is easiest, 7 hardest; 8 was never seen; 9 is a spare twin of 1."""
    confidence = np.array([0.99, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1, 0.0, 0.9])
    return {
        "mean_loss": -np.log(np.maximum(confidence, 0.01)).astype(np.float32),
        "typical_loss": np.array(0.5, dtype=np.float32),
        "times_seen": np.where(np.arange(10) == 8, 0, 20).astype(np.uint16),
        "confidence": confidence.astype(np.float32),
        "draw": np.array([0.9, 0.8, 0.1, 0.2, 0.7, 0.3, 0.6, 0.95, 0.99, 0.97], dtype=np.float32),
        "fault": np.array([0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.9, 0.6, 0.0, 0.1], dtype=np.float32),
        "flagged": np.arange(10) == 6,  # 7 is doubtful, which is less than the gate asks for
        "twin_group": np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 1]),
        "spare": np.arange(10) == 9,
    }


def kept_by(end, count, found):
    return cut(np.zeros(10), end_score(end, found), count)


@pytest.mark.parametrize(
    ("end", "first_three"),
    [
        ("easy", {8, 0, 9}),  # 1 and 9 are equally easy: the smaller index stays
        ("hard", {8, 7, 6}),
        ("both", {8, 0, 7}),
        ("faults", {8, 6, 7}),
        ("twins", {8, 9, 2}),
    ],
)
def test_what_goes_first(end, first_three):
    found = columns()
    kept = kept_by(end, 7, found)
    assert set(np.flatnonzero(~kept)) == first_three
    why = end_reasons(end, found, kept)
    assert np.all((why == "") == kept)
    assert set(why[~kept]) <= set(REASONS)


def test_why_they_went():
    found = columns()
    for end, index, reason in [
        ("easy", 0, "easy"),
        ("hard", 7, "hard"),
        ("both", 0, "easy"),
        ("both", 7, "hard"),
        ("faults", 6, "fault"),
        ("faults", 7, "hard"),
        ("twins", 9, "twin"),
        ("twins", 2, "drawn"),
    ]:
        assert end_reasons(end, found, kept_by(end, 5, found))[index] == reason, (end, index)


def test_from_a_run_that_knows_losses_alone():
    """Sizes give each sample its own typical loss; faults are looked for by the loss over it."""
    plain = {"mean_loss": np.array([4.0, 3.0, 0.1, 1.0]), "times_seen": np.ones(4)}
    plain["typical_loss"] = np.array([4.0, 1.0, 1.0, 1.0])
    relative = [1.0, 3.0, 0.1, 1.0]
    for end, expected in [
        ("hard", relative),
        ("easy", np.negative(relative)),
        ("faults", relative),
        ("both", pressure(np.array(relative))),
    ]:
        assert end_score(end, plain) == pytest.approx(expected)
    assert end_score("hard", {"mean_loss": plain["mean_loss"]}) == pytest.approx([4, 3, 0.1, 1])
    kept = np.array([True, False, False, True])
    assert end_reasons("faults", plain, kept).tolist() == ["", "hard", "hard", ""]
    assert reasons(plain, kept).tolist() == ["", "hard", "easy", ""]


def test_refused():
    with pytest.raises(ValueError, match="no end 'hardest'; there are easy, hard, both, faults"):
        end_score("hardest", columns())
    with pytest.raises(ValueError, match="nothing is known of twins"):
        end_score("twins", {"mean_loss": np.ones(3)})


def test_an_end_of_which_there_is_nothing_says_what_goes_instead():
    found, none = columns(), np.zeros(10, dtype=bool)
    assert [end_missed(end, found) for end in (*ENDS, "", "auto")] == [""] * 7
    for end, name, words in (
        ("twins", "spare", "no near-copies were found, so that what goes is drawn"),
        ("faults", "flagged", "no faults were found, so that the most doubtful"),
    ):
        less = {**found, name: none}
        assert end_missed(end, less).startswith(words)
        assert not any(end_missed(other, less) for other in ENDS if other != end)
        kept = cut(np.zeros(10), end_score(end, less), 7)
        assert end[:-1] not in end_reasons(end, less, kept)  # neither "twin" nor "fault"
    assert "were looked for" in end_missed("faults", {"mean_loss": np.ones(3)})


def test_the_reasons_of_the_objectives_own_cut():
    """Even lots would keep the five with the largest numbers: 8, 9, 7, 0 and 1."""
    found = columns()
    kept = np.isin(np.arange(10), [1, 2, 3, 4, 5])
    assert reasons(found, kept).tolist() == [
        "easy",  # an even draw would have kept it
        *[""] * 5,
        "fault",  # 6, whatever else
        "hard",  # 7
        "unseen",  # 8, of which no loss was finite
        "twin",  # 9, for 1 stays
    ]
    kept = np.isin(np.arange(10), [0, 7, 8, 4, 5])
    assert reasons(found, kept)[[2, 3, 9]].tolist() == ["drawn", "drawn", "easy"]  # no twin stays


def test_what_has_few_parts_is_not_called_easy_or_hard_for_it():
    """1, 6 and 7 have one part where most have four; 7 is settled besides."""
    found = columns() | {
        "parts": np.array([4, 1, 4, 4, 4, 4, 1, 1, 4, 4], dtype=np.float32),
        "uncertainty": np.where(np.arange(10) == 7, 0.01, 0.2).astype(np.float32),
    }
    kept = np.isin(np.arange(10), [2, 3, 4, 5, 9])
    why = reasons(found, kept)
    assert why[[0, 1, 6, 7]].tolist() == ["easy", "few", "fault", "hard"]
    assert reasons({**found, "uncertainty": np.zeros(10)}, kept)[1] == "easy"
    assert reasons(found | {"parts": np.ones(10)}, kept)[1] == "easy"
    # Two parts are many beside those of the kept, though few beside those of all.
    found["parts"] = np.where(kept, 2, np.where(np.arange(10) == 1, 2, 50))
    assert reasons(found, kept)[1] == "easy"
    # Nor are three of it, however much more it moves.
    found["parts"] = np.where(np.arange(10) == 1, 3, 2)
    found["uncertainty"] = np.where(np.arange(10) == 1, 0.8, 0.2)
    assert reasons(found, kept)[1] == "easy"


def test_all_ends_serve_one_run():
    n = 120
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, 8))
    points[:10] = points[10:20]
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :15]
    near = Neighbours(index, np.take_along_axis(distance, index, axis=1))
    objective = Inclusion(np.arange(n), 0, 0.7, 20, neighbours=near)
    pruner = AdaPruner(n, 0.7, Schedule(5, 15), objective=objective)
    q = np.where(np.arange(n) >= 100, 0.05, rng.uniform(0.5, 0.95, n))
    for _ in range(20):
        noisy = np.clip(q + 0.1 * rng.normal(size=n), 0.01, 0.99)
        pruner.observe(np.arange(n), -np.log(noisy), confidence=noisy, fault=1 - noisy)
        pruner.end_epoch()
    found = pruner.columns()
    assert all(len(column) == n for name, column in found.items() if name != "typical_loss")
    why = reasons(found, pruner.select())
    assert set(why[100:]) == {"fault"}
    assert np.all((why[:10] == "twin") ^ (why[10:20] == "twin"))
    for end in ENDS:
        kept = cut(np.zeros(n), end_score(end, found), 84)
        assert kept.sum() == 84 and np.all((end_reasons(end, found, kept) == "") == kept)
    assert not cut(np.zeros(n), end_score("faults", found), 100)[100:].any()
    twins = cut(np.zeros(n), end_score("twins", found), 109)
    assert np.all(twins[:10] ^ twins[10:20])
