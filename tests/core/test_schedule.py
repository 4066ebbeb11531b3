import pytest

from adapruner_det.core import Schedule


def test_alpha_rises_uniformly_over_the_pruning_epochs():
    schedule = Schedule(2, 5, alpha_start=0.1, alpha_end=4.1)
    found = [schedule.alpha(epoch) for epoch in range(8)]
    assert found == pytest.approx([0.1, 0.1, 0.1, 1.1, 2.1, 3.1, 4.1, 4.1])


def test_warmup_and_progress():
    schedule = Schedule(2, 3)
    assert schedule.epochs == 5
    assert [schedule.is_warmup(e) for e in range(5)] == [True, True, False, False, False]
    assert [schedule.progress(e) for e in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]


def test_no_warmup():
    schedule = Schedule(0, 2)
    assert not schedule.is_warmup(0)
    assert [schedule.alpha(0), schedule.alpha(1)] == [0.1, 5.0]


def test_one_pruning_epoch_is_the_first_and_the_last():
    schedule = Schedule(1, 1)
    assert [schedule.progress(0), schedule.progress(1)] == [0.0, 1.0]
    assert schedule.alpha(1) == 5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 3), "warmup_epochs is -1"),
        ((2, 0), "at least 1 is needed"),
        ((0, 1, 0.0, 5.0), "must start above 0"),
        ((0, 1, 5.0, 0.1), "must not fall"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(*arguments)
