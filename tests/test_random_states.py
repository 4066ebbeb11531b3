import random
from contextlib import suppress

import numpy as np
import pytest
import torch

from adapruner_det.random_states import (
    random_states,
    random_states_kept,
    restore_random_states,
)


def draws(*generators):
    """What every generator gives next; a Gaussian leaves a second one in store."""
    return [
        *(random.random(), random.gauss(0, 1)),
        *np.random.standard_normal(3).tolist(),  # noqa: NPY002
        *torch.randn(2).tolist(),
        *(float(torch.rand((), generator=own)) for own in generators),
    ]


def saved_and_read(states, tmp_path):
    torch.save(states, tmp_path / "states.pt")
    return torch.load(tmp_path / "states.pt", weights_only=True)


def test_every_generator_goes_back_with_a_gaussian_in_store(tmp_path):
    one, two = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    draws(one, two)
    states = saved_and_read(random_states(one=one, two=two), tmp_path)
    expected = draws(one, two)
    for _ in range(2):  # what is restored is not used up
        draws(two, one, one)
        restore_random_states(states, one=one, two=two)
        assert draws(one, two) == expected


@pytest.mark.parametrize("failing", [False, True])
def test_what_is_drawn_inside_does_not_show_outside(failing):
    states = random_states()
    expected = draws()
    restore_random_states(states)
    with suppress(KeyError), random_states_kept():
        draws()
        if failing:
            raise KeyError
    assert draws() == expected


def test_what_is_taken_draws_nothing():
    own = torch.Generator().manual_seed(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    random_states(own=own)
    found = draws(own)
    own.manual_seed(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    assert draws(own) == found


def test_the_layout_of_version_0_1_is_read():
    """It had no named generators."""
    states = random_states()
    expected = draws()
    del states["generators"]
    states["python"] = list(states["python"])  # as other readers give a tuple back
    states["python"][1] = list(states["python"][1])
    draws()
    restore_random_states(states)
    assert draws() == expected


def test_a_generator_whose_state_was_not_taken_is_an_error():
    with pytest.raises(KeyError, match="mine"):
        restore_random_states(random_states(), mine=torch.Generator())


@pytest.mark.parametrize(
    ("used", "here", "restored"), [(True, 2, [0, 1]), (True, 1, [0]), (0, 2, [])]
)
def test_the_states_of_gpus_that_were_used_and_are_here(monkeypatch, used, here, restored):
    taken = [torch.tensor([0]), torch.tensor([1])]
    found = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(used))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: taken)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda s, d: found.append((int(s[0]), d)))
    restore_random_states(random_states())
    assert found == [(i, i) for i in restored]


def test_a_run_of_a_gpu_goes_on_where_there_is_none():
    states = random_states()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    restore_random_states({**states, "cuda": [torch.tensor([0])]})
