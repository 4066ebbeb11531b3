import numpy as np

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.methods.adapruner import adapruner, choice_of

from .evidence import ToyEvidence


def trained(count=20, sizes=None, keep_ratio=0.7, losses=None):
    pruner = AdaPruner(count, keep_ratio, Schedule(1, 8), sizes=sizes)
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=count)) if losses is None else losses
    for _ in range(9):
        pruner.observe(np.arange(count), losses)
        pruner.end_epoch()
    return pruner


def test_the_score_cut_at_the_runs_ratio_is_the_runs_set():
    for sizes in (None, np.arange(20) % 3):
        pruner = trained(sizes=sizes)
        choice = choice_of(pruner)
        assert sorted(choice.score) == list(range(20))
        np.testing.assert_array_equal(choice.kept, choice.score < 14)
        np.testing.assert_array_equal(choice.kept, pruner.select())


def test_samples_without_a_finite_loss_are_kept_last_of_all():
    losses = np.ones(20)
    losses[[0, 13]] = np.nan
    assert choice_of(trained(losses=losses)).score[[0, 13]].tolist() == [18, 19]


def test_it_tells_what_the_mask_knows():
    by_size, alike = choice_of(trained(sizes=np.arange(20) % 3)), choice_of(trained())
    known = {"logit", "last_loss", "mean_loss", "times_seen"}
    assert set(by_size.columns) == {*known, "typical_loss"} and set(alike.columns) == known
    assert alike.parameters["typical_loss"] > 0 and "typical_loss" not in by_size.parameters
    assert alike.columns["times_seen"].tolist() == [9] * 20
    assert abs(alike.soft_ratio - 0.7) < 0.05


def test_the_method_trains_with_the_mask_that_its_options_describe():
    class Seen(ToyEvidence):
        def train(self, guide):
            self.guide = guide
            super().train(guide)

    evidence = Seen(epochs=10, WARMUP_EPOCHS=3, ALPHA_END=7.0)
    choice = adapruner(evidence, 0.25)
    schedule = evidence.guide.schedule
    assert (schedule.warmup_epochs, schedule.epochs, schedule.alpha_end) == (3, 10, 7.0)
    assert evidence.guide.keep_ratio == 0.25 and choice.kept.sum() == 15
