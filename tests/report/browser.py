"""A headless Chromium for tests of the page, where there is one.

Debian's package chromium and PyPI's playwright make it; ADAPRUNER_TEST_BROWSER names another
executable. Without them what needs it is skipped.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable():
    """Of a Chromium; empty where there is none."""
    found = os.environ.get("ADAPRUNER_TEST_BROWSER") or next(
        filter(None, map(shutil.which, NAMES)), ""
    )
    return found


@contextmanager
def running():
    """A browser, or a skip that says what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = executable()
    if not path:
        pytest.skip(f"no {', '.join(NAMES)} and no $ADAPRUNER_TEST_BROWSER")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page that is open, with what it asked for and complained of."""

    def __init__(self, browser, path, width=1200, height=1400, **context):
        self.path = Path(path)
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, accept_downloads=True, **context)
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.goto(self.path.as_uri())
        self.page.wait_for_selector("html[data-ready='1']")
        self.page.evaluate("document.getElementById('gallery').scrollIntoView()")
        self.wait("document.querySelectorAll('.card').length > 0")

    def wait(self, expression):
        """Until it is so; Playwright's own way is an eval, which the page's policy refuses."""
        for _ in range(600):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"not within 30 s: {expression}")

    def count(self):
        """How many images the page says are kept."""
        return int(self.page.inner_text("#count").split(" of ")[0].replace(",", ""))

    def shown(self):
        """How many images pass the filters."""
        return int(self.page.inner_text("#shown").split()[0].replace(",", ""))

    def keys(self):
        """The keys of the cards that are there, in the order of the page."""
        return self.page.eval_on_selector_all(".card", "own => own.map(c => c.dataset.key)")

    def card(self, key):
        """The card of a sample."""
        cards = self.page.locator(".card")
        return cards.nth(self.keys().index(key))

    def show(self, **filters):
        """Set filters by the ends of their ids and wait for what they show."""
        for name, value in filters.items():
            place = self.page.locator(f"#f-{name}")
            if place.evaluate("own => own.tagName") == "SELECT":
                place.select_option(value)
            else:
                place.fill(value)
        # By the page's own clock longer than it waits for more to be typed, on a slow machine too.
        self.page.evaluate("new Promise(done => setTimeout(done, 150))")

    def slide(self, value):
        """Move the slider to keep so many images."""
        self.page.evaluate(
            "v => { const s = document.getElementById('cut'); s.value = v;"
            "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change')); }",
            value,
        )

    def save(self, place):
        """The file of decisions that a click saves."""
        with self.page.expect_download() as download:
            self.page.click("#save")
        download.value.save_as(place)
        return place

    def close(self):
        """Close it; whatever it asked for from elsewhere, or complained of, fails the test."""
        folder = self.path.parent.as_uri()
        foreign = [
            url for url in self.requests if not url.startswith((folder, "data:", "blob:file"))
        ]
        self.context.close()
        assert not foreign and not self.complaints, (foreign, self.complaints)
