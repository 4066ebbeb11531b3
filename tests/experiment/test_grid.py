from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.errors import DataError
from adapruner_det.experiment.grid import Grid, cells, parse_method
from adapruner_det.methods import base
from adapruner_det.methods.base import Method
from adapruner_det.neighbours import thumbnails_identity
from tests.experiment.toy import EPOCHS, OPTIONS, N, make_toy


@pytest.fixture
def task(tmp_path):
    return make_toy(tmp_path)


def described(found):
    return [(cell.kind, cell.label, cell.keep_ratio, cell.budget, cell.seed) for cell in found]


def test_a_dynamic_reference_is_trained_once_a_seed_beside_all_samples(task):
    grid = Grid(("random",), (0.7, 0.4), (5, 6), ("steps",), ("infobatch",))
    found = cells(grid, task)
    own = [cell for cell in found if cell.method == "infobatch"]
    assert described(own) == [("train", "infobatch", 1.0, "epochs", seed) for seed in (5, 6)]
    assert [cell.needs for cell in own] == [(), ()] and own[0].visits == N * EPOCHS
    rest = [cell.name for cell in found if cell not in own]
    assert rest == [cell.name for cell in cells(replace(grid, dynamic=()), task)]


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        (("random",), "no dynamic reference 'random'; there are infobatch"),
        (("infobatch", "infobatch"), "the dynamic are .*; give one or more, each once"),
    ],
)
def test_a_dynamic_reference_that_is_none_or_twice_is_refused(dynamic, said, task):
    with pytest.raises(DataError, match=said):
        Grid(("random",), (0.7,), dynamic=dynamic)
    with pytest.raises(DataError, match="no method 'infobatch'"):
        cells(Grid(("infobatch",), (0.7,)), task)


def test_the_cells_of_a_small_grid(task):
    grid = Grid(("random", "toy_guided"), (0.7, 0.4), (5,), ("epochs", "steps"))
    found = cells(grid, task)
    assert described(found) == [
        ("train", "full", 1.0, "epochs", 5),
        ("select", "random", None, "", 5),
        ("train", "random", 0.7, "epochs", 5),
        ("train", "random", 0.7, "steps", 5),
        ("train", "random", 0.4, "epochs", 5),
        ("train", "random", 0.4, "steps", 5),
        ("select", "toy_guided", 0.7, "", 5),
        ("train", "toy_guided", 0.7, "epochs", 5),
        ("train", "toy_guided", 0.7, "steps", 5),
        ("select", "toy_guided", 0.4, "", 5),
        ("train", "toy_guided", 0.4, "epochs", 5),
        ("train", "toy_guided", 0.4, "steps", 5),
    ]
    full = N * EPOCHS
    assert [cell.visits / full for cell in found] == [1, 0, 0.7, 1, 0.4, 1, 1, 0.7, 1, 1, 0.4, 1]
    assert {cell.task for cell in found} == {task.identity}
    assert [cell.needs for cell in found[:3]] == [(), (), (found[1],)]
    assert found[-1].needs == (found[-3],)


def test_one_record_a_seed_has_what_all_methods_need(task):
    grid = Grid(("toy_margin", "toy_loss", "toy_thumb", "random"), (0.7,), (0, 1))
    found = cells(grid, task)
    records = [cell for cell in found if cell.kind == "record"]
    (thumbs,) = (cell for cell in found if cell.kind == "thumbnails")
    assert [cell.seed for cell in records] == [0, 1] and found[0] == thumbs
    assert {cell.signals for cell in records} == {("features", "loss", "margin", "predictions")}
    assert thumbs.task == thumbnails_identity(task.samples)
    needs = {cell.method: cell.needs for cell in found if cell.kind == "select" and cell.seed == 1}
    assert needs == {
        "toy_margin": (records[1],),
        "toy_loss": (records[1],),
        "toy_thumb": (thumbs,),
        "random": (),
    }


METHODS = ["random", "toy_guided", "toy_guided[WARMUP_EPOCHS=0]", "toy_loss", "toy_thumb"]


