import numpy as np

from adapruner_det import Selection
from adapruner_det.report.faults import dropped_faults


def selection(kept):
    n = len(kept)
    columns = {
        "key": np.array([f"toy/{i}" for i in range(n)]),
        "digest": np.zeros(n, np.uint64),
        "kept": np.array(kept, dtype=bool),
        "score": np.zeros(n),
    }
    return Selection("x", 0.5, 0, {"toy": "f"}, columns)


def test_dropped_faults_are_counted_beside_what_chance_would_drop():
    planted = {"near duplicate": np.arange(10) < 4}
    first = selection([0, 0, 0, 1, 1, 1, 1, 1, 1, 0])  # 3 of the duplicates among 4 dropped
    second = selection([0, 1, 1, 1, 0, 1, 1, 1, 1, 1])  # 1 of them among 2
    table = dropped_faults([first, second], planted).splitlines()
    (row,) = [line.split() for line in table if line.startswith("near duplicate")]
    # By chance 4·0.4 and 4·0.2.
    assert row == ["near", "duplicate", "4", "2.0", "3", "1", "1.2", "1.67"]
    (row,) = [line.split() for line in table if line.startswith("clean")]
    assert row == ["clean", "6", "1.0", "1", "1", "1.8", "0.56"]
