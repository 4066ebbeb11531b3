from dataclasses import replace

import numpy as np
import pytest

from adapruner_det import Selection
from adapruner_det.report.summary import (
    class_counts,
    class_kept_shares,
    classes_nearly_lost,
    summarize,
)


def selection(kept, mean_loss=None, soft_ratio=0.75, keep_ratio=0.75, classes=None, **header):
    n = len(kept)
    classes = [[0]] * n if classes is None else classes
    header = {"class_names": ["cat", "dog", "cow"], **header}
    return Selection(
        "adapruner",
        keep_ratio,
        0,
        {"toy": "f"},
        {
            "key": np.array(sorted(f"toy/{i}" for i in range(n))),
            "digest": np.zeros(n, np.uint64),
            "kept": np.array(kept, dtype=bool),
            "score": np.zeros(n),
            "mean_loss": np.array(mean_loss if mean_loss is not None else range(n), np.float32),
            "times_seen": np.arange(n, dtype=np.uint16) % 3 + 1,
            "classes": np.array([" ".join(map(str, own)) for own in classes]),
        },
        soft_ratio=soft_ratio,
        **header,
    )


def rows(text):
    return {line[:17].strip(): line[18:] for line in text.splitlines()}


def test_a_class_share_counts_images_and_not_objects():
    classes = [[0], [0, 1], [1], []]
    shares = class_kept_shares(selection([True, False, True, True], classes=classes))
    assert shares == {"cat": 1 / 2, "dog": 1 / 2}  # nothing of cows, which are not there
    shares = class_kept_shares(selection([1, 1, 0, 0], classes=classes))
    assert shares == {"cat": 1.0, "dog": 0.5}


def test_the_summary_has_ten_lines_that_can_be_checked_by_hand():
    # Dropped are 1, 4 and 6, of the losses 9, 2 and 5.
    # Cats are in 0 and 1, dogs in the first three and in 4 and 5: one of 2 and three of 5 stay.
    classes = [[0, 1], [0, 1], [1], [], [1], [1], [], []]
    kept, loss = [1, 0, 1, 1, 0, 1, 0, 1], [1, 9, 1, 1, 2, 1, 5, 1]
    chosen = selection(kept, loss, 0.63, 0.625, classes)
    text = summarize(chosen, 12.4, "out/selection.json", "python train.py --selection x")
    assert len(text.splitlines()) == 10
    got = rows(text)
    assert got["kept"] == "5 of 8 images (62.50%), 3 dropped"
    assert got["data sets"] == "toy"
    assert got["soft ratio"] == "0.6300 before the cut, asked 0.625: held"
    assert got["visits"] == "1 to 3 an image, 1.9 on average"
    assert got["kept by class"] == "cat 50.0%, dog 60.0%"
    assert got["class spread"] == "10.0 points, cat to dog"
    assert got["hardest dropped"] == "toy/1, toy/6, toy/4"
    assert got["easiest dropped"] == "toy/4, toy/6, toy/1"
    assert got["written"] == "out/selection.json after 12 s"
    assert got["train on it"] == "python train.py --selection x"


@pytest.mark.parametrize(
    ("soft", "held"), [(0.7301, "held"), (0.7299, "NOT HELD"), (0.7699, "held"), (0.78, "NOT HELD")]
)
def test_a_soft_ratio_further_off_than_the_tolerance_is_said_loudly(soft, held):
    text = summarize(selection([1, 1, 1, 0], soft_ratio=soft), 1, "s", "c")
    assert rows(text)["soft ratio"].endswith(f": {held}")


def test_a_run_that_drops_nothing_says_so():
    text = summarize(selection([1] * 4, None, 1.0, 1.0), 1, "s", "c")
    assert rows(text)["hardest dropped"] == rows(text)["easiest dropped"] == "none"


def test_of_many_classes_the_least_kept_are_shown():
    # Class i has 20 images of its own, of which i are dropped.
    classes = [[i] for i in range(20) for _ in range(20)]
    kept = [k >= i for i in range(20) for k in range(20)]
    names = [f"c{i:02d}" for i in range(20)]
    chosen = selection(kept, classes=classes, class_names=names)
    text = rows(summarize(chosen, 1, "s", "c"))
    assert text["kept by class"].startswith("c19 5.0%, c18 10.0%, c17 15.0%")
    assert text["kept by class"].endswith("c08 60.0% and 8 more")
    assert text["class spread"] == "95.0 points, c19 to c00"


