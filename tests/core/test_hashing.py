import numpy as np

from adapruner_det.core.hashing import mix


def test_the_first_numbers_are_those_of_splitmix64():
    """Of the state 0, as Vigna's reference has them: the state grows by the constant each time."""
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix(states).tolist() == known
