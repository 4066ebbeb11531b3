"""The published objective."""

import numpy as np

from adapruner_det.core import AdaPruner, Paper, Schedule
from adapruner_det.core.equations import pressure
from tests.core.stream import Stream, train


def test_the_papers_pressure_is_eq_4_and_5s():
    losses = np.logspace(-4, 4, 100)
    np.testing.assert_array_equal(Paper().pressure(losses, {}), pressure(losses))
    np.testing.assert_array_equal(
        Paper(use_classification=False).pressure(losses, {}),
        pressure(losses, use_classification=False),
    )
    np.testing.assert_array_equal(
        Paper(use_selection=False).pressure(losses, {}), pressure(losses, use_selection=False)
    )


def test_paper_is_the_objective_that_is_taken_unless_told():
    stream = Stream(80, 20)
    found = []
    for options in ({}, {"objective": Paper()}):
        pruner = AdaPruner(80, 0.7, Schedule(5, 15), **options)
        train(pruner, stream)  # its signals are passed over
        found.append((pruner.select(), pruner.mask.column("logit").copy()))
        assert pruner.objective.name == "paper" and pruner.signals == frozenset()
    np.testing.assert_array_equal(*(kept for kept, _ in found))
    np.testing.assert_array_equal(*(logit for _, logit in found))
    plain = AdaPruner(80, 0.7, Schedule(5, 15))
    train(plain, stream, signals=())
    np.testing.assert_array_equal(plain.mask.column("logit"), found[0][1])
