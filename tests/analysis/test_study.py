import numpy as np
import pytest

from adapruner_det.analysis import study as module
from adapruner_det.analysis.study import ALL, KEPT, OTHER, RANDOM, single_labels, study, table
from adapruner_det.errors import DataError
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import Selection


@pytest.fixture
def flat(monkeypatch):
    """No t-SNE: the first two features, turned by the seed, so that results are known."""

    def turned(features, seed):
        return features[:, :2] * (1 + seed)

    monkeypatch.setattr(module, "tsne", turned)


def blobs(n=60, classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return rng.normal(size=(n, 4)) + 9 * np.eye(classes, 4)[labels], labels, rng.random(n) < 0.8


def test_all_and_the_kept_are_embedded_each_for_itself(flat):
    features, labels, kept = blobs()
    found = study(features, labels, kept, seeds=(0, 4), control=False)
    assert list(found.embeddings) == [ALL, KEPT] and len(found.embeddings[ALL]) == 2
    assert np.array_equal(found.rows[KEPT][1], np.flatnonzero(kept))
    assert np.array_equal(found.embeddings[KEPT][1], 5 * features[kept, :2])
    wanted = module.geometry(features[kept, :2], labels[kept])
    assert found.geometries[KEPT][0] == wanted
    assert found.geometries[KEPT][1].radius == pytest.approx(5 * wanted.radius)


def test_what_was_embedded_is_not_embedded_again(flat, monkeypatch, tmp_path, caplog):
    features, labels, kept = blobs()
    first = study(features, labels, kept, folder=tmp_path / "new")
    again = study(features, labels, kept, folder=tmp_path / "new", seeds=(0,))
    calls = []

    def counted(given, seed):
        calls.append((len(given), seed))
        return given[:, :2]

    monkeypatch.setattr(module, "tsne", counted)
    with caplog.at_level("INFO"):
        third = study(features, labels, kept, folder=tmp_path / "new", control=False)
    assert not calls and "t-SNE" not in caplog.text
    for part in (ALL, KEPT):
        for other in (again, third):
            assert np.array_equal(first.embeddings[part][0], other.embeddings[part][0])
    study(features, labels, kept, folder=tmp_path / "new", control=False, seeds=(1,))
    study(features * 2, labels, kept, folder=tmp_path / "new", control=False)
    assert calls == [(60, 1), (kept.sum(), 1), (60, 0), (kept.sum(), 0)]


def test_as_many_are_drawn_at_random_by_the_seed(flat):
    features, labels, kept = blobs()
    found = study(features, labels, kept, seeds=(0, 1))
    one, two = found.rows[RANDOM]
    assert len(one) == len(two) == kept.sum() and not np.array_equal(one, two)
    assert (np.diff(one) > 0).all() and not np.array_equal(one, np.flatnonzero(kept))
    again = study(features, labels, kept, seeds=(1,))
    assert np.array_equal(again.rows[RANDOM][0], two)


def test_a_second_model_sees_all(flat):
    features, labels, kept = blobs()
    found = study(features, labels, kept, other=features[:, ::-1])
    assert list(found.embeddings) == [ALL, KEPT, RANDOM, OTHER]
    assert np.array_equal(found.embeddings[OTHER][0], features[:, [3, 2]])


def test_samples_without_one_class_are_left_out_with_a_word(flat, caplog):
    features, labels, kept = blobs()
    labels[[1, 5, 30]] = -1
    found = study(features, labels, kept)
    for rows in found.rows.values():
        assert not {1, 5, 30} & set(rows[0].tolist())
    assert len(found.rows[KEPT][0]) == len(found.rows[RANDOM][0]) == (kept & (labels >= 0)).sum()
    assert "3 of 60 samples have not one class" in caplog.text


def test_features_of_other_samples_are_refused(flat):
    features, labels, kept = blobs()
    for given in ({"features": features[:-1]}, {"features": features[:, 0]}):
        with pytest.raises(DataError, match=r"must be \(60, D\)"):
            study(given["features"], labels, kept)
    with pytest.raises(DataError, match="second model"):
        study(features, labels, kept, other=features[1:])


@pytest.mark.parametrize("stays", [[0, 1, 2, 3], [0, 3, 6, 9, 12, 15]])
def test_too_few_kept_samples_are_said_before_all_are_embedded(monkeypatch, stays):
    """The second are of one class."""
    monkeypatch.setattr(module, "tsne", None)
    features, labels, kept = blobs()
    kept[:] = np.isin(np.arange(60), stays)
    with pytest.raises(DataError, match=r"keeps \d samples with one class each, of \d class"):
        study(features, labels, kept)


def test_a_draw_of_one_class_is_said_before_all_are_embedded(monkeypatch):
    monkeypatch.setattr(module, "tsne", None)
    features, _, _ = blobs()
    few = np.arange(60) < 8
    with pytest.raises(DataError, match=r"8 samples drawn at random with the seed 0 are of one cl"):
        study(features, (np.arange(60) < 2).astype(int), few)


def test_the_table_says_each_change_against_all(flat):
    features, labels, kept = blobs()
    found = study(features, labels, kept, seeds=(0, 4))
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in table(found).splitlines()]
    assert lines[0] == ["measure", "of", "samples", "mean", "change from all"]
    rows = {(line[0], line[1]): line[2:] for line in lines[2:]}
    assert len(rows) == 5 * 3
    all_radii, radii = ([g.radius for g in found.geometries[p]] for p in (ALL, KEPT))
    samples, mean, change = rows["radius of a class", KEPT]
    assert samples == str(kept.sum()) and float(mean) == pytest.approx(np.mean(radii), rel=1e-3)
    share = 100 * (np.mean(radii) / np.mean(all_radii) - 1)
    each = [100 * (a / b - 1) for a, b in zip(radii, all_radii, strict=True)]
    assert change == f"{share:+.1f}% ({each[0]:+.1f}%, {each[1]:+.1f}%)"
    assert rows["radius of a class", ALL][2] == ""


@pytest.mark.parametrize(
    ("value", "start", "text"),
    [(1.044, 1, "+4.4%"), (0.891, 1, "-10.9%"), (2.05e-3, 8.79e-5, "×23.3"), (1, 3, "×0.333"),
     (1, 0, "from 0")],
)  # fmt: skip
def test_a_change_is_percent_or_a_factor(value, start, text):
    assert module._change(value, start) == text


def test_a_paper_s_figures_stand_beside_ours(flat):
    found = study(*blobs(), control=False)
    text = table(found, {KEPT: {"radius of a class": "-10.9%"}})
    (line,) = (line for line in text.splitlines() if "-10.9%" in line)
    assert "radius of a class" in line and "kept" in line


def selection(**columns):
    keys = [f"toy/{i}" for i in range(4)]
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    columns = {
        "key": np.array(keys), "digest": digests, "kept": np.ones(4, bool), "score": np.zeros(4),
        **columns,
    }  # fmt: skip
    return Selection("random", 1.0, 0, {"toy": fingerprint(keys, digests)}, columns)


def test_the_class_of_a_sample_is_its_only_one():
    found = single_labels(selection(classes=np.array(["2", "", "0 1", "10"])))
    assert found.tolist() == [2, -1, -1, 10]
    with pytest.raises(DataError, match="no column 'classes'; give the labels .--labels."):
        single_labels(selection())


def test_where_no_sample_has_one_class_the_line_says_what_gives_it_one():
    with pytest.raises(DataError, match="keeps 0 samples .* --labels says which one counts"):
        study(np.ones((8, 2)), np.full(8, -1), np.ones(8, dtype=bool))