def test_the_least_kept_class_stands_first_whichever_it_is():
    """The other way round as in the summary of ten lines."""
    classes = [[0], [0], [1], [1], [2], [2], [2]]
    text = rows(summarize(selection([1, 1, 0, 0, 1, 1, 0], classes=classes), 1, "s", "c"))
    assert text["kept by class"] == "dog 0.0%, cow 66.7%, cat 100.0%"
    assert text["class spread"] == "100.0 points, dog to cat"


def test_classes_that_are_kept_alike_have_no_least_and_no_most():
    alike = selection([1, 0, 1, 0], classes=[[0], [0], [1], [1]])
    said = "0.0 points, all classes are kept alike"
    assert rows(summarize(alike, 1, "s", "c"))["class spread"] == said
    all_but_one = selection([0] + [1] * 4000, classes=[[0]] + [[0]] * 2000 + [[1]] * 2000)
    assert rows(summarize(all_but_one, 1, "s", "c"))["class spread"] == said  # by 0.05 points
    alone = rows(summarize(selection([1, 0]), 1, "s", "c"))
    assert alone["class spread"] == "0.0 points, there is one class"


def test_three_of_each_end_are_named_and_one_that_was_never_seen_is_neither():
    chosen = selection([0] * 8 + [1], [4, 2, 9, 0, 7, 1, 8, 3, 99])
    chosen.columns["times_seen"][3] = 0  # its loss of 0 is none
    text = rows(summarize(chosen, 1, "s", "c"))
    assert text["hardest dropped"] == "toy/2, toy/6, toy/4"
    assert text["easiest dropped"] == "toy/5, toy/1, toy/7"
    assert text["visits"] == "0 to 3 an image, 1.9 on average"
    assert text["never finite"] == "toy/3: no finite loss, so they were cut first"


def test_what_went_as_easy_is_none_of_the_hardest_and_the_other_way_round():
    chosen = selection([0] * 5 + [1], [1, 2, 9, 8, 5, 3])
    why = np.array(["easy", "easy", "hard", "hard", "fault", ""])
    text = rows(summarize(replace(chosen, columns={**chosen.columns, "why": why}), 1, "s", "c"))
    assert text["hardest dropped"] == "toy/2, toy/3, toy/4"
    assert text["easiest dropped"] == "toy/0, toy/1, toy/4"
    easy = np.where(chosen.columns["kept"], "", "easy")
    text = rows(summarize(replace(chosen, columns={**chosen.columns, "why": easy}), 1, "s", "c"))
    assert text["easiest dropped"] == "toy/0, toy/1, toy/4" and "hardest dropped" not in text


def test_of_equal_losses_the_first_key_is_named_at_both_ends():
    text = rows(summarize(selection([0, 0, 0, 0, 1], [5, 5, 1, 1, 0]), 1, "s", "c"))
    assert text["hardest dropped"] == "toy/0, toy/1, toy/2"
    assert text["easiest dropped"] == "toy/2, toy/3, toy/0"


def test_what_a_method_does_not_know_has_no_line():
    chosen = selection([1, 1, 1, 0], soft_ratio=None)
    columns = {n: c for n, c in chosen.columns.items() if n not in ("mean_loss", "times_seen")}
    text = rows(summarize(replace(chosen, columns=columns), 1, "s", "c"))
    wanted = ["kept", "data sets", "kept by class", "class spread", "written", "train on it"]
    assert list(text) == wanted
    with_loss = replace(chosen, columns={**columns, "mean_loss": chosen.columns["mean_loss"]})
    assert rows(summarize(with_loss, 1, "s", "c"))["hardest dropped"] == "toy/3"


def test_the_reasons_are_counted_of_what_is_dropped():
    chosen = selection([1, 0, 0, 0, 0])
    why = np.array(["", "easy", "twin", "easy", ""])
    text = rows(summarize(replace(chosen, columns={**chosen.columns, "why": why}), 1, "s", "c"))
    assert text["dropped as"] == "easy 2, twin 1, unknown 1"
    assert "dropped as" not in rows(summarize(chosen, 1, "s", "c"))
    everything = selection([1, 1], None, 1.0, 1.0)
    columns = {**everything.columns, "why": np.array(["", ""])}
    text = rows(summarize(replace(everything, columns=columns), 1, "s", "c"))
    assert text["dropped as"] == "none"


def test_an_end_of_which_there_is_nothing_has_a_line():
    chosen = selection([1, 0], parameters={"drop": "twins"})
    columns = {**chosen.columns, "spare": np.zeros(2, dtype=bool)}
    text = rows(summarize(replace(chosen, columns=columns), 1, "s", "c"))
    assert text["nothing to drop"].startswith("no near-copies were found")
    columns["spare"][1] = True
    text = rows(summarize(replace(chosen, columns=columns), 1, "s", "c"))
    assert "nothing to drop" not in text


