"""The bar with the slider: it holds still, and its words can be read."""

import pytest

from tests.report.browser import Opened


@pytest.mark.parametrize("width", [400, 700, 1000, 1280, 1920])
def test_the_slider_stays_where_it_is_whatever_the_words_about_it(browser, report, width):
    found = Opened(browser, report, width=width)
    words = found.page.inner_text("#changes")

    def place():  # in the bar, which a shorter page takes along
        cut, bar = (found.page.locator(own).bounding_box() for own in ("#cut", "#bar"))
        return cut["x"], cut["width"], round(cut["y"] - bar["y"])

    first = place()

    def same():
        return place() == first

    found.page.focus("#cut")
    found.page.keyboard.press("ArrowLeft")
    found.wait("document.getElementById('changes').textContent.includes('another ratio')")
    assert same() and (found.page.inner_text("#changes") != words or width == 400)
    found.slide(1)
    assert same()
    found.page.click("#keep-shown")
    assert "by you: " in found.page.text_content("#changes") and same()
    found.page.click("#reset-cut")
    assert same()
    found.close()


@pytest.mark.parametrize("width", [400, 1280])
def test_what_a_cut_costs_can_be_read_to_its_end(browser, report, width):
    found = Opened(browser, report, width=width)
    page = found.page
    high = page.locator("#bar").bounding_box()["height"]
    found.slide(4)
    assert page.inner_text("#cut-cost").endswith("points")
    page.focus("#cut")
    page.keyboard.press("ArrowRight")  # a key shows the ring
    ring, cost, fits = page.evaluate(
        "() => { const cut = document.getElementById('cut'), own = getComputedStyle(cut);"
        "const cost = document.getElementById('cut-cost');"
        "const wide = parseFloat(own.outlineWidth) + parseFloat(own.outlineOffset);"
        "return [wide + cut.getBoundingClientRect().bottom, cost.getBoundingClientRect().top,"
        "cost.scrollWidth <= cost.clientWidth && cost.scrollHeight <= cost.clientHeight]; }"
    )
    assert fits and ring <= cost
    found.slide(5)
    assert "fewer" in page.inner_text("#cut-cost")
    assert abs(page.locator("#bar").bounding_box()["height"] - high) < 1
    found.close()
