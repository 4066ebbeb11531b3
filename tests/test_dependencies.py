"""docs/dependencies.md, setup.py and what the package imports name the same libraries."""

import ast
import re
import sys

import pytest

from tests.test_imports import PACKAGE, ROOT, imports

#: Where a library is imported under another name than it is installed by.
IMPORTED_AS = {
    "Pillow": "PIL",
    "PyYAML": "yaml",
    "scikit-learn": "sklearn",
    "faiss-cpu": "faiss",
    "Jinja2": "jinja2",
}
#: Heading of the page → list of setup.py.
SECTIONS = {
    "What the package imports": "OWN",
    "What Detectron2 needs besides": "DETECTRON2",
    "The extra `slurm`": "SLURM",
    "The extra `faiss`": "FAISS",
    "The extra `cleanlab`": "CLEANLAB",
    "The extra `browser`": "BROWSER",
    "The extra `dev`": "DEV",
}


def asked_for():
    """List of setup.py → library → range."""
    return {
        node.targets[0].id: dict(
            re.fullmatch(r"([\w.-]+)(.*)", text).groups() for text in ast.literal_eval(node.value)
        )
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    }


def explained():
    """List of setup.py → library → (range, reasons), as docs/dependencies.md has it."""
    found = {}
    for section in (ROOT / "docs/dependencies.md").read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
        found[SECTIONS[title]] = {name: (wanted, why.split(" | ")) for name, wanted, why in rows}
    return found


def imported():
    """The libraries that the package imports, by the names that imports have."""
    names = {
        name.partition(".")[0]
        for path in (ROOT / PACKAGE).rglob("*.py")
        for _, name in imports(
            ast.parse(path.read_text()),
            ".".join(path.relative_to(ROOT).with_suffix("").parts),
            {},
        )
        if " " not in name
    }
    return names - sys.stdlib_module_names - {PACKAGE}


@pytest.mark.parametrize("name", SECTIONS.values())
def test_the_page_explains_what_setup_asks_for_and_nothing_else(name):
    page = explained()[name]
    assert {library: row[0] for library, row in page.items()} == asked_for()[name]
    for library, (_, cells) in page.items():
        assert len(cells) == 3 and all(len(cell) > 3 for cell in cells), library


def test_setup_asks_for_what_the_package_imports_and_for_nothing_else():
    lists = asked_for()
    own = [*lists["OWN"], *lists["SLURM"], *lists["FAISS"], *lists["CLEANLAB"]]
    assert imported() == {"detectron2", *(IMPORTED_AS.get(name, name) for name in own)}
    assert not {*lists["OWN"]} & {*lists["DETECTRON2"]}
