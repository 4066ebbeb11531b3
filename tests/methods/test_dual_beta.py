import numpy as np
import pytest
from scipy import stats

from adapruner_det.methods.dual_beta import dual_beta

from .evidence import Given, ToyEvidence
from .test_dual import slow


def slow_parameters(probability, dropped):
    """a and b, from the whole training."""
    weight = [slow(column) for column in probability.T.tolist()]
    mean = [np.mean(column[:30]) for column in probability.T.tolist()]
    highest = sorted(range(len(weight)), key=weight.__getitem__)[-10:]
    mu = np.mean([mean[i] for i in highest])
    b = 15 * (1 - mu) * (1 - dropped**4)
    return np.array(weight), np.array(mean), 16 - b, b


@pytest.mark.parametrize("keep_ratio", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("epochs", [8, 40])
def test_the_order_is_of_the_chances_and_a_draw(epochs, keep_ratio):
    evidence = ToyEvidence(epochs=epochs, seed=2)
    probability = evidence.signal("confidence").astype(float)
    weight, mean, a, b = slow_parameters(probability, 1 - keep_ratio)
    choice = dual_beta(evidence, keep_ratio)
    assert choice.parameters == pytest.approx({"beta_a": a, "beta_b": b}, rel=1e-5)
    chance = weight * stats.beta.pdf(mean, a, b)
    gumbel = -choice.score - np.log(chance)  # up to a constant
    drawn = np.random.default_rng(2).gumbel(size=60)
    np.testing.assert_allclose(gumbel - gumbel.mean(), drawn - drawn.mean(), atol=1e-4)


def test_the_first_is_drawn_in_proportion_and_the_second_among_the_others():
    p = np.array([0.5, 0.7, 0.6, 0.8]) + np.array([[0.1], [-0.1]]) * np.array([1.0, 0.5, 2.0, 1.0])
    weight, mean, a, b = slow_parameters(p, 0.5)
    chance = weight * stats.beta.pdf(mean, a, b)
    chance /= chance.sum()
    first, second = np.zeros(4), np.zeros((4, 4))
    for seed in range(4000):
        order = np.argsort(dual_beta(Given(confidence=p, seed=seed), 0.5).score)
        first[order[0]] += 1
        second[order[0], order[1]] += 1
    np.testing.assert_allclose(first / 4000, chance, atol=0.03)
    likely = int(np.argmax(chance))
    others = np.where(np.arange(4) == likely, 0, chance)
    np.testing.assert_allclose(second[likely] / first[likely], others / others.sum(), atol=0.06)


def test_the_deeper_the_cut_the_easier_what_stays():
    evidence = ToyEvidence(count=600, epochs=20)
    mean = evidence.signal("confidence").mean(0)
    easy = []
    for keep_ratio in (0.9, 0.5, 0.2, 0.05):
        order = np.argsort(dual_beta(evidence, keep_ratio).score)
        easy.append(mean[order[:30]].mean())
    assert easy == sorted(easy)


@pytest.mark.parametrize("keep_ratio", [0.9, 0.5, 0.02])
def test_what_never_moved_is_kept_last(keep_ratio, recwarn):
    p = np.random.default_rng(0).uniform(0.2, 0.8, (12, 20))
    p[:, 5] = 0.5
    assert np.argmax(dual_beta(Given(confidence=p), keep_ratio).score) == 5
    p[:, 6], p[:, 7] = 1.0, 0.0  # sure from the start
    score = dual_beta(Given(confidence=p), keep_ratio).score
    assert set(np.flatnonzero(score == np.inf)) == {5, 6, 7} and not recwarn.list
