"""The page: what a person can do with it in a real browser."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.report import page_data as page_data_module
from adapruner_det.report import thumbs
from adapruner_det.report.overrule import apply, identity, read_decisions
from adapruner_det.report.page import write_report
from adapruner_det.report.predictions import Predicted
from tests.report.browser import Opened
from tests.report.examples import (
    BITES,
    CLASSES,
    many,
    pictures,
    selection,
    written,
)

KEYS = {image_id: f"toy/{image_id}" for image_id in "abcdefg"}


def test_it_opens_and_shows_what_was_dropped(opened):
    page = opened.page
    assert opened.count() == 6 and opened.shown() == 4
    assert set(opened.keys()) == {KEYS["b"], KEYS["c"], KEYS["d"], f"toy/{BITES[2]}"}
    assert opened.keys()[0] == KEYS["b"]  # the first to go
    assert opened.requests == [opened.path.as_uri()]  # and thumbnails, which lie in it
    opened.wait("[...document.images].every(own => own.complete && own.naturalWidth)")
    assert page.evaluate("window.bitten") is None
    assert BITES[2] in page.inner_text("#grid") and CLASSES[1] in page.inner_text("#classes")
    for place in ("history", "losses", "sizes", "objects"):
        assert page.locator(f"#{place} svg[role=img]").get_attribute("aria-label")
    assert not page.locator("#no-history").is_visible()


def test_every_dropped_image_says_why_in_words(opened):
    texts = {image_id: opened.card(KEYS[image_id]).inner_text() for image_id in "bcd"}
    assert "Fault: No prediction agrees with box 2" in texts["b"] and "1 sure pred" in texts["b"]
    words = opened.card(KEYS["b"]).locator("svg text").all_text_contents()
    assert words == [CLASSES[0], f"2 {CLASSES[1]}"[:30], f"{CLASSES[2]}?"]  # the box, and the want
    assert opened.card(KEYS["d"]).locator("svg text").all_text_contents() == [CLASSES[0]]
    assert "Twin of a, which stays." in texts["c"]
    assert "Easy: the model is sure of it." in texts["d"]
    assert opened.card(KEYS["c"]).locator("img").count() == 2  # the twin beside it
    assert opened.card(KEYS["d"]).locator("img").count() == 1


def test_of_a_fault_that_predictions_agree_with_the_box_they_meet_least_is_named(browser, tmp_path):
    where, classes = np.array([[40.0, 20, 60, 40], [10.0, 8, 30, 24]]), np.array([1, 0])
    said = Predicted(where, classes, np.array([0.9, 0.6]))
    found = Opened(browser, written(tmp_path, predictions={KEYS["b"]: said, KEYS["d"]: said}))
    card = found.card(KEYS["b"])
    assert "Fault: The predictions meet box 1 (cat) least." in card.inner_text()
    assert card.locator("svg text").first.text_content() == "1 cat"
    assert "Easy: " in found.card(KEYS["d"]).inner_text()
    assert found.card(KEYS["d"]).locator("svg text").all_text_contents() == [CLASSES[0]]
    card.locator("img").click()
    words = found.page.inner_text("#view .view-body")
    assert "against its annotation: The predictions meet box 1 (cat) least." in words
    assert "The numbers are those of the boxes" in words
    found.close()


def test_what_would_go_as_a_twin_shows_the_one_that_stays_once_the_slider_sends_it(
    browser, tmp_path, monkeypatch
):
    def reasons(own):
        later = ["twin" if key == KEYS["g"] else "" for key in own.columns["key"].tolist()]
        return own.columns["why"].tolist(), later

    monkeypatch.setattr(page_data_module, "_reasons", reasons)
    own = selection()
    same = np.isin(own.columns["key"], [KEYS["e"], KEYS["g"]])
    groups = np.where(same, 77, own.columns["twin_group"])
    found = Opened(browser, written(tmp_path, selection(columns={"twin_group": groups})))
    found.show(state="all")
    found.card(KEYS["g"]).locator("img").click()
    assert "its twin" not in found.page.inner_text("#view")
    found.page.keyboard.press("Escape")
    found.slide(2)
    card = found.card(KEYS["g"])
    assert "Twin of e, which stays." in card.inner_text() and card.locator("img").count() == 2
    card.locator("img").first.click()
    assert "its twin e, kept" in found.page.inner_text("#view")
    found.close()


def test_filters_by_state_class_reason_score_and_key(opened):
    opened.show(state="all")
    assert opened.shown() == 10
    opened.show(state="kept")
    assert opened.shown() == 6
    opened.show(state="all", **{"class": "2"})
    assert set(opened.keys()) == {KEYS["c"], KEYS["f"], KEYS["g"]}
    opened.show(**{"class": ""}, why="=twin")
    assert opened.keys() == [KEYS["c"]]
    opened.show(why="", low="2", high="3")
    assert set(opened.keys()) == {KEYS["f"], KEYS["g"]}
    opened.show(low="", high="", key="<SCRIPT>")
    assert opened.keys() == [f"toy/{BITES[0]}"]
    opened.show(key="none of these")
    assert opened.shown() == 0 and opened.page.locator("#nothing").is_visible()
    opened.show(key="", order="key")
    assert opened.keys() == sorted(KEYS.values()) or opened.keys() == sorted(opened.keys())
    opened.show(order="cut")
    assert opened.keys()[0] in (f"toy/{BITES[1]}", f"toy/{BITES[2]}")


def row_of(page, name):
    rows = page.locator("#classes tbody tr")
    texts = [rows.nth(i).locator("th").inner_text() for i in range(rows.count())]
    return rows.nth(texts.index(name)).locator("td").all_inner_texts()


def test_the_slider_shows_what_would_go_and_what_it_costs(opened):
    page = opened.page
    assert row_of(page, "cat")[1:] == ["3 of 6", "3 of 6", "0"]
    opened.slide(2)  # a and e stay
    assert opened.count() == 2
    assert row_of(page, "cat")[1:] == ["1 of 6", "1 of 6", "−33.3"]
    assert row_of(page, "red panda")[1] == "0 of 3"
    assert "Lost: red panda" in page.inner_text("#cut-cost")
    opened.show(state="moved")
    assert set(opened.keys()) == {KEYS["f"], KEYS["g"], f"toy/{BITES[0]}", f"toy/{BITES[1]}"}
    assert "would go" in opened.card(KEYS["f"]).inner_text()
    assert re.search(r"(Easy|Hard): ", opened.card(KEYS["f"]).inner_text())
    opened.slide(10)
    assert opened.count() == 10 and row_of(page, "cat")[3] == "+50.0"
    page.click("#reset-cut")
    assert opened.count() == 6
    for _ in range(3):
        page.click("#undo")
    assert opened.count() == 6 and page.locator("#undo").is_disabled()


def test_flips_by_click_and_key_with_undo_and_redo(opened):
    page = opened.page
    opened.card(KEYS["b"]).locator(".flip").click()
    assert opened.count() == 7 and "by you: 1 called back, 0 sent away" in page.inner_text(
        "#changes"
    )
    assert "✓ Kept" in opened.card(KEYS["b"]).inner_text()  # it stays in sight
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert opened.count() == 9
    page.keyboard.press("u")
    page.keyboard.press("Control+z")
    assert opened.count() == 7
    page.keyboard.press("U")
    assert opened.count() == 8
    page.keyboard.press("Control+y")
    assert opened.count() == 9 and page.locator("#redo").is_disabled()
    page.click("#undo")
    assert opened.count() == 8
    page.keyboard.press("g")
    page.keyboard.press("x")  # the card that the focus is on again
    assert opened.count() in (7, 9)
    assert (
        "kept" in page.inner_text("#live").lower() or "dropped" in page.inner_text("#live").lower()
    )


def test_a_flip_shows_in_the_classes_at_once(opened):
    opened.card(KEYS["c"]).locator(".flip").click()
    assert row_of(opened.page, "red panda")[1] == "3 of 3"
    opened.page.click("#undo")
    assert row_of(opened.page, "red panda")[1] == "2 of 3"


def test_all_that_is_shown_can_be_flipped_as_one_step(opened):
    opened.show(state="all", **{"class": "0"})
    opened.page.click("#drop-shown")
    assert opened.count() == 3
    opened.page.click("#keep-shown")
    assert opened.count() == 9
    opened.page.click("#undo")
    opened.page.click("#undo")
    assert opened.count() == 6


def test_keys_walk_over_the_cards_and_open_one(opened):
    page = opened.page
    focused = "document.activeElement.dataset.key"
    page.keyboard.press("g")
    assert page.evaluate(focused) == KEYS["b"]
    page.keyboard.press("End")
    assert page.evaluate(focused) == f"toy/{BITES[2]}"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#view").is_visible() and page.inner_text("#view-title") == "c"
    words = page.inner_text("#view .view-body")
    assert "Twin of a, which stays." in words and "its twin a, kept" in words
    assert "mean loss" in words and "20 × 16" in words
    page.keyboard.press("x")
    assert opened.count() == 7 and page.inner_text("#view-flip") == "Drop it"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#view-title") == "d"
    page.keyboard.press("Escape")
    assert not page.locator("#view").is_visible() and page.evaluate(focused) == KEYS["d"]
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("sux")  # letters of a search are no commands
    assert page.locator("#f-key").input_value() == "sux" and opened.count() == 7


def test_boxes_and_predictions_can_be_switched(opened):
    page = opened.page
    outlines = opened.card(KEYS["b"]).locator("svg rect[fill=none]")
    # Two boxes and a prediction without one, each dark below and coloured above.
    assert outlines.count() == 6
    assert CLASSES[0] in opened.card(KEYS["b"]).locator("svg").text_content()
    assert page.inner_text("#s-predicted-label").split() == ["Predictions", "of", "1", "image"]
    page.check("#s-predicted")
    assert outlines.count() == 8
    page.uncheck("#s-boxes")
    assert outlines.count() == 4
    page.keyboard.press("p")
    assert outlines.count() == 0
    page.keyboard.press("b")
    assert outlines.count() == 6


def test_a_prediction_is_told_from_boxes_by_its_dots(opened):
    opened.page.check("#s-predicted")
    dashes = opened.card(KEYS["b"]).locator("svg rect[stroke-dasharray]")
    found = [dashes.nth(i).get_attribute("stroke-dasharray") for i in range(dashes.count())]
    assert found.count("1.5 2.5") == 2 and set(found) == {"", "1.5 2.5"}


def test_a_box_lies_where_it_is_in_the_image(opened):
    frame = opened.card(KEYS["d"]).locator("svg").bounding_box()
    first = opened.card(KEYS["d"]).locator("svg rect[fill=none]").first.bounding_box()
    scale = min(frame["width"] / 64, frame["height"] / 48)
    left = frame["x"] + (frame["width"] - 64 * scale) / 2
    top = frame["y"] + (frame["height"] - 48 * scale) / 2
    found = [first["x"] - left, first["y"] - top, first["width"], first["height"]]
    assert np.allclose(found, np.array([10, 8, 20, 16]) * scale, atol=4)


def test_every_image_and_control_has_a_name(opened):
    page = opened.page
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    alt = opened.card(KEYS["d"]).locator("img").get_attribute("alt")
    assert alt == "d: cat, 1 box"
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(own => !(own.ariaLabel ||"
        "own.textContent.trim() || own.labels?.length)).map(own => own.outerHTML)"
    )
    assert nameless == []
    label = opened.card(KEYS["b"]).get_attribute("aria-label")
    assert label.startswith("b: Dropped. Fault")


def test_decisions_are_saved_loaded_and_applied(opened, tmp_path):
    page = opened.page
    opened.card(KEYS["b"]).locator(".flip").click()
    opened.show(state="kept")
    opened.card(KEYS["g"]).locator(".flip").click()
    assert "not saved" in page.inner_text("#changes")
    place = opened.save(tmp_path / "decisions.json")
    assert "not saved" not in page.inner_text("#changes")
    own = selection()
    decisions = read_decisions(place)
    assert decisions.selection == identity(own) and decisions.num_kept == 6
    assert decisions.keep == {KEYS["b"]} and decisions.drop == {KEYS["g"]}
    found = apply(own, decisions)
    assert found.num_kept == opened.count() == 6
    page.click("#undo")
    page.click("#undo")
    page.set_input_files("#load", place)
    opened.wait("document.getElementById('live').textContent.includes('loaded')")
    assert "1 called back, 1 sent away" in page.inner_text("#changes") and opened.count() == 6
    page.click("#undo")
    assert "nothing changed" in page.inner_text("#changes")


def test_decisions_on_another_ratio_and_bad_names_are_what_the_page_showed(opened, tmp_path):
    opened.slide(3)
    opened.show(state="all")
    opened.card(f"toy/{BITES[0]}").locator(".flip").click()
    assert opened.count() == 4
    found = apply(selection(), read_decisions(opened.save(tmp_path / "decisions.json")))
    assert found.kept_keys == {KEYS["a"], KEYS["e"], KEYS["f"], f"toy/{BITES[0]}"}


def test_an_image_goes_by_its_file_where_that_is_known(browser, tmp_path):
    own = selection()
    shown = pictures(own)
    shown[KEYS["b"]] = replace(shown[KEYS["b"]], file="<b>IMG_0042.jpg")
    shown[KEYS["a"]] = replace(shown[KEYS["a"]], file="one.png")
    found = Opened(browser, written(tmp_path, own, pictures=shown))
    page = found.page
    assert "<b>IMG_0042.jpg" in found.card(KEYS["b"]).inner_text()
    tip = found.card(KEYS["b"]).locator(".key").get_attribute("title")
    assert tip == f"<b>IMG_0042.jpg · {KEYS['b']}"
    assert "Twin of one.png, which stays." in found.card(KEYS["c"]).inner_text()
    assert page.inner_text("#f-key-words") == "Key or file contains"
    found.show(key="img_00")
    assert found.keys() == [KEYS["b"]]
    found.card(KEYS["b"]).locator("img").click()
    assert page.inner_text("#view-title") == "<b>IMG_0042.jpg"
    assert KEYS["b"] in page.inner_text("#view .view-body")
    page.keyboard.press("Escape")
    found.show(key=KEYS["c"])
    assert found.keys() == [KEYS["c"]]
    found.close()


def test_what_a_person_said_holds_when_the_slider_moves_on(opened):
    opened.card(KEYS["b"]).locator(".flip").click()
    opened.slide(1)
    assert opened.count() == 2
    opened.slide(10)
    assert opened.count() == 10
    assert "nothing by you" in opened.page.inner_text("#changes")  # the cut keeps it by itself
    opened.slide(6)
    assert opened.count() == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"selection": "0" * 64}, "another selection"),
        ({"adapruner_det_decisions": 2}, "no file of decisions"),
        ({"num_kept": 99}, "out of range"),
        ({"keep": ["toy/nobody"]}, "not here"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(opened, tmp_path, change, words):
    good = {
        "adapruner_det_decisions": 1,
        "selection": identity(selection()),
        "num_kept": 6,
        "keep": [],
        "drop": [KEYS["a"]],
    }
    (tmp_path / "d.json").write_text(json.dumps(good | change))
    opened.page.set_input_files("#load", tmp_path / "d.json")
    opened.wait("document.getElementById('live').textContent.includes('cannot')")
    assert words in opened.page.inner_text("#live") and opened.count() == 6
    assert opened.page.locator("#undo").is_disabled()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_a_desk_in_both_schemes(browser, report, width, scheme):
    found = Opened(browser, report, width=width, color_scheme=scheme)
    page = found.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", colour)[0]) < 80) == (scheme == "dark")
    columns = len({own["x"] for own in (c.bounding_box() for c in page.locator(".card").all())})
    assert columns == (2 if width == 360 else 4)
    for control in page.locator("#filters select, #filters input").all():
        box, label = control.bounding_box(), control.locator("..").bounding_box()
        inside = page.locator("#filters").bounding_box()
        for place in (label, inside):
            assert place["x"] <= box["x"]
            assert box["x"] + box["width"] <= place["x"] + place["width"] + 0.5
    heads = [h.bounding_box() for h in page.locator("#classes thead th:visible").all()]
    cells = page.locator("#classes tbody tr").first.locator("th:visible, td:visible").all()
    assert len(heads) == len(cells) == (4 if width == 360 else 5)
    assert np.allclose([h["x"] for h in heads], [c.bounding_box()["x"] for c in cells])
    page.keyboard.press("g")
    page.keyboard.press("Enter")
    box = page.locator("#view").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    found.close()


def test_of_very_many_images_only_those_in_sight_are_there(browser, tmp_path):
    own = many(10_000, 0.5)
    path = write_report(own, tmp_path / "report.html", {})
    found = Opened(browser, path)
    found.show(state="all", order="key")
    assert found.shown() == 10_000
    page = found.page
    page.keyboard.press("g")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.key") == "toy/009999"
    for share in (0.25, 0.5, 0.75):
        page.evaluate(f"scrollTo(0, document.body.scrollHeight * {share})")
        page.evaluate("new Promise(done => setTimeout(done, 100))")
        assert page.locator(".card").count() < 120
        card = page.locator(".card").nth(20)
        place, key = card.get_attribute("aria-posinset"), card.get_attribute("data-key")
        assert int(place) - 1 == int(key.removeprefix("toy/"))
        middle = page.evaluate("document.elementFromPoint(300, 500)?.closest('.card') !== null")
        assert middle
    found.slide(9_000)
    assert found.count() == 9_000
    found.close()


def test_thumbnails_in_a_folder_are_found_and_nothing_else_is_asked_for(
    browser, tmp_path, monkeypatch
):
    monkeypatch.setattr(thumbs, "MOST_INLINE", 5)
    found = Opened(browser, written(tmp_path))
    found.wait(
        "document.images.length && [...document.images].every(o => o.complete && o.naturalWidth)"
    )
    names = {url.rpartition("/")[2] for url in found.requests} - {"report.html"}
    assert names and all(re.fullmatch(r"\d\d\.webp", name) for name in names)
    found.close()


def test_classes_of_images_a_method_without_losses_and_no_images_at_all(browser, tmp_path):
    own = many(12)
    found = Opened(browser, written(tmp_path, own, pictures=pictures(own, boxes=False)))
    page = found.page
    assert not page.locator("#sizes-panel").is_visible()
    assert not page.locator("#objects-panel").is_visible()
    assert page.locator("#no-history").is_visible() and not page.locator("#history").is_visible()
    assert page.inner_text("#losses-title") == "Scores"
    assert "By its score." in page.locator(".card").first.inner_text()
    assert "labelled " in page.locator(".card").first.inner_text()
    found.close()
    found = Opened(browser, written(tmp_path, own, pictures={}))
    assert "image not at hand" in found.page.locator(".card").first.inner_text()
    found.close()