@given(
    st.lists(st.sampled_from(METHODS), min_size=1, unique=True),
    st.lists(st.sampled_from([1.0, 0.9, 0.5, 0.1]), min_size=1, unique=True),
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    st.sampled_from([("epochs",), ("steps",), ("epochs", "steps")]),
)
def test_cells_come_after_what_they_need_and_once(methods, ratios, seeds, budgets):
    found = cells(Grid(tuple(methods), tuple(ratios), tuple(seeds), budgets), make_toy("."))
    names = [cell.name for cell in found]
    assert len(set(names)) == len(names)
    for number, cell in enumerate(found):
        assert all(need.name in names[:number] for need in cell.needs)
    trained = [cell for cell in found if cell.kind == "train"]
    assert len(trained) == len(seeds) * (1 + len(methods) * len(ratios) * len(budgets))


def test_a_method_that_needs_what_the_task_does_not_give_is_refused_by_name(tmp_path):
    task = make_toy(tmp_path, given=())
    with pytest.raises(DataError, match="'toy_margin' needs margin, .* it gives features, loss"):
        cells(Grid(("random", "toy_margin"), (0.7,)), task)


@pytest.mark.parametrize("more", [0, 1])
def test_a_method_that_needs_a_longer_training_is_refused(task, monkeypatch, more):
    slow = Method("slow", lambda *_: None, epochs=EPOCHS + more)
    monkeypatch.setitem(base._METHODS, "slow", slow)
    words = f"'slow' needs .* {EPOCHS + 1} epoch.* has {EPOCHS}$"
    with pytest.raises(DataError, match=words) if more else nullcontext():
        cells(Grid(("slow",), (0.7,)), task)


