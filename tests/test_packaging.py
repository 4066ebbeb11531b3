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
CONFIGS = ROOT / "configs"

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
from adapruner_det.cli import main
main(["prune-net"])  # which says in one line that it needs Detectron2
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy: the checkout stays as it is, leftovers in it don't count."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in (PACKAGE, CONFIGS):
        shutil.copytree(folder, copy / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
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
    assert "adapruner_det/py.typed" in expected
    expected |= {f"adapruner_det/{path.relative_to(ROOT)}" for path in CONFIGS.rglob("*.yaml")}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel, installed."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True)
    return folder


def run_there(site, cwd, *command):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_wheel_works_away_from_the_checkout_and_without_detectron2(site, tmp_path):
    found = run_there(site, tmp_path, sys.executable, "-c", USE_WITHOUT_DETECTRON2, site)
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("error: adapruner prune-net needs Detectron2, which is not inst")
    assert found.stderr.count("\n") == 1


@pytest.mark.slow
def test_its_command_runs_with_the_configurations_that_it_brings_along(site, tmp_path):
    script = site / "bin" / "adapruner"
    found = run_there(site, tmp_path, script, "--version")
    assert found.returncode == 0 and found.stdout.startswith("adapruner-det 0.")
    quick = ["MODEL.WIDTH", 4, "DATA.NUM_TRAIN", 100, "SOLVER.EPOCHS", 2, "DEVICE", "cpu"]
    quick += ["ADAPRUNER.WARMUP_EPOCHS", 1]
    for number, words in enumerate(([], ["--config-file", "configs/classification/digits.yaml"])):
        found = run_there(
            site, tmp_path, script, "prune-cls", *words, *quick, "OUTPUT_DIR", f"out{number}"
        )
        assert found.returncode == 0, found.stderr
        assert "90 of 100 images" in found.stdout
    own = ["--config-file", "configs/own_yolov3tiny.yaml"]
    found = run_there(site, tmp_path, script, "check-data", *own)
    assert found.returncode == 2
    assert found.stderr == (
        "error: DATASETS.TRAIN and DATASETS.TEST name no data set to look at\n"
    )  # that is, the file was read


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


@pytest.mark.slow
def test_metadata_states_the_licence_with_its_text(metadata, wheel):
    assert metadata["License-Expression"] == "Apache-2.0"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(f"/{metadata['License-File']}"))
        text = archive.read(name).decode()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "Copyright AdaPruner-Det contributors" in text
    assert {*metadata.get_all("Provides-Extra")} == {"browser", "cleanlab", "dev", "faiss", "slurm"}
