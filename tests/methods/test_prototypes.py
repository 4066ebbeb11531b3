import numpy as np
import pytest

from adapruner_det.methods.prototypes import prototypes, prototypes_easy

from .evidence import Given, ToyEvidence, order_of


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_distance_to_a_centre_of_k_means(seed):
    """Every sample lies in the cluster whose mean is nearest, and is as far as said."""
    evidence = ToyEvidence(seed=seed)
    rows = evidence.features().astype(float)
    rows = np.array([row / np.sqrt(sum(row**2)) for row in rows])
    choice = prototypes(evidence, 0.5)
    own = choice.columns["cluster"]
    centres = [rows[own == c].mean(axis=0) for c in range(3)]
    for i, row in enumerate(rows):
        gaps = [np.linalg.norm(row - centre) for centre in centres]
        assert gaps[own[i]] <= min(gaps) + 1e-6
        centre = centres[own[i]]
        cosine = row @ centre / np.linalg.norm(centre)
        assert -choice.score[i] == pytest.approx(1 - cosine, abs=1e-5)


def test_the_odd_stay_or_go():
    """Two directions, of which the last samples lean away; length says nothing."""
    angles = np.concatenate([np.linspace(-0.02, 0.02, 20), [0.3], 1.5 + np.linspace(0, 0.04, 20)])
    length = np.linspace(1, 9, 41)
    features = length[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    evidence = Given([0] * 21 + [1] * 20, features=features)
    assert order_of(prototypes(evidence, 0.5))[0] == 20
    assert order_of(prototypes_easy(evidence, 0.5))[-1] == 20
    assert prototypes(evidence, 0.5).columns["cluster"].tolist() in (
        [0] * 21 + [1] * 20,
        [1] * 21 + [0] * 20,
    )


def test_without_classes_there_is_one_cluster():
    rows = np.random.default_rng(0).normal(size=(10, 3))
    choice = prototypes(Given([[]] * 10, features=rows), 0.5)
    assert set(choice.columns["cluster"]) == {0}
