"""What holds for every method there is; one that is registered is tested by that."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from adapruner_det.core.cut import kept_count
from adapruner_det.errors import DataError
from adapruner_det.methods import get_method, method_names, select
from adapruner_det.methods.base import BOX_FEATURES, BOXES, THUMBNAILS
from adapruner_det.selection import Selection, class_column

from .evidence import BOX_OFFERS, BOX_SIGNALS, OFFERS, SIGNALS, ToyBoxes, ToyEvidence, some_boxes

NAMES = method_names()
METHODS = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec("cleanlab"), reason="no cleanlab"))
    if name == "cleanlab"
    else name
    for name in NAMES
]
RATIOS = (0.1, 0.35, 0.6, 0.95, 1.0)
every_method = pytest.mark.parametrize("name", METHODS)


def is_of_boxes(name):
    """Whether a method wants what a detector alone gives."""
    return bool(get_method(name).needs & {BOXES, BOX_FEATURES, *BOX_SIGNALS})


def offers_to(name):
    return BOX_OFFERS if is_of_boxes(name) else OFFERS


def toy(name, *mixed_in, **known):
    """Evidence of which the method can make something."""
    kind = ToyBoxes if is_of_boxes(name) else ToyEvidence
    return type("Toy", (*mixed_in, kind), {})(**{"offers": offers_to(name), **known})


def test_the_methods_of_this_package_are_there():
    assert set(NAMES) >= {
        *("adapruner", "random", "stratified", "iterative-stratified"),
        *("forgetting", "el2n", "grand", "herding", "glister", "prototypes", "cg-score"),
        *("aum", "ccs", "dyn-unc", "tdds", "dual", "dual-beta"),
        *("d2", "moderate", "k-center", "semdedup", "aum-clean", "prototypes-easy"),
        *("matched-boxes", "most-boxes", "balanced-boxes", "shape-complexity", "cleanlab"),
        *("image-loss", "typical-loss", "box-forgetting", "vps", "csod", "thinning", "every-kth"),
    }


#: Of fewer epochs there are no falls, no deviation, or no deviation of changes.
LEAST = dict.fromkeys(("forgetting", "dyn-unc", "dual", "dual-beta", "box-forgetting", "vps"), 2)
LEAST["tdds"] = 3


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_a_training_too_short_for_a_method_is_refused_before_it_is_read(name, least):
    assert select(name, toy(name, epochs=least), 0.6).num_kept == 36
    short = toy(name, epochs=least - 1)
    short.signal = None
    words = f"'{name}' needs a training of at least {least} .*; this one has {least - 1}"
    with pytest.raises(DataError, match=words):
        select(name, short, 0.6)


@every_method
def test_without_a_whole_epoch_a_method_that_needs_a_training_is_refused(name):
    if get_method(name).needs - {BOXES, THUMBNAILS}:
        with pytest.raises(DataError, match=f"{name!r} needs a training of at least"):
            select(name, toy(name, epochs=0), 0.6)
    elif name != "adapruner":  # which says itself that none is left to prune in
        assert select(name, toy(name, epochs=0), 0.6).num_kept == 36


@pytest.mark.parametrize("name", [n for n in NAMES if is_of_boxes(n)])
def test_a_method_of_boxes_is_refused_where_there_are_none(name):
    with pytest.raises(DataError, match=f"{name!r} needs .*box.*, which this task does not give"):
        select(name, ToyEvidence(), 0.6)


@every_method
@pytest.mark.parametrize("keep_ratio", RATIOS)
def test_it_keeps_exactly_the_rounded_part(name, keep_ratio):
    selection = select(name, toy(name), keep_ratio)
    assert selection.num_kept == kept_count(60, keep_ratio)
    assert (selection.method, selection.keep_ratio, selection.seed) == (name, keep_ratio, 0)


@every_method
def test_its_cuts_are_nested(name):
    run = select(name, toy(name), 0.6)
    cuts = [run.cut(ratio).kept_keys for ratio in RATIOS]
    assert [len(kept) for kept in cuts] == [kept_count(60, ratio) for ratio in RATIOS]
    for smaller, larger in zip(cuts, cuts[1:], strict=False):
        assert smaller < larger


@every_method
@pytest.mark.parametrize("keep_ratio", RATIOS)
def test_a_cut_of_its_score_at_its_own_ratio_is_what_it_keeps(name, keep_ratio):
    run = select(name, toy(name), keep_ratio)
    assert run.cut(keep_ratio).kept_keys == run.kept_keys


@every_method
def test_a_method_of_one_score_chooses_the_same_at_every_ratio(name):
    if get_method(name).per_ratio:
        pytest.skip("its choice depends on the keep ratio")
    scores = [select(name, toy(name), ratio).columns["score"] for ratio in RATIOS]
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])


@every_method
def test_the_same_seed_selects_the_same(name, tmp_path):
    for folder in ("a", "b"):
        select(name, toy(name, seed=3), 0.6).save(tmp_path / folder / "run.json")
    for file in ("run.json", "run.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@every_method
def test_it_does_not_look_at_the_seed_alone(name):
    """Other losses, other features or another draw: something of the evidence is looked at."""
    kept = [select(name, toy(name, seed=seed), 0.5).kept_keys for seed in range(4)]
    assert len(set(kept)) > 1


@every_method
def test_killed_in_its_training_it_goes_on_to_the_same(name):
    whole = select(name, toy(name), 0.6)
    killed = toy(name, stop_after=5)
    try:
        found = select(name, killed, 0.6)
    except KeyboardInterrupt:
        found = select(name, killed, 0.6)
    for column, values in whole.columns.items():
        np.testing.assert_array_equal(found.columns[column], values, column)


@every_method
def test_what_it_selects_is_saved_and_loaded(name, tmp_path):
    evidence = toy(name)
    selection = select(name, evidence, 0.6, config_digest="c", libraries=["torchvision"])
    found = Selection.load(selection.save(tmp_path / "run.json"))
    assert found.kept_keys == selection.kept_keys and found.config_digest == "c"
    assert set(found.versions) == {"adapruner-det", "torch", "numpy", "torchvision"}
    assert found.columns["kept"].dtype == bool
    expected = class_column(evidence.samples.classes)["classes"]
    np.testing.assert_array_equal(found.columns["classes"], expected)


@every_method
def test_without_what_it_needs_it_is_refused_by_name(name):
    for missing in get_method(name).needs:
        evidence = toy(name, offers=offers_to(name) - {missing})
        with pytest.raises(DataError, match=f"{name!r} needs {missing}") as caught:
            select(name, evidence, 0.6)
        assert "it gives" in str(caught.value) and evidence.trained == 0


@every_method
def test_it_uses_nothing_that_it_does_not_say_it_needs(name):
    select(name, toy(name, offers=get_method(name).needs), 0.6)


class Noted(list):
    """The boxes of samples, of which evidence notes that they are read."""

    def __init__(self, boxes, evidence):
        super().__init__(boxes)
        self.evidence = evidence

    def __iter__(self):
        self.evidence.read.add(BOXES)
        return super().__iter__()


class Watched:
    """Evidence that remembers what was read of it."""

    def __init__(self, **known):
        super().__init__(**known)
        self.read = set()
        if self.samples.boxes is not None:
            self.samples = replace(self.samples, boxes=Noted(self.samples.boxes, self))

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
    evidence = toy(name, Watched)
    select(name, evidence, 0.6)
    assert evidence.read == get_method(name).needs


class Gaps:
    """Sample 7 was never seen, sample 9 not in every second epoch."""

    def signal(self, name):
        values = super().signal(name)
        values[:, 7] = np.nan
        values[::2, 9] = np.nan
        return values


@pytest.mark.parametrize(
    "name", [n for n in NAMES if get_method(n).needs & (SIGNALS | BOX_SIGNALS)]
)
def test_a_sample_that_was_never_seen_is_kept_last(name):
    run = select(name, toy(name, Gaps), 59 / 60)
    assert run.columns["key"][~run.columns["kept"]].tolist() == ["toy/0007"]
    assert select(name, toy(name, Gaps), 1.0).num_kept == 60
    assert np.isfinite(run.columns["score"][9])


#: The methods of this package, and those of them that want one class a sample.
OWN = {n for n in NAMES if get_method(n).choose.__module__.startswith("adapruner_det.")}
CLASSED = {"cg-score", "glister", "herding", "moderate"}


@every_method
@pytest.mark.parametrize("odd", [[0, 1], [2, 2], []])
def test_samples_of_other_than_one_class_are_served_or_refused_by_name(name, odd):
    classes = [[i % 3] for i in range(60)]
    classes[4], classes[31] = odd, odd
    evidence = toy(name)
    boxes = some_boxes([len(own) for own in classes], np.random.default_rng(0))
    evidence.samples = replace(evidence.samples, classes=classes, boxes=boxes)
    try:
        assert select(name, evidence, 0.6).num_kept == 36
    except DataError as error:
        assert repr(name) in str(error) and (name in CLASSED or name not in OWN)
        if name in CLASSED:
            assert f"2 of 60 have none or several, first toy/0004 with {len(odd)};" in str(error)
    else:
        assert name not in CLASSED


@every_method
@pytest.mark.parametrize("keep_ratio", [0.0, -1.0, 1.5, float("nan")])
def test_a_keep_ratio_outside_0_to_1_is_refused(name, keep_ratio):
    evidence = toy(name)
    with pytest.raises(DataError, match=r"\(0, 1\]"):
        select(name, evidence, keep_ratio)
    assert evidence.trained == 0


@every_method
def test_samples_that_were_left_out_are_on_record(name):
    evidence = toy(name)
    evidence.samples = replace(evidence.samples, excluded={"toy/x": "cut short"})
    assert select(name, evidence, 0.6).excluded == {"toy/x": "cut short"}
