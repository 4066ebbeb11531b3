"""Install Detectron2 v0.6 from the package registry, where no `import detectron2` works yet.

The registry has no wheel of Detectron2, only the source archive named in REQUIREMENT: the Python
files of the v0.6 tag without the C++ ones. This builds a pure-Python wheel of them, with EDITS for
what today's numpy, Pillow and Python no longer offer and a stub for the compiled module, and
installs that wheel alone: what Detectron2 needs at run time stands in this project's setup.py.
An existing Detectron2 of any version is left as it is: the official builds have the compiled ops.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REQUIREMENT = (
    "pb1-detectron2==0.6 "
    "--hash=sha256:5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
)
OFFICIAL = (
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git' "
    "or conda-forge's `detectron2`"
)
STUB = Path(__file__).with_name("detectron2_stub.py")
MISSING = "rotated boxes, deformable convolution on a GPU, fast COCO evaluation"

# (file, pattern, replacement, number of matches). The patterns are regular expressions.
EDITS = [
    ("data/transforms/transform.py", r"\bImage\.LINEAR\b", "Image.BILINEAR", 1),
    ("data/build.py", r"\bnp\.int\b", "int", 2),
    ("data/datasets/pascal_voc.py", r"\bnp\.str\b", "str", 1),
    ("evaluation/sem_seg_evaluation.py", r"\bnp\.(int|float)\b", r"\1", 7),
    # get_norm("GN", 1) is refused by current PyTorch; main asks for 32 channels too.
    ("modeling/meta_arch/retinanet.py", r"\bget_norm\(norm, 1\)", "get_norm(norm, 32)", 1),
    ("data/common.py", r"sample\((self\._fallback_candidates),", r"sample(list(\1),", 1),
    ("model_zoo/model_zoo.py", r"import pkg_resources\n", "from importlib import resources\n", 1),
    (
        "model_zoo/model_zoo.py",
        r"pkg_resources\.resource_filename\(\s*\"detectron2.model_zoo\", (.*)\n",
        r'str(\n        resources.files("detectron2.model_zoo") / \1\n',
        1,
    ),
]

# What the official setup.py adds from outside the package: {name in detectron2.projects: folder}.
PROJECTS = {
    "point_rend": "projects/PointRend/point_rend",
    "deeplab": "projects/DeepLab/deeplab",
    "panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "0.6"
description = "Detectron2 v0.6 as pure Python: without compiled ops, edited for current libraries"
requires-python = ">=3.10"

[tool.setuptools.packages.find]
include = ["detectron2*"]

[tool.setuptools.package-data]
"*" = ["*.yaml"]
"""


class InstallError(Exception):
    """Says what went wrong and what to do about it."""


def existing_version() -> str | None:
    """Version of the Detectron2 that is there, or None. Raises InstallError for a broken one."""
    if importlib.util.find_spec("detectron2") is None:
        return None
    try:
        import detectron2
    except Exception as error:
        raise InstallError(
            f"a detectron2 is installed but does not import: {error!r}. It is left as it is; "
            "repair it, or remove it with `pip uninstall detectron2` and run this again."
        ) from error
    return detectron2.__version__


def pip(*args: str, advice: str) -> None:
    """Run pip of this interpreter. Raises InstallError with pip's last words and `advice`."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InstallError(f"{done.stdout[-2000:]}\n`pip {args[0]}` failed (above). {advice}")


def download(folder: Path) -> Path:
    """Fetch the archive (pip checks its hash) and unpack it. Returns the source tree."""
    for module in ("torch", "setuptools"):
        if importlib.util.find_spec(module) is None:
            raise InstallError(f"Detectron2's build needs {module}: `pip install {module}` first.")
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT + "\n")
    pip(
        *("download", "--require-hashes", "--no-deps", "--no-build-isolation"),
        *("--no-binary", ":all:", "--dest", str(folder), "--requirement", str(requirements)),
        advice="Without a network, put the archive of pb1-detectron2 0.6 in a folder and set "
        f"PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER; or install the official way: {OFFICIAL}.",
    )
    with tarfile.open(folder / "pb1-detectron2-0.6.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "pb1-detectron2-0.6"


def apply_edits(package: Path, edits: list[tuple[str, str, str, int]] = EDITS) -> None:
    """Edit files under `package` in place. Raises InstallError where a match count is off."""
    for name, pattern, replacement, expected in edits:
        path = package / name
        if not path.is_file():
            raise InstallError(f"cannot edit {name}: no such file in the source archive.")
        text, found = re.subn(pattern, replacement, path.read_text())
        if found != expected:
            raise InstallError(
                f"cannot edit {name}: {pattern!r} matches {found} times, expected {expected}. "
                "This is not the v0.6 that EDITS was written for; nothing was installed."
            )
        path.write_text(text)


def prepare(source: Path) -> None:
    """Turn the unpacked archive into a source tree that builds a pure-Python wheel."""
    package = source / "detectron2"
    apply_edits(package)
    (package / "_C.py").write_text(STUB.read_text().replace("@OFFICIAL@", OFFICIAL))
    for name, folder in PROJECTS.items():
        shutil.copytree(source / folder, package / "projects" / name)
    for unwanted in ("setup.py", "setup.cfg"):
        (source / unwanted).unlink()
    (source / "pyproject.toml").write_text(PYPROJECT)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()  # --help alone; a word too much installs nothing
    version = existing_version()
    if version is not None:
        print(f"Detectron2 {version} is already installed; nothing to do.")
        return
    print("Building Detectron2 v0.6 without compiled ops (about half a minute) ...", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = download(folder)
        prepare(source)
        alone = ("--no-deps", "--no-index")
        report = "Please report this with the lines above."
        pip("wheel", *alone, "--no-build-isolation", "-w", name, str(source), advice=report)
        pip("install", *alone, str(next(folder.glob("detectron2-*.whl"))), advice=report)
    print(
        f"Installed Detectron2 v0.6 as pure Python with {len(EDITS)} edits for current libraries; "
        f"missing: {MISSING}. For those: {OFFICIAL}."
    )


if __name__ == "__main__":
    try:
        main()
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