def test_a_method_that_cannot_do_what_its_options_say_is_refused_with_them(task, monkeypatch):
    asked = []

    def check(options, samples, epochs, keep_ratio):
        asked.append((options["ALPHA_END"], options["CONTROLLER"], len(samples), epochs))
        if keep_ratio < 0.5 and options["ALPHA_END"] > 6:
            raise DataError(f"{keep_ratio} is too low")

    careful = Method("careful", lambda *_: None, options=frozenset(OPTIONS), check=check)
    monkeypatch.setitem(base._METHODS, "careful", careful)
    assert cells(Grid(("careful[ALPHA_END=7]",), (0.7,)), task)
    with pytest.raises(DataError) as error:
        cells(Grid(("careful", "careful[ALPHA_END=7]"), (0.7, 0.4)), task)
    assert str(error.value) == "the method 'careful[ALPHA_END=7]': 0.4 is too low"
    seen, given = (7.0, "dual", N, EPOCHS), (5.0, "dual", N, EPOCHS)
    assert asked == [seen, given, given, seen, seen]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("toy_guided[ALPHA_END=1,WARMUP_EPOCHS=0]", "toy_guided[WARMUP_EPOCHS=0, ALPHA_END=1.0]"),
        ("toy_guided", "toy_guided[ALPHA_END=5]"),  # which the task has itself
    ],
)
def test_a_method_given_twice_is_refused_however_it_is_written(task, first, again):
    with pytest.raises(DataError) as error:
        cells(Grid(("toy_guided[ALPHA_END=2]", first, again), (0.7,)), task)
    assert str(error.value).startswith(f"the method {again!r} is {first!r} again: ")


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("adapruner", "adapruner", {}),
        (" adapruner[] ", "adapruner", {}),
        ("adapruner[WARMUP_EPOCHS=0]", "adapruner", {"WARMUP_EPOCHS": 0}),
        (
            "adapruner[CONTROLLER=paper, ALPHA_END=2]",
            "adapruner",
            {"ALPHA_END": 2.0, "CONTROLLER": "paper"},
        ),
        ("adapruner[CLASS_BAND=5e-2]", "adapruner", {"CLASS_BAND": 0.05}),
        ("adapruner[DROP=]", "adapruner", {"DROP": ""}),
    ],
)
def test_how_methods_are_written(text, name, options):
    method, found = parse_method(text, OPTIONS)
    assert (method.name, found, list(found)) == (name, options, sorted(options))
    assert [type(value) for value in found.values()] == [type(v) for v in options.values()]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("nobody", "there is no method 'nobody'"),
        ("full", "there is no method 'full'"),
        ("", "not of the form"),
        ("adapruner[WARMUP_EPOCHS=0", "not of the form"),
        ("adapruner[WARMUP=0]", "COMPRESSION_LOSS, CONTROLLER, DROP, NORMALIZE, OBJECTIVE"),
        ("adapruner[KEEP_RATIO=0.5]", "'KEEP_RATIO=0.5' is not OPTION=value"),
        ("adapruner[WARMUP_EPOCHS]", "is not OPTION=value"),
        ("adapruner[WARMUP_EPOCHS=1.5]", "must be of the type int, as 1 is"),
        ("adapruner[WARMUP_EPOCHS=true]", "must be of the type int"),
        ("adapruner[ALPHA_END=x]", "must be of the type float"),
        ("adapruner[ALPHA_END=]", "must be of the type float"),
        ("adapruner[ALPHA_END=2,ALPHA_END=3]", "ALPHA_END is there twice; leave one of them out"),
        ("adapruner[CONTROLLER=3]", "must be of the type str"),
        ("adapruner[CONTROLLER={]", "cannot be read"),
        ("random[ALPHA_END=2]", "no effect on the method 'random'; of the options of ADAPRUNER it"),
        ("random[ALPHA_END=2]", "it reads none"),
        ("adapruner[ON_BAD_SAMPLE=skip]", "ON_BAD_SAMPLE has no effect on the method 'adapruner'"),
        ("adapruner[ON_BAD_SAMPLE=skip]", "it reads ALPHA_END, ALPHA_START, "),
    ],
)
def test_methods_that_are_refused(text, part):
    with pytest.raises(DataError) as caught:
        parse_method(text, {**OPTIONS, "ON_BAD_SAMPLE": "stop"})
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"methods": ()}, "methods are"),
        ({"methods": ("random", "random")}, "each once"),
        ({"keep_ratios": ()}, "keep_ratios are"),
        ({"keep_ratios": (0.5, 1.2)}, r"\(0, 1\]"),
        ({"keep_ratios": (0.5, 0.5)}, "each once"),
        ({"seeds": ()}, "seeds are"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (0, -1)}, "the seed is -1; it must be 0 to"),
        ({"seeds": (0, 2**63)}, "the seed is 9223372036854775808; it must be 0 to"),
        ({"budgets": ()}, "budgets are"),
        ({"budgets": ("hours",)}, "no budget 'hours'"),
    ],
)
def test_grids_that_are_refused(change, part):
    with pytest.raises(DataError, match=part):
        Grid(**{"methods": ("random",), "keep_ratios": (0.5,), **change})


def looks(options):
    return ["thumbnails", "nothing like it"] if options["ALPHA_END"] > 5 else []


def test_what_a_method_wants_with_its_options_is_made_for_it_where_it_can_be(task, monkeypatch):
    looking = replace(base._METHODS["toy_guided"], wants=looks)
    monkeypatch.setitem(base._METHODS, "toy_guided", looking)
    found = cells(Grid(("toy_guided", "toy_guided[ALPHA_END=6]"), (0.7,)), task)
    (thumbs,) = (cell for cell in found if cell.kind == "thumbnails")
    needs = {cell.label: cell.needs for cell in found if cell.kind == "select"}
    assert needs == {"toy_guided": (), "toy_guided[ALPHA_END=6.0]": (thumbs,)}
    task.offers = frozenset()
    found = cells(Grid(("toy_guided[ALPHA_END=6]",), (0.7,)), task)
    assert "thumbnails" not in {cell.kind for cell in found}


@pytest.mark.parametrize("name", ["herding", "moderate", "glister", "cg-score"])
def test_a_method_that_wants_one_class_a_sample_is_refused_where_there_are_several(
    task, tmp_path, name
):
    assert cells(Grid((name,), (0.7,)), task)
    task = make_toy(tmp_path)
    task.samples.classes[4] = [0, 1]
    with pytest.raises(DataError, match=f"{name!r} needs exactly one class a sample, and 1 of 60 "):
        cells(Grid((name,), (0.7,)), task)
    assert cells(Grid(("k-center",), (0.7,)), task)
