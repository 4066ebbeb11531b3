import numpy as np

from adapruner_det.methods.aum import aum, aum_clean

from .evidence import Given, ToyEvidence, order_of


def slow_area(evidence):
    """The sum of margins, from the probabilities: a margin is a difference of their logarithms."""
    p = evidence.signal("probabilities").astype(float)
    area = np.zeros(p.shape[1])
    for epoch in p:
        for i, own in enumerate(evidence.samples.classes):
            others = [np.log(epoch[i, c]) for c in range(p.shape[2]) if c != own[0]]
            area[i] += np.log(epoch[i, own[0]]) - max(others)
    return area


def test_the_smallest_area_stays_or_goes():
    evidence = ToyEvidence(epochs=7)
    expected = np.argsort(slow_area(evidence)).tolist()
    assert order_of(aum(evidence, 0.5)) == expected
    assert order_of(aum_clean(evidence, 0.5)) == expected[::-1]


def test_a_wrong_label_stays_in_aum_and_goes_in_aum_clean():
    """Right and easy, wrong, right and hard."""
    evidence = Given(margin=[[2.0, -1.0, -0.5], [5.0, -4.0, 1.0], [8.0, -6.0, 2.0]])
    assert order_of(aum(evidence, 0.5)) == [1, 2, 0]
    assert order_of(aum_clean(evidence, 0.5)) == [0, 2, 1]


def test_a_missing_visit_is_no_margin_of_zero():
    evidence = Given(margin=[[2.0, 3.0], [np.nan, 0.0]])
    assert order_of(aum(evidence, 0.5)) == [1, 0]
