import numpy as np
import pytest

from adapruner_det.core.neighbours import Neighbours
from adapruner_det.methods.stratified import stratified_score
from adapruner_det.methods.thinning import nearness, thinning

from .evidence import Given, order_of


def scenes(rng, count, copies, noise=0.01, size=16):
    """(count + copies, size) of unit length: copies of the first ones come last."""
    rows = rng.normal(size=(count, size))
    more = rows[:copies] + noise * rng.normal(size=(copies, size))
    rows = np.concatenate([rows, more])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow(rows, draw):
    """Who stays, and of the others the largest closeness to one who does, from the definition."""
    count = len(rows)
    away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(away, np.inf)
    near = np.argsort(away, axis=1, kind="stable")[:, : min(15, count - 1)]
    scale = [away[i, near[i, -1]] for i in range(count)]
    close = np.zeros((count, count))
    for i in range(count):
        for j in near[i, :10]:
            c = np.exp(-(away[i, j] ** 2) / (0.15 * scale[i] * scale[j]))
            close[i, j] = close[j, i] = max(c, close[i, j])
    stays = []
    for i in sorted(range(count), key=lambda i: draw[i]):
        if all(close[i, j] < 0.5 for j in stays):
            stays.append(i)
    return stays, [max(close[i, j] for j in stays if j != i) for i in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_the_definition_says(seed):
    rows = scenes(np.random.default_rng(seed), 40, 20, noise=0.15).astype(np.float32)
    evidence = Given(np.arange(60) % 3, seed=seed, thumbnails=rows)
    draw = stratified_score(evidence.samples, seed)
    stays, closest = slow(rows.astype(float), draw)
    choice = thinning(evidence, 0.5)
    assert np.flatnonzero(~choice.columns["spare"]).tolist() == sorted(stays)
    assert 40 <= len(stays) < 60
    np.testing.assert_array_equal(choice.score[sorted(stays)], draw[sorted(stays)])
    for i in set(range(60)) - set(stays):
        assert choice.score[i] == pytest.approx(1.0 + closest[i], abs=1e-5)


def test_who_is_near_is_asked_of_both():
    """1 is the neighbour of 0, who is none of 1's; 2 is nearer to 1 and does not stay."""
    near = Neighbours(np.array([[1], [2], [1]]), np.array([[1.0], [0.5], [0.5]]))
    found = nearness(near, np.array([True, False, False]))
    close = np.exp(-1.0 / (0.15 * 1.0 * 0.5))
    assert found.tolist() == [0.0, np.float32(close), 0.0]


def test_of_twins_one_stays_and_the_nearest_copies_go_first():
    rng = np.random.default_rng(0)
    rows = scenes(rng, 50, 20)
    rows[50:60] = rows[:10]  # exact copies
    order = order_of(thinning(Given([0] * 70, thumbnails=rows), 0.5))
    group = [i if i < 50 else i - 50 for i in order]
    assert sorted(group[:50]) == list(range(50))
    assert set(group[60:]) == set(range(10))


@pytest.mark.parametrize("seed", range(3))
def test_of_more_copies_than_a_list_holds_all_go_before_twins_that_are_less_near(seed):
    rng = np.random.default_rng(seed)
    rows = scenes(rng, 60, 20, noise=0.1)
    one = rng.normal(size=16)
    rows = np.concatenate([rows, np.tile(one / np.linalg.norm(one), (40, 1))])
    order = order_of(thinning(Given([0] * 120, seed=seed, thumbnails=rows), 0.5))
    assert min(order[-39:]) >= 80


def test_a_deeper_cut_draws_from_every_class():
    classes = np.repeat([0, 1], [60, 20])
    rows = np.random.default_rng(0).normal(size=(80, 32))
    kept = order_of(thinning(Given(classes, thumbnails=rows), 0.5))[:40]
    assert abs(int((classes[kept] == 1).sum()) - 10) <= 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_or_all_alike_are_served(count):
    same = np.ones((count, 4))
    choice = thinning(Given([0] * count, thumbnails=same), 0.5)
    assert sorted(order_of(choice)) == list(range(count))
    assert (~choice.columns["spare"]).sum() == 1
