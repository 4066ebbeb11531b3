import inspect
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.methods import base
from adapruner_det.methods.base import Choice, get_method, make_selection, method_names, register

from .evidence import ToyEvidence, samples

RATIO = 0.5


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry of this test's own."""
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))


def by_index(evidence, keep_ratio):
    return Choice(np.arange(len(evidence.samples)))


def answering(choice):
    register("it", needs=["loss"])(lambda evidence, keep_ratio: choice)
    return base.select("it", ToyEvidence(10), RATIO)


def test_a_registered_function_is_found_with_what_it_needs():
    assert register("by-index", needs=["margin"], per_ratio=True)(by_index) is by_index
    method = get_method("by-index")
    assert method.choose is by_index and method.per_ratio
    assert method.needs == {"margin"} and "by-index" in method_names()


def test_a_name_is_taken_once_and_the_same_function_may_come_again():
    register("by-index")(by_index)
    register("by-index")(by_index)
    with pytest.raises(ValueError, match=r"'by-index' already: .*test_base\.by_index"):
        register("by-index")(answering)


def test_a_function_of_that_name_in_another_module_is_another():
    def random(evidence, keep_ratio):
        return by_index(evidence, keep_ratio)

    own = get_method("random").choose
    random.__qualname__ = own.__qualname__
    with pytest.raises(ValueError, match=r"'random' already: adapruner_det\.methods\.random"):
        register("random")(random)
    assert get_method("random").choose is own


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(DataError, match="no method 'zzz'; there are .*adapruner, .*random"):
        get_method("zzz")
    with pytest.raises(
        DataError, match=r"'adaprunner'; did you mean adapruner\? there are .*random"
    ):
        get_method("adaprunner")
    with pytest.raises(DataError, match=r"'el3n'; did you mean el2n\? there are "):
        get_method("el3n")


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package that is installed and announces methods."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_methods.py").write_text(
        "import numpy as np\n"
        "from adapruner_det.methods import Choice, register\n"
        "@register('theirs')\n"
        "def theirs(evidence, keep_ratio):\n"
        "    return Choice(-np.arange(len(evidence.samples)))\n"
    )
    (tmp_path / "their_broken.py").write_text("raise RuntimeError('no\\nGPU')\n")
    (tmp_path / "their_empty.py").write_text("")
    (tmp_path / "their_random.py").write_text(
        "from adapruner_det.methods import register\n"
        "@register('random')\n"
        "def random(evidence, keep_ratio):\n"
        "    raise AssertionError\n"
    )
    points = [
        EntryPoint(name, module, base.ENTRY_POINTS)
        for name, module in (
            ("theirs", "their_methods"),
            ("broken", "their_broken"),
            ("empty", "their_empty"),
            ("random", "their_random"),
        )
    ]
    monkeypatch.setattr(base, "entry_points", lambda group: points)
    yield
    for name in ("their_methods", "their_broken", "their_empty", "their_random"):
        sys.modules.pop(name, None)


def test_a_method_of_another_package_is_imported_when_it_is_asked_for(other_package):
    assert "theirs" in method_names() and "their_methods" not in sys.modules
    assert base.select("theirs", ToyEvidence(10), RATIO).kept_keys == set(samples(10).keys[5:])
    assert "their_broken" not in sys.modules


def test_another_package_that_does_not_load_is_named_in_one_line(other_package):
    with pytest.raises(DataError, match="'broken' of their_broken cannot be loaded: .*no.*GPU"):
        get_method("broken")
    with pytest.raises(DataError, match="no method 'empty'"):
        get_method("empty")


def test_another_package_that_takes_a_name_of_ours_is_not_passed_over(other_package):
    taken = "'random' of their_random cannot be loaded: there is a method 'random' already: adaprun"
    with pytest.raises(DataError, match=taken):
        get_method("random")


def test_the_lower_score_is_kept_first():
    assert answering(Choice(-np.arange(10.0))).kept_keys == set(samples(10).keys[5:])


def test_a_set_is_kept_as_it_was_chosen():
    kept = np.arange(10) % 2 == 0
    selection = answering(Choice(np.zeros(10), kept, {"extra": np.arange(10)}, 0.52, {"a": 1}))
    assert selection.kept_keys == set(samples(10).keys[::2])
    assert selection.columns["extra"].tolist() == list(range(10))
    assert (selection.soft_ratio, selection.parameters) == (0.52, {"a": 1})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (None, "gives NoneType, not a Choice"),
        (Choice(np.zeros(10), columns={"kept": np.zeros(10)}), "gives the column 'kept', which"),
        (Choice(np.zeros(9)), r"gives score of shape \(9,\) for 10 samples"),
        (Choice(np.zeros((10, 1))), r"gives score of shape \(10, 1\)"),
        (Choice(np.array([np.nan] * 10)), "a score that is NaN"),
        (Choice(np.zeros(10), columns={"x": np.zeros(3)}), r"gives x of shape \(3,\)"),
        (Choice(np.zeros(10), np.ones(10, bool)), "keeps 10 of 10 .*must keep 5"),
        (Choice(np.zeros(10), np.arange(10) % 2), "as int64; .*as bool"),
        (Choice(np.zeros(10), np.ones(5, bool)), r"gives kept of shape \(5,\)"),
    ],
)
def test_a_choice_that_cannot_be_is_a_fault_of_the_method(choice, message):
    with pytest.raises(ValueError, match=f"'it' .*{message}"):
        answering(choice)


def test_what_is_missing_is_named_with_what_there_is():
    register("it", needs=["margin", "features"])(by_index)
    with pytest.raises(DataError) as caught:
        base.select("it", ToyEvidence(offers=["loss", "correct"]), RATIO)
    assert str(caught.value) == (
        "the method 'it' needs features, margin, which this task does not give; it gives "
        "correct, loss"
    )
    with pytest.raises(DataError, match="nothing but the loss"):
        base.select("it", ToyEvidence(offers=[]), RATIO)


def test_a_selection_says_of_which_data_it_is():
    selection = make_selection(
        Choice(np.arange(4)), samples(4), method="x", keep_ratio=0.5, seed=7, config_digest="c"
    )
    assert selection.datasets == {"toy": "f" * 64} and selection.config_digest == "c"
    assert selection.columns["digest"].tolist() == samples(4).digests.tolist()
    assert selection.class_names == ("class 0", "class 1", "class 2")
    assert (selection.method, selection.keep_ratio, selection.seed) == ("x", 0.5, 7)
    assert selection.columns["kept"].tolist() == [True, True, False, False]


def test_who_asks_for_one_class_a_sample_says_so_when_it_is_registered():
    for name in method_names():
        method = get_method(name)
        source = inspect.getsource(sys.modules[method.choose.__module__])
        assert method.one_class == ("class_of_each(" in source), name
