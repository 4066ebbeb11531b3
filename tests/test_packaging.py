"""The wheel, used the way a stranger would: without the checkout and without Detectron2."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adapruner_det"

USE_WITHOUT_DETECTRON2 = """
import importlib, pathlib, pkgutil, sys
sys.modules["detectron2"] = None  # importing it raises ImportError
import adapruner_det, adapruner_det.core
from adapruner_det import Selection
for module in pkgutil.walk_packages(adapruner_det.core.__path__, "adapruner_det.core."):
    importlib.import_module(module.name)
site = pathlib.Path(sys.argv[1])
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("adapruner_det"):
        assert pathlib.Path(module.__file__).is_relative_to(site), module.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy: the checkout stays as it is, leftovers in it don't count."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    (path,) = (copy / "dist").glob("adapruner_det-*.whl")
    return path


@pytest.mark.slow
def test_wheel_carries_all_of_the_package_and_nothing_else(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


@pytest.mark.slow
def test_wheel_works_away_from_the_checkout_and_without_detectron2(wheel, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    subprocess.run(
        [sys.executable, "-c", USE_WITHOUT_DETECTRON2, str(site)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        check=True,
    )


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.slow
def test_metadata_states_the_python_versions(metadata):
    python = SpecifierSet(metadata["Requires-Python"])
    for minor, supported in (
        (9, False),
        (10, True),
        (11, True),
        (12, True),
        (13, True),
        (14, False),
    ):
        classifier = f"Programming Language :: Python :: 3.{minor}"
        assert (classifier in metadata.get_all("Classifier")) == supported
        assert python.contains(f"3.{minor}.1") == supported


@pytest.mark.slow
def test_requirements_have_pins_within_their_ranges_and_detectron2_is_not_among_them(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    assert requirements
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        assert name != "detectron2"
        assert requirement.specifier.contains(pinned[name]), name
