import statistics

import numpy as np

from adapruner_det.methods.moderate import moderate

from .evidence import Given, ToyEvidence, order_of


def test_it_is_the_distance_nearest_to_the_median():
    evidence = ToyEvidence()
    rows = evidence.features().astype(float).tolist()
    distance = []
    for i, own in enumerate(rows):
        alike = [rows[j] for j in range(60) if j % 3 == i % 3]
        centre = [sum(column) / 20 for column in zip(*alike, strict=True)]
        distance.append(sum((a - b) ** 2 for a, b in zip(own, centre, strict=True)) ** 0.5)
    median = statistics.median(distance)
    expected = [abs(own - median) for own in distance]
    choice = moderate(evidence, 0.5)
    np.testing.assert_allclose(choice.score, expected, atol=1e-6)
    np.testing.assert_allclose(choice.columns["centre_distance"], distance, rtol=1e-5)


def test_neither_the_typical_nor_the_odd_stay():
    """Of each class one in the centre, two at distance 1, two farther out."""
    line = np.array([0.0, 1.0, -1.0, 4.0, -4.0])
    features = np.concatenate([line, line + 100])[:, None]
    order = order_of(moderate(Given([3] * 5 + [8] * 5, features=features), 0.4))
    assert order == [1, 2, 6, 7, 0, 5, 3, 4, 8, 9]
