"""The installer's edits and stub against small hand-made trees; nothing here needs a network."""

import subprocess
import sys
import types

import pytest
import torch

from tools import install_detectron2 as installer

# What each edited file of v0.6 holds where an edit applies, and what must stand there afterwards.
BEFORE_AND_AFTER = {
    "data/transforms/transform.py": (
        "def __init__(self, interp=Image.LINEAR, fill=0): Image.NEAREST\n",
        "def __init__(self, interp=Image.BILINEAR, fill=0): Image.NEAREST\n",
    ),
    "data/build.py": (
        "np.zeros((2,), dtype=np.int)\nnp.asarray([], dtype=np.int\n)\nnp.int64\n",
        "np.zeros((2,), dtype=int)\nnp.asarray([], dtype=int\n)\nnp.int64\n",
    ),
    "data/datasets/pascal_voc.py": (
        "np.loadtxt(f, dtype=np.str)\n",
        "np.loadtxt(f, dtype=str)\n",
    ),
    "evaluation/sem_seg_evaluation.py": (
        "np.int np.int np.float np.float np.float np.float np.float np.float32\n",
        "int int float float float float float np.float32\n",
    ),
    "modeling/meta_arch/retinanet.py": (
        "norm_name = str(type(get_norm(norm, 1)))\nget_norm(norm, out_channels)\n",
        "norm_name = str(type(get_norm(norm, 32)))\nget_norm(norm, out_channels)\n",
    ),
    "data/common.py": (
        "cur_idx = self._rng.sample(self._fallback_candidates, k=1)[0]\n",
        "cur_idx = self._rng.sample(list(self._fallback_candidates), k=1)[0]\n",
    ),
    "model_zoo/model_zoo.py": (
        "import pkg_resources\n"
        "cfg_file = pkg_resources.resource_filename(\n"
        '    "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        ")\n",
        "from importlib import resources\n"
        "cfg_file = str(\n"
        '    resources.files("detectron2.model_zoo") / os.path.join("configs", config_path)\n'
        ")\n",
    ),
}


@pytest.fixture
def package(tmp_path):
    for name, (before, _) in BEFORE_AND_AFTER.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(before)
    return tmp_path


@pytest.fixture
def stub():
    module = types.ModuleType("stub")
    source = installer.STUB.read_text().replace("@OFFICIAL@", installer.OFFICIAL)
    # The library of ops can be defined once per process, and an installed stub may have done it.
    source = source[: source.index("_library = ")]
    exec(source, module.__dict__)
    return module


def test_edits_give_what_current_libraries_have(package):
    installer.apply_edits(package)
    for name, (_, after) in BEFORE_AND_AFTER.items():
        assert (package / name).read_text().split() == after.split(), name


@pytest.mark.parametrize("name", BEFORE_AND_AFTER)
@pytest.mark.parametrize("change", ["none", "doubled", "absent"])
def test_edit_that_does_not_match_its_file_fails(package, name, change):
    path = package / name
    if change == "absent":
        path.unlink()
    else:
        path.write_text("" if change == "none" else path.read_text() * 2)
    with pytest.raises(installer.InstallError, match=f"cannot edit {name}"):
        installer.apply_edits(package)


def test_mismatch_names_pattern_and_counts(package):
    with pytest.raises(installer.InstallError, match=r"'absent text' matches 0 times, expected 1"):
        installer.apply_edits(package, [("data/build.py", "absent text", "", 1)])


def test_prepared_tree_has_stub_projects_and_own_build_file(package):
    source = package.parent / "source"
    source.mkdir()
    package.rename(source / "detectron2")
    for name in installer.PROJECTS.values():
        (source / name).mkdir(parents=True)
        (source / name / "__init__.py").touch()
    (source / "setup.py").touch()
    (source / "setup.cfg").touch()

    installer.prepare(source)

    assert not (source / "setup.py").exists()
    assert 'name = "detectron2"' in (source / "pyproject.toml").read_text()
    assert (source / "detectron2/projects/point_rend/__init__.py").is_file()
    stub = (source / "detectron2/_C.py").read_text()
    assert installer.OFFICIAL in stub and "@OFFICIAL@" not in stub


def test_stub_answers_what_detectron2_asks_about_itself(stub):
    assert stub.has_cuda() is False
    assert "pure-Python" in stub.get_compiler_version()
    assert "pure-Python" in stub.get_cuda_version()


@pytest.mark.parametrize("op", ["roi_align_rotated_forward", "COCOevalAccumulate"])
def test_stub_names_the_missing_op_and_the_cure(stub, op):
    with pytest.raises(NotImplementedError, match=f"^{op} is a compiled op") as caught:
        getattr(stub, op)
    assert installer.OFFICIAL in str(caught.value)
    assert ("use_fast_impl=False" in str(caught.value)) == op.startswith("COCO")
    assert not hasattr(stub, op)  # feature tests by hasattr stay honest


def test_installed_stub_refuses_rotated_nms():
    compiled = pytest.importorskip("detectron2._C")
    if "pure-Python" not in compiled.get_compiler_version():
        pytest.skip("this Detectron2 has its compiled ops")
    with pytest.raises(NotImplementedError, match="nms_rotated is a compiled op"):
        torch.ops.detectron2.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)


def run_with_detectron2(tmp_path, source, *words):
    """Run the tool where `import detectron2` finds a package with this __init__.py."""
    (tmp_path / "detectron2").mkdir(exist_ok=True)
    (tmp_path / "detectron2/__init__.py").write_text(source)
    return subprocess.run(
        [sys.executable, installer.__file__, *words],
        env={"PYTHONPATH": str(tmp_path), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )


def test_existing_detectron2_is_left_alone(tmp_path):
    done = run_with_detectron2(tmp_path, "__version__ = '9.8'\n")
    assert done.returncode == 0
    assert done.stdout == "Detectron2 9.8 is already installed; nothing to do.\n"


def test_help_and_an_unknown_word_install_nothing(tmp_path):
    broken = "raise ImportError('undefined symbol: _ZN3c10')\n"  # which it would look at first
    done = run_with_detectron2(tmp_path, broken, "--help")
    assert done.returncode == 0 and "Install Detectron2 v0.6" in done.stdout
    done = run_with_detectron2(tmp_path, broken, "--upgrade")
    assert done.returncode == 2 and "unrecognized arguments: --upgrade" in done.stderr


def test_broken_detectron2_is_reported_not_replaced(tmp_path):
    done = run_with_detectron2(tmp_path, "raise ImportError('undefined symbol: _ZN3c10')\n")
    assert done.returncode == 2
    assert done.stderr.startswith("error: a detectron2 is installed but does not import")
    assert "undefined symbol" in done.stderr and "pip uninstall detectron2" in done.stderr


def test_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(installer.InstallError, match="pip download` failed") as caught:
        installer.download(tmp_path)
    assert "PIP_FIND_LINKS=FOLDER" in str(caught.value)
    assert installer.OFFICIAL in str(caught.value)


def test_archive_with_another_hash_is_refused(tmp_path, monkeypatch):
    (tmp_path / "pb1-detectron2-0.6.tar.gz").write_bytes(b"not the pinned archive")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = tmp_path / "work"
    folder.mkdir()
    with pytest.raises(installer.InstallError, match="(?i)hash"):
        installer.download(folder)
