import numpy as np
import pytest

from adapruner_det.methods import semdedup as module
from adapruner_det.methods.semdedup import likeness_to_earlier, semdedup

from .evidence import Given, ToyEvidence, order_of


@pytest.mark.parametrize("per_cluster", [1000, 13])
def test_it_is_the_largest_cosine_to_an_earlier_one(per_cluster, monkeypatch):
    monkeypatch.setattr(module, "PER_CLUSTER", per_cluster)
    evidence = ToyEvidence()
    rows = evidence.features().astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    choice = semdedup(evidence, 0.5)
    own = choice.columns["cluster"]
    assert len(set(own)) == -(-60 // per_cluster)
    for cluster in set(own):
        members = [i for i in range(60) if own[i] == cluster]
        centre = sum(rows[i] for i in members) / len(members)
        members.sort(key=lambda i: rows[i] @ centre)
        for place, i in enumerate(members):
            earlier = [rows[i] @ rows[j] for j in members[:place]]
            assert choice.score[i] == pytest.approx(max(earlier, default=-1.0), abs=1e-5)


def test_copies_go_first_and_one_of_them_stays():
    rows = np.random.default_rng(0).normal(size=(30, 16))
    features = np.concatenate([rows, 3.0 * rows[:10], rows[:5] * 0.5])
    order = order_of(semdedup(Given(features=features), 0.5))
    groups = [i if i < 30 else i - 30 if i < 40 else i - 40 for i in order[:30]]
    assert sorted(groups) == list(range(30))


def test_a_threshold_keeps_what_the_ratio_keeps():
    """The paper's rule: drop what has an earlier one above 1 − ε."""
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centre = rows.mean(axis=0)
    score = likeness_to_earlier(rows, centre)
    order = sorted(range(50), key=lambda i: rows[i] @ centre)
    for threshold in (0.5, 0.9, 0.99):
        dropped = {
            i
            for place, i in enumerate(order)
            if any(rows[i] @ rows[j] > threshold for j in order[:place])
        }
        assert dropped == set(np.flatnonzero(score > threshold))
