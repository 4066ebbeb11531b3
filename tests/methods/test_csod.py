import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.methods.csod import LAMBDA, csod

from .evidence import Given, ToyBoxes, order_of


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def slow_order(features, classes):
    """From the definition: every sum anew for each candidate."""
    rows = iter(np.asarray(features, dtype=float))
    mean, count = {}, {}
    for i, own in enumerate(classes):
        for c in own:
            mean[i, c] = mean.get((i, c), 0) + next(rows)
            count[i, c] = count.get((i, c), 0) + 1
    mean = {pair: total / count[pair] for pair, total in mean.items()}
    used = sorted({c for own in classes for c in own})
    members = {c: [i for i, own in enumerate(classes) if c in own] for c in used}
    order = []
    while any(i not in order for i, own in enumerate(classes) if own):
        for c in used:
            left = [i for i in members[c] if i not in order]
            if not left:
                continue

            def gain(i, c=c):
                to_all = sum(cosine(mean[i, c], mean[j, c]) for j in members[c])
                chosen = [j for j in order if j in members[c]]
                return LAMBDA * to_all - sum(cosine(mean[i, c], mean[j, c]) for j in chosen)

            order.append(max(left, key=gain))
    return order


@pytest.mark.parametrize("seed", range(3))
def test_it_takes_what_the_definition_takes(seed):
    evidence = ToyBoxes(count=40, seed=seed)
    features = evidence.features("box_features")
    expected = slow_order(features, evidence.samples.classes)
    order = order_of(csod(evidence, 0.5))
    assert order[:39] == expected and order[39] == 39  # the last has no box


def test_copies_wait_for_what_is_new():
    """Of two groups of boxes that are alike inside, the second is of one of each."""
    features = np.repeat(np.eye(2), 4, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(8, 2))
    order = order_of(csod(Given([[0]] * 8, box_features=features), 0.5))
    assert {i // 4 for i in order[:2]} == {0, 1}


def test_classes_take_turns_and_an_image_counts_in_all_of_its_classes():
    features = np.eye(5)
    classes = [[0], [0], [0], [1], [1]]
    order = order_of(csod(Given(classes, box_features=features), 0.5))
    assert [classes[i][0] for i in order] == [0, 1, 0, 1, 0]


def test_images_without_boxes_come_last_in_a_drawn_order():
    classes = [[]] * 20 + [[0]]
    found = [
        order_of(csod(Given(classes, seed, box_features=np.ones((1, 2))), 0.5))
        for seed in (0, 0, 1)
    ]
    assert found[0][0] == 20
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("classes", [[[]], [[0]], [[0, 0, 1]], [[0], [0]]])
def test_few_or_equal_samples_are_served(classes):
    features = np.zeros((sum(map(len, classes)), 3))
    assert sorted(order_of(csod(Given(classes, box_features=features), 0.5))) == list(
        range(len(classes))
    )


def test_a_feature_that_is_not_finite_is_named_by_its_image():
    features = np.ones((4, 2))
    features[2, 1] = np.nan
    with pytest.raises(DataError, match="'csod' needs finite features.*of toy/0001 are not"):
        csod(Given([[0, 0], [0, 1]], box_features=features), 0.5)
