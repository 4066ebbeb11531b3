"""What holds for every method there is; one that is registered is tested by that."""

from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.core.cut import kept_count
from adapruner_det.errors import DataError
from adapruner_det.methods import get_method, method_names, select
from adapruner_det.selection import Selection

from .evidence import OFFERS, SIGNALS, ToyEvidence

METHODS = method_names()
RATIOS = (0.1, 0.35, 0.6, 0.95, 1.0)
every_method = pytest.mark.parametrize("name", METHODS)


def test_the_methods_of_this_package_are_there():
    assert set(METHODS) >= {
        *("adapruner", "random", "stratified"),
        *("forgetting", "el2n", "grand", "herding", "glister", "prototypes", "cg-score"),
        *("aum", "ccs", "dyn-unc", "tdds", "dual", "dual-beta"),
        *("d2", "moderate", "k-center", "semdedup", "aum-clean", "prototypes-easy"),
    }


@every_method
@pytest.mark.parametrize("keep_ratio", RATIOS)
def test_it_keeps_exactly_the_rounded_part(name, keep_ratio):
    selection = select(name, ToyEvidence(), keep_ratio)
    assert selection.num_kept == kept_count(60, keep_ratio)
    assert (selection.method, selection.keep_ratio, selection.seed) == (name, keep_ratio, 0)


@every_method
def test_its_cuts_are_nested(name):
    run = select(name, ToyEvidence(), 0.6)
    cuts = [run.cut(ratio).kept_keys for ratio in RATIOS]
    assert [len(kept) for kept in cuts] == [kept_count(60, ratio) for ratio in RATIOS]
    for smaller, larger in zip(cuts, cuts[1:], strict=False):
        assert smaller < larger


@every_method
@pytest.mark.parametrize("keep_ratio", RATIOS)
def test_a_cut_of_its_score_at_its_own_ratio_is_what_it_keeps(name, keep_ratio):
    run = select(name, ToyEvidence(), keep_ratio)
    assert run.cut(keep_ratio).kept_keys == run.kept_keys


@every_method
def test_a_method_of_one_score_chooses_the_same_at_every_ratio(name):
    if get_method(name).per_ratio:
        pytest.skip("its choice depends on the keep ratio")
    scores = [select(name, ToyEvidence(), ratio).columns["score"] for ratio in RATIOS]
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])


@every_method
def test_the_same_seed_selects_the_same(name, tmp_path):
    for folder in ("a", "b"):
        select(name, ToyEvidence(seed=3), 0.6).save(tmp_path / folder / "run.json")
    for file in ("run.json", "run.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@every_method
def test_it_does_not_look_at_the_seed_alone(name):
    """Other losses, other features or another draw: something of the evidence is looked at."""
    kept = [select(name, ToyEvidence(seed=seed), 0.5).kept_keys for seed in range(4)]
    assert len(set(kept)) > 1


@every_method
def test_killed_in_its_training_it_goes_on_to_the_same(name):
    whole = select(name, ToyEvidence(), 0.6)
    killed = ToyEvidence(stop_after=5)
    try:
        found = select(name, killed, 0.6)
    except KeyboardInterrupt:
        found = select(name, killed, 0.6)
    for column, values in whole.columns.items():
        np.testing.assert_array_equal(found.columns[column], values, column)


@every_method
def test_what_it_selects_is_saved_and_loaded(name, tmp_path):
    selection = select(name, ToyEvidence(), 0.6, config_digest="c", libraries=["torchvision"])
    found = Selection.load(selection.save(tmp_path / "run.json"))
    assert found.kept_keys == selection.kept_keys and found.config_digest == "c"
    assert set(found.versions) == {"adapruner-det", "torch", "numpy", "torchvision"}
    assert found.columns["kept"].dtype == bool
    assert found.columns["classes"][:4].tolist() == ["0", "1", "2", "0"]


@every_method
def test_without_what_it_needs_it_is_refused_by_name(name):
    for missing in get_method(name).needs:
        evidence = ToyEvidence(offers=OFFERS - {missing})
        with pytest.raises(DataError, match=f"{name!r} needs {missing}") as caught:
            select(name, evidence, 0.6)
        assert "it gives" in str(caught.value) and evidence.trained == 0


@every_method
def test_it_uses_nothing_that_it_does_not_say_it_needs(name):
    select(name, ToyEvidence(offers=get_method(name).needs), 0.6)


class Watched(ToyEvidence):
    """Evidence that remembers what was read of it."""

    def __init__(self, **known):
        super().__init__(**known)
        self.read = set()

    def signal(self, name):
        self.read.add(name)
        return super().signal(name)

    def features(self, source="model"):
        self.read.add("features" if source == "model" else source)
        return super().features(source)

    def predictions(self):
        self.read.add("predictions")
        return super().predictions()


@every_method
def test_it_looks_at_all_that_it_says_it_needs(name):
    evidence = Watched()
    select(name, evidence, 0.6)
    assert evidence.read == get_method(name).needs


class Gaps(ToyEvidence):
    """Sample 7 was never seen, sample 9 not in every second epoch."""

    def signal(self, name):
        values = super().signal(name)
        values[:, 7] = np.nan
        values[::2, 9] = np.nan
        return values


@pytest.mark.parametrize("name", [n for n in METHODS if get_method(n).needs & SIGNALS])
def test_a_sample_that_was_never_seen_is_kept_last(name):
    run = select(name, Gaps(), 59 / 60)
    assert run.columns["key"][~run.columns["kept"]].tolist() == ["toy/0007"]
    assert select(name, Gaps(), 1.0).num_kept == 60
    assert np.isfinite(run.columns["score"][9])


class Objects(ToyEvidence):
    """What detection has: samples with several classes, and with none."""

    def __init__(self, classes):
        super().__init__()
        self.samples = replace(self.samples, classes=classes)


#: The methods of this package, and those of them that want one class a sample.
OWN = {n for n in METHODS if get_method(n).choose.__module__.startswith("adapruner_det.")}
CLASSED = {"cg-score", "glister", "herding", "moderate"}


@every_method
@pytest.mark.parametrize("odd", [[0, 1], [2, 2], []])
def test_samples_of_other_than_one_class_are_served_or_refused_by_name(name, odd):
    classes = [[i % 3] for i in range(60)]
    classes[4], classes[31] = odd, odd
    try:
        assert select(name, Objects(classes), 0.6).num_kept == 36
    except DataError as error:
        assert repr(name) in str(error) and (name in CLASSED or name not in OWN)
        if name in CLASSED:
            assert f"2 of 60 have none or several, first toy/0004 with {len(odd)};" in str(error)
    else:
        assert name not in CLASSED


@every_method
@pytest.mark.parametrize("keep_ratio", [0.0, -1.0, 1.5, float("nan")])
def test_a_keep_ratio_outside_0_to_1_is_refused(name, keep_ratio):
    evidence = ToyEvidence()
    with pytest.raises(DataError, match=r"\(0, 1\]"):
        select(name, evidence, keep_ratio)
    assert evidence.trained == 0


@every_method
def test_samples_that_were_left_out_are_on_record(name):
    evidence = ToyEvidence()
    evidence.samples = replace(evidence.samples, excluded={"toy/x": "cut short"})
    assert select(name, evidence, 0.6).excluded == {"toy/x": "cut short"}
