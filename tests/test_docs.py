"""The pages: what they link to is there, and all of them can be reached from the README."""

import os
import re

from adapruner_det.detection.evidence import BOX_SIGNALS, EVIDENCE
from adapruner_det.methods import get_method, method_names
from adapruner_det.methods.base import BOX_FEATURES, BOXES, FEATURES, PREDICTIONS, THUMBNAILS
from adapruner_det.methods.recorder import LOSS
from tests.test_imports import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "datasets").glob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
]


def links(page):
    """The files that a page links to, as paths of the project."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", text)
    local = [target for target in targets if "://" not in target]
    return {os.path.normpath(page.parent.relative_to(ROOT) / target) for target in local}


def test_every_link_leads_to_a_file():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in links(page)
        if not (ROOT / target).exists()
    ]
    assert not broken, "\n".join(broken)


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {"README.md"}
    while new:
        reached |= new
        pages = [ROOT / name for name in new if name.endswith(".md") and (ROOT / name).is_file()]
        new = set().union(*map(links, pages)) - reached
    wanted = {"LICENSE", *(str(page.relative_to(ROOT)) for page in PAGES)}
    wanted = {name for name in wanted if not name.startswith("benchmarks/")}
    assert wanted <= reached, wanted - reached


def test_the_methods_that_serve_detectors_too_are_named():
    of_boxes = {BOXES, BOX_FEATURES, *BOX_SIGNALS}
    given = {LOSS, FEATURES, PREDICTIONS, THUMBNAILS, *EVIDENCE}
    methods = [get_method(name) for name in method_names()]
    own = [m for m in methods if m.choose.__module__.startswith("adapruner_det.")]
    serve = {m.name for m in own if m.needs <= given and not (m.one_class or m.needs & of_boxes)}
    text = (ROOT / "docs" / "methods.md").read_text()
    (names,) = re.findall(r"^(`[^.|]*`)\s+serve\s+detectors too\.", text, re.M)
    assert set(re.findall(r"`([^`]+)`", names)) == serve
