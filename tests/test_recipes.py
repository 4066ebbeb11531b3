"""The recipes of CONTRIBUTING.md and docs/methods.md, followed word for word."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from adapruner_det.methods import get_method, method_names
from tests.test_imports import PACKAGE, ROOT, violations

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
METHODS = (ROOT / "docs/methods.md").read_text()

#: Heading → the `__init__` that a recipe's file is to be added to, if any.
RECIPES = {
    "A method": None,
    "An objective": None,
    "A head": f"{PACKAGE}/detection/per_image/__init__.py",
    "A data set": None,
    "An export": None,
}


def section(heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)[1]


def files(heading):
    """File → what stands in it."""
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```python\n(.*?)```", section(heading), re.M | re.S))


def run(project, *words):
    variables = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=variables, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which all recipes were followed."""
    copy = tmp_path_factory.mktemp("project")
    for name in (PACKAGE, "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for heading, registry in RECIPES.items():
        for name, text in files(heading).items():
            path = copy / name
            assert not path.exists(), f"{name} is there already"
            path.write_text(text)
        if registry:
            module = next(iter(files(heading))).rpartition("/")[2].removesuffix(".py")
            add_import(copy / registry, module)
    return copy


def add_import(file, module):
    """Do what ``from . import a, b`` at the top of the file does for one more."""
    text = file.read_text()
    assert re.search(r"^from \. import ", text, re.MULTILINE), file
    file.write_text(f"{text}\nfrom . import {module}  # noqa: E402, F401\n")


def test_each_recipe_has_a_file_its_test_and_a_command():
    for heading in RECIPES:
        own, test = files(heading)
        folder, _, name = own.removeprefix(f"{PACKAGE}/").rpartition("/")
        assert test == f"tests/{folder}/test_{name}"
        assert len(re.findall(r"^    python -m pytest ", section(heading), re.M)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("heading", RECIPES)
def test_its_command_runs_its_test(project, heading):
    (command,) = re.findall(r"^    python (-m pytest .*)$", section(heading), re.M)
    done = run(project, *command.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout.strip().splitlines()[-1].strip("= ")), done.stdout
    if heading == "A method":  # those that hold for every method are among them
        assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10


@pytest.mark.slow
def test_what_they_write_keeps_the_rules_of_the_house(project):
    assert violations(project) == []
    written = [name for heading in RECIPES for name in files(heading)]
    for words in (["ruff", "check"], ["ruff", "format", "--check", "--diff"]):
        done = run(project, "-m", *words, *written)
        assert done.returncode == 0, done.stdout + done.stderr


# --- docs/methods.md -----------------------------------------------------------------------------


def test_the_page_lists_the_methods_that_there_are():
    table = METHODS.partition("## The methods there are")[2].partition("\n## ")[0]
    own = {n for n in method_names() if get_method(n).choose.__module__.startswith(PACKAGE)}
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == own


@pytest.fixture
def installed(tmp_path):
    """The page's package, where Python finds it as it finds what pip installed."""
    import tomllib

    blocks = dict(re.findall(r"<!-- tested: (\S+) -->\n```\w+\n(.*?)```", METHODS, re.DOTALL))
    site = tmp_path / "site"
    about = tomllib.loads(blocks["pyproject.toml"])
    name, version = (about["project"][key] for key in ("name", "version"))
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in about["project"]["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(points)
    for module in about["tool"]["setuptools"]["py-modules"]:
        (site / f"{module}.py").write_text(blocks[f"{module}.py"])
    return site


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="reads toml")
def test_a_method_of_another_package_passes_what_holds_for_every_method(installed):
    path = os.pathsep.join([str(installed), str(ROOT)])
    variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    (command,) = re.findall(r"python (-m pytest \S+ -k \w+)$", METHODS, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10
