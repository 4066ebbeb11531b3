import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, trustworthiness

from adapruner_det.analysis.embeddings import tsne
from adapruner_det.errors import DataError

DIGITS = load_digits()
ROWS = np.flatnonzero(DIGITS.target < 3)[:120]


def test_a_seed_repeats_and_another_differs():
    features = DIGITS.data[ROWS]
    one = tsne(features, 0)
    assert one.shape == (120, 2) and np.isfinite(one).all()
    assert np.array_equal(one, tsne(features, 0))
    # Another layout, not the same one a little moved.
    moved = np.linalg.norm(one - tsne(features, 1), axis=1)
    assert np.median(moved) > np.linalg.norm(one - one.mean(0), axis=1).mean()


def test_neighbours_are_mostly_of_one_class():
    points, labels = tsne(DIGITS.data[ROWS], 0), DIGITS.target[ROWS]
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(120)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.95


@pytest.mark.slow
def test_neighbours_are_kept_as_well_as_by_scikit_learn():
    features = DIGITS.data[:600]
    own, other = tsne(features, 0), TSNE(init="random", random_state=0).fit_transform(features)
    assert trustworthiness(features, own) > trustworthiness(features, other) - 0.005


def test_few_points_have_a_smaller_perplexity_with_a_word(caplog):
    features = np.random.default_rng(0).normal(size=(20, 60))
    assert tsne(features, 0).shape == (20, 2)
    assert "perplexity 6.33 in place of 30" in caplog.text


def test_many_features_are_reduced_first(monkeypatch):
    import adapruner_det.analysis.embeddings as module

    seen = []

    class Spy(module.TSNE):
        def fit(self, features):
            seen.append(features.shape)
            return super().fit(features)

    monkeypatch.setattr(module, "TSNE", Spy)
    tsne(np.random.default_rng(0).normal(size=(60, 200)), 0, perplexity=5)
    tsne(np.random.default_rng(0).normal(size=(60, 20)), 0, perplexity=5)
    assert seen == [(60, 50), (60, 20)]


@pytest.mark.parametrize(
    ("features", "word"),
    [
        (np.zeros(9), "finite"),
        (np.full((9, 2), np.nan), "finite"),
        (np.zeros((9, 0)), "D of 1 or more"),
        (np.zeros((4, 2)), "too few"),
    ],
)
def test_what_cannot_be_embedded_is_refused(features, word):
    with pytest.raises(DataError, match=word):
        tsne(features, 0)
