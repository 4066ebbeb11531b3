"""The page: what its text holds, and how a run leaves it."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from adapruner_det.errors import DataError
from adapruner_det.report import page as page_module
from adapruner_det.report import thumbs
from adapruner_det.report.overrule import identity
from adapruner_det.report.page import provenance, write_report_of_run
from tests.report.examples import (
    BITES,
    CLASSES,
    HISTORY,
    many,
    pictures,
    predictions,
    selection,
    written,
)

# --- its text ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = written(
        tmp_path_factory.mktemp("page"),
        predictions=predictions(),
        history=HISTORY,
        command="adapruner report --selection '<s>'",
    )
    return path.read_text()


def policy_of(text):
    return html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])


def test_its_policy_lets_through_its_own_style_script_and_images_alone(text):
    parts = dict(part.split(" ", 1) for part in policy_of(text).split("; "))
    assert parts["default-src"] == "'none'" and parts["img-src"] == "data:"
    for name, found in (
        ("style-src", re.findall(r"<style>(.*?)</style>", text, re.DOTALL)),
        ("script-src", re.findall(r"<script>(.*?)</script>", text, re.DOTALL)),
    ):
        (own,) = found
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert parts[name] == f"'sha256-{digest}'"
    for word in ("unsafe", "*", "http"):
        assert word not in policy_of(text)


def test_nothing_in_it_points_elsewhere(text):
    links = re.findall(r'(?:src|href|action|data|poster|srcset)="([^"]*)"', text)
    assert links == ["#gallery"]
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    schemes = set(re.findall(r"https?://[^\"'` ]+", text))
    assert schemes == {"http://www.w3.org/2000/svg"}  # the name of a language, not a place
    assert " on" + "click" not in text and "style=" not in text


def test_whatever_names_hold_is_text_in_it(text):
    assert "window.bitten=1" in text
    without = re.sub(r'<script type="application/json" id="data">(.*?)</script>', "", text)
    assert "<script>window" not in text and "<img" not in without and "<b>" not in without
    assert "&lt;script&gt;window.bitten=1&lt;/script&gt;" in without  # a parameter
    assert "&lt;b&gt;does not decode&lt;/b&gt;" in without  # why a sample was left out
    (data,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&") & set(data)
    assert json.loads(data)["classNames"] == list(CLASSES)
    assert {f"toy/{bite}" for bite in BITES} <= set(json.loads(data)["keys"])


def test_how_it_was_made_stands_there(text):
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
    own = selection()
    for part in (own.config_digest, own.datasets["toy"], identity(own), "Version of torch", "2.0"):
        assert part in plain
    assert "Command" not in plain
    assert "adapruner report --selection '<s>'" in plain


def test_the_commands_that_it_names_are_those_of_the_program(text):
    assert text.count("adapruner report --apply") == 2 and "tools/" not in text


def test_rows_of_what_is_not_known_are_left_out():
    names = [name for name, _ in provenance(many(4), "")]
    assert "Soft ratio" not in names and "Cut from a run for" not in names
    assert ("Cut from a run for", "0.5") in provenance(many(4).cut(0.25), "")
    assert ("Report made by", "x") in provenance(many(4), "x")
    own = replace(many(4), command="adapruner prune-net SEED 1")
    assert ("Command", "adapruner prune-net SEED 1") in provenance(own, "")


def test_the_same_selection_makes_the_same_page(tmp_path):
    first = written(tmp_path).read_bytes()
    (tmp_path / "again").mkdir()
    assert written(tmp_path / "again").read_bytes() == first


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


# --- where the thumbnails are ---------------------------------------------------------------------


def test_too_many_thumbnails_lie_in_a_folder_that_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbs, "MOST_INLINE", 5)
    path = written(tmp_path)
    folder = tmp_path / "report_thumbnails"
    assert data_of(path)["src"][0] == "report_thumbnails/00.webp"
    assert Image.open(folder / "00.webp").size == (64, 48)
    assert "img-src 'self' file: data:" in policy_of(path.read_text())
    written(tmp_path)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="mine.txt"):
        written(tmp_path)
    written(tmp_path, overwrite=True)
    assert (tmp_path / "report_thumbnails-old-1" / "mine.txt").read_text() == "mine"


def test_of_fewer_images_the_dropped_ones_and_those_next_to_the_cut_are_shown(tmp_path):
    own = many(20, 0.7)
    path = written(tmp_path, own, most_images=8)
    data = data_of(path)
    shown = {r for r, src in zip(data["rank"], data["src"], strict=True) if src}
    assert shown == {12, 13, *range(14, 20)}
    assert not any(data_of(written(tmp_path, own, most_images=0))["src"])


# --- of a run -------------------------------------------------------------------------------------


def test_a_run_leaves_it_with_its_history(tmp_path):
    lines = [
        json.dumps({"iteration": i, "adapruner/soft_ratio": 0.5, "adapruner/alpha": 1.0})
        for i in (19, 39)
    ]
    (tmp_path / "metrics.json").write_text("\n".join(lines))
    own = selection()
    path = write_report_of_run(own, tmp_path, lambda: pictures(own), "adapruner prune-net")
    assert path == tmp_path / "report.html"
    assert data_of(path)["history"]["steps"] == [19, 39]
    assert "adapruner prune-net" in path.read_text()
    elsewhere = write_report_of_run(own, tmp_path / "page", lambda: pictures(own), run=tmp_path)
    assert elsewhere == tmp_path / "page" / "report.html"
    assert data_of(elsewhere)["history"]["steps"] == [19, 39]


@pytest.mark.parametrize("error", [DataError("full"), ValueError("a fault"), MemoryError()])
def test_whatever_fails_in_it_is_one_warning(tmp_path, monkeypatch, caplog, error):
    def fails(*_, **__):
        raise error

    own = selection()
    assert write_report_of_run(own, tmp_path, fails) is None
    monkeypatch.setattr(page_module, "page_data", fails)
    assert write_report_of_run(own, tmp_path, lambda: pictures(own)) is None
    for record in caplog.records:
        assert record.levelname == "WARNING" and "could not be written" in record.getMessage()
        assert "\n" not in record.getMessage()
    assert len(caplog.records) == 2 and not list(tmp_path.iterdir())


def test_a_run_shows_what_its_model_predicts_or_goes_without(tmp_path, caplog):
    def fails():
        raise MemoryError("none is left\nat all")

    own = selection()

    def data(predictions):
        path = write_report_of_run(own, tmp_path, lambda: pictures(own), predictions=predictions)
        return data_of(path)

    assert [bool(said) for said in data(predictions)["predicted"]].count(True) == 1
    assert data(dict)["predicted"] is None and not caplog.messages
    assert data(fails)["predicted"] is None
    assert caplog.messages == ["report.html shows no predictions: none is left at all"]


def test_of_very_many_samples_a_run_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "_MOST_SAMPLES", 9)
    own = selection()
    assert write_report_of_run(own, tmp_path, lambda: pictures(own)) is None
    assert not list(tmp_path.iterdir())