def test_without_known_classes_no_share_is_claimed():
    columns = {n: c for n, c in selection([1, 0]).columns.items() if n != "classes"}
    assert class_kept_shares(replace(selection([1, 0]), columns=columns)) == {}


def test_a_class_without_a_name_is_called_by_its_number():
    shares = class_kept_shares(selection([1, 0, 0], classes=[[2], [3], [7]]))
    assert shares == {"cow": 1.0, "class 3": 0.0, "class 7": 0.0}


def test_names_that_cannot_be_seen_are_escaped():
    chosen = selection([1, 0, 0], class_names=["a\nb"], excluded={"toy/x\x1b[2J": "cut short"})
    chosen = replace(chosen, columns={**chosen.columns, "key": np.array(["t/a", "t/b\n", "t/c"])})
    text = summarize(chosen, 1, "s", "c")
    assert "\x1b" not in text and len(text.splitlines()) == 11
    assert rows(text)["hardest dropped"] == "t/c, 't/b\\n'"
    assert rows(text)["kept by class"] == "'a\\nb' 33.3%"


def test_what_should_not_be_has_a_line_of_its_own():
    classes = [[0], [0], [1], [2], []]
    faulty = {f"toy/x{i}": "cut short" for i in range(5)}
    chosen = selection([1, 1, 0, 0, 1], classes=classes, excluded=faulty)
    text = rows(summarize(chosen, 1, "s", "c"))
    assert text["left out"] == "toy/x0, toy/x1, toy/x2 and 2 more: faulty, see the selection"
    assert text["classes lost"] == "dog, cow: no image of them is kept"
    assert "never finite" not in text


def test_images_without_objects_have_no_classes_to_show():
    text = rows(summarize(selection([1, 0], classes=[[], []]), 1, "s", "c"))
    assert text["kept by class"] == "no image has an object" and "class spread" not in text


def test_a_run_whose_loss_still_falls_has_a_line():
    text = {}
    for name, losses in (("falls", [8.0, 4.0, 2.0, 1.0]), ("flat", [8.0, 1.0, 1.0, 1.0])):
        chosen = selection([True, True, True, False], parameters={"epoch_losses": losses})
        text[name] = rows(summarize(chosen, 1.0, "s.json", "next"))
    assert text["falls"]["too short"].startswith("14% of the loss's fall came")
    assert "too short" not in text["flat"]


def test_a_class_far_below_the_ratio_is_named_with_what_holds_it():
    classes = [[0]] * 40 + [[1]] * 40 + [[2]] * 40
    kept = [1] * 36 + [0] * 4 + [1] * 36 + [0] * 4 + [1] * 18 + [0] * 22
    chosen = selection(kept, classes=classes)
    assert rows(summarize(chosen, 1, "s", "c")).get("few left of") is None  # 45% is above a half
    chosen = replace(chosen, keep_ratio=0.92)
    text = rows(summarize(chosen, 1, "s", "c"))["few left of"]
    assert text.startswith("cow: ADAPRUNER.CLASS_BAND 0.1 holds each class's share as near")
    few = selection([1] * 24 + [0] * 216, keep_ratio=0.1, classes=[[0]] * 120 + [[1]] * 120)
    assert "CLASS_BAND 0.025 holds" in rows(summarize(few, 1, "s", "c"))["few left of"]
    other = replace(chosen, method="random")
    assert "few left of" not in rows(summarize(other, 1, "s", "c"))


@pytest.mark.parametrize(("of", "named"), [(1, False), (3, False), (4, True), (30, True)])
def test_what_chance_may_take_of_a_class_is_no_news(of, named):
    """That all n images go: (0.7 n)^2 is above 9 * 0.7 * 0.3 * n from n = 3.9 on."""
    classes = [[0]] * 100 + [[1]] * of
    kept = [1] * 70 + [0] * 30 + [0] * of
    chosen = selection(kept, keep_ratio=0.7, classes=classes)
    assert ("dog" in classes_nearly_lost(class_counts(chosen), 0.7)) == named


def test_the_least_kept_of_several_lost_classes_stands_first():
    """By its share, not by how many images it has."""
    classes = [[0]] * 20 + [[1]] * 80 + [[2]] * 50
    kept = [1] * 4 + [0] * 16 + [1] * 8 + [0] * 72 + [1] * 50
    counts = class_counts(selection(kept, keep_ratio=0.6, classes=classes))
    assert classes_nearly_lost(counts, 0.6) == ["dog", "cat"]
