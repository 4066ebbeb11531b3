from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core.cut import kept_count
from adapruner_det.methods import select
from adapruner_det.methods.every_kth import every_kth, natural, spread_out

from .evidence import ToyEvidence


def kept_of(count, keep_ratio, seed=0):
    return np.flatnonzero(every_kth(ToyEvidence(count, seed=seed), keep_ratio).kept)


@pytest.mark.parametrize(("count", "k"), [(60, 2), (60, 3), (60, 4), (60, 15), (60, 60), (7, 7)])
def test_it_is_every_kth_from_a_start_that_the_seed_draws(count, k):
    starts = set()
    for seed in range(40):
        kept = kept_of(count, 1 / k, seed)
        assert kept.tolist() == list(range(kept[0], count, k))
        starts.add(int(kept[0]))
    assert len(starts) >= min(k, 4)


@given(st.integers(1, 200), st.floats(0.01, 1.0), st.integers(0, 50))
def test_any_part_is_kept_at_even_distances(count, keep_ratio, seed):
    kept = kept_of(count, keep_ratio, seed)
    number = kept_count(count, keep_ratio)
    assert len(kept) == number
    gaps = np.diff([*kept, kept[0] + count])
    assert gaps.min() >= np.floor(count / number) and gaps.max() <= np.ceil(count / number)


def test_frames_follow_each_other_by_their_numbers():
    keys = ["b/9", "a/frame_100", "a/frame_20", "a/frame_3", "a/x", "b/10"]
    assert sorted(keys, key=natural) == [
        *("a/frame_3", "a/frame_20", "a/frame_100", "a/x", "b/9", "b/10")
    ]
    evidence = ToyEvidence(40)
    names = sorted(f"toy/{i}" for i in range(40))  # 0, 1, 10, 11, ...
    evidence.samples = replace(evidence.samples, keys=names)
    kept = [int(names[i].split("/")[1]) for i in np.flatnonzero(every_kth(evidence, 0.5).kept)]
    assert sorted(kept) == list(range(min(kept), 40, 2))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 21, 64])
def test_the_spread_out_order_has_all_and_halves_evenly(count):
    order = spread_out(count)
    assert sorted(order.tolist()) == list(range(count))
    half = sorted(order[: (count + 1) // 2].tolist())
    assert half == list(range(0, count, 2))


def test_a_cut_of_a_cut_is_spread_out():
    selection = select("every-kth", ToyEvidence(64), 0.5).cut(0.25)
    kept = np.flatnonzero(selection.columns["kept"])
    assert np.diff(kept).tolist() == [4] * 15
