import numpy as np

from adapruner_det.core import AdaPruner, Schedule
from tests.core.trained import train


def test_a_log_line_says_where_the_mask_stands():
    pruner = AdaPruner(4, 0.75, Schedule(1, 4))
    line = str(pruner.end_epoch())
    assert line.startswith("warm-up: soft ratio 0.") and " of 0.7500, α 0.10, " in line
    train(pruner, np.array([0.5, 1.0, 2.0, 9.0]), 1)
    line = str(pruner.end_epoch())
    assert line.startswith("pruning: ") and line.endswith("% binary")
    status = pruner.status()
    assert f"multiplier {status.multiplier:.4f}, {100 * status.binary_share:.1f}%" in str(status)
