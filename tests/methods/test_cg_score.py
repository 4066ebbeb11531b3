import math

import numpy as np

from adapruner_det.methods import cg_score as module
from adapruner_det.methods.cg_score import cg_score, complexity_gaps

from .evidence import Given, ToyEvidence


def unit_rows(count, width=6, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_read(rows):
    """What evidence gives of them, float32, with the length made good."""
    rows = rows.astype(np.float32).astype(float)
    return rows / np.sqrt(np.square(rows).sum(axis=1, keepdims=True))


def slow_gram(rows):
    def entry(a, b):
        cosine = min(1.0, max(-1.0, float(a @ b)))
        return cosine * (math.pi - math.acos(cosine)) / (2 * math.pi)

    gram = np.array([[entry(a, b) for b in rows] for a in rows])
    return gram + module.RIDGE * np.eye(len(rows))


def slow_gaps(rows, y):
    """What the complexity loses when a sample leaves, each time solved anew."""

    def complexity(keep):
        gram = slow_gram([rows[i] for i in keep])
        return y[keep] @ np.linalg.solve(gram, y[keep])

    everyone = list(range(len(rows)))
    whole = complexity(everyone)
    return [whole - complexity(everyone[:i] + everyone[i + 1 :]) for i in everyone]


def test_a_gap_is_what_leaving_takes_away():
    rows, y = unit_rows(25), np.where(np.arange(25) % 3, 1.0, -1.0)
    np.testing.assert_allclose(complexity_gaps(rows, y), slow_gaps(rows, y), rtol=1e-5)


def test_of_two_classes_all_is_known_without_a_draw():
    """Each class against all of the other."""
    rows = as_read(unit_rows(24))
    classes = np.array([3, 5] * 12)
    expected = np.empty(24)
    for own in (3, 5):
        gaps = slow_gaps(rows, np.where(classes == own, 1.0, -1.0))
        expected[classes == own] = np.array(gaps)[classes == own]
    found = cg_score(Given(classes, thumbnails=rows), 0.5).score
    np.testing.assert_allclose(-found, expected, rtol=1e-5)


def test_of_more_classes_the_others_are_drawn_anew_each_time(monkeypatch):
    evidence = ToyEvidence()
    one = [cg_score(evidence, 0.5).score]
    sets = []

    def watched(x, y):
        sets.append((x, y))
        return complexity_gaps(x, y)

    monkeypatch.setattr(module, "complexity_gaps", watched)
    one.append(cg_score(evidence, 0.5).score)
    np.testing.assert_array_equal(one[0], one[1])
    rows, total = as_read(evidence.features("thumbnails")), np.zeros(60)
    place = {tuple(row.round(6)): i for i, row in enumerate(rows)}
    against = []
    for x, y in sets:
        who = np.array([place[tuple(row.round(6))] for row in x[:, :12]])
        (own,) = set((who[y == 1] % 3).tolist())
        assert len(set(who.tolist())) == 40 and (y == 1).sum() == 20
        assert not (who[y == -1] % 3 == own).any()
        against.append((own, frozenset(who[y == -1].tolist())))
        gaps = np.array(slow_gaps(list(rows[who]), y))
        total[who[y == 1]] += gaps[y == 1]
    assert len(sets) == 9 and len(set(against)) == 9
    np.testing.assert_allclose(-one[0], total / 3, rtol=1e-5)


def test_subsets_share_a_class_out_so_that_each_sample_has_its_turn(monkeypatch):
    monkeypatch.setattr(module, "HALF", 8)
    sizes = []

    def watched(x, y):
        sizes.append(len(y))
        return complexity_gaps(x, y)

    monkeypatch.setattr(module, "complexity_gaps", watched)
    score = cg_score(ToyEvidence(), 0.5).score
    assert max(sizes) == 14 and len(sizes) == 27  # 20 of a class: 7, 7 and 6
    assert (score < 0).all()


def test_a_wrong_label_stays_and_a_copy_goes():
    rng = np.random.default_rng(0)
    centres = np.repeat(unit_rows(2, 10), 30, axis=0)
    rows = centres + 0.2 * rng.normal(size=(60, 10))
    rows[5] = rows[6]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    classes = np.repeat([0, 1], 30)
    classes[20] = 1
    score = cg_score(Given(classes, thumbnails=rows), 0.5).score
    order = np.argsort(score)
    assert order[0] == 20 and set(order[-2:]) == {5, 6}


def test_images_of_one_colour_are_copies_of_each_other():
    rows = unit_rows(20)
    rows[[2, 4, 9]] = 0
    classes = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0] * 2)
    order = np.argsort(cg_score(Given(classes, thumbnails=rows), 0.5).score)
    assert set(order[-3:]) == {2, 4, 9}


def test_one_class_alone_has_nothing_against_it():
    assert np.isfinite(cg_score(Given([1] * 9, thumbnails=unit_rows(9)), 0.5).score).all()
