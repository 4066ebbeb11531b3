"""One process; several are in test_processes.py."""

import numpy as np

from adapruner_det.core import Exchange


def test_alone_it_is_the_identity():
    exchange = Exchange.default()
    assert (exchange.rank, exchange.world) == (0, 1)
    values = np.array([3, 1, 2])
    gathered, mine = exchange.gather(values)
    np.testing.assert_array_equal(gathered, values)
    np.testing.assert_array_equal(gathered[mine], values)
    np.testing.assert_array_equal(exchange.sum(values), values)
