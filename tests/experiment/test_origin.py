from types import SimpleNamespace

import pytest
import torch

from adapruner_det.experiment import origin as module
from adapruner_det.experiment.origin import ORIGIN, mixed_lines, origin

INFO = (
    "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Xeon\nstepping\t: 7\nbugs\t:\n"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "core").mkdir()
    (tmp_path / "core/mask.py").write_text("a = 1\n")
    (tmp_path / "run.py").write_text("b = 2\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    return tmp_path


def test_it_has_the_versions_the_code_and_the_device():
    found = origin("cpu", "scipy", "nothing-of-that-name")
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["nothing-of-that-name"] == "unknown" and found["scipy"][0].isdigit()
    assert len(found["code"]) == 8 and found["device"]
    assert set(found) == {"adapruner-det", "torch", "numpy", "scipy", "nothing-of-that-name",
                          "code", "device", "threads"}  # fmt: skip


@pytest.mark.parametrize("change", [
    lambda root: (root / "core/mask.py").write_text("a = 2\n"),
    lambda root: (root / "run.py").rename(root / "walk.py"),
    lambda root: (root / "new.py").write_text(""),
    lambda root: (root / "run.py").unlink(),
])  # fmt: skip
def test_whatever_changes_in_the_code_changes_its_digest(package, change):
    code = module._code.__wrapped__
    before = code()
    assert code() == before
    (package / "notes.txt").write_text("no code")
    assert code() == before
    change(package)
    assert code() != before


def test_the_digest_is_of_what_a_process_began_with(package):
    """Files that are edited in a long run are not what runs."""
    module._code.cache_clear()
    before = origin("cpu")["code"]
    (package / "run.py").write_text("b = 3\n")
    assert origin("cpu")["code"] == before
    module._code.cache_clear()


def test_the_threads_are_those_of_the_moment():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert origin("cpu")["threads"] == str(before + 1)
    finally:
        torch.set_num_threads(before)


def test_a_processor_is_told_apart_by_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "CPU_INFO", path)
    other = INFO.replace("85", "106").replace("0\n", "1\n", 1)
    path.write_text(INFO + "\n" + other)
    assert module._device("cuda") == "Xeon 6 85 7"
    for text in (None, "Features : of another architecture\n"):
        path.unlink() if text is None else path.write_text(text)
        assert module._device("cpu") in (module.platform.processor(), module.platform.machine())


def test_a_gpu_that_is_trained_on_is_named_before_the_processor(monkeypatch):
    gpu = SimpleNamespace(is_available=lambda: True, get_device_name=lambda own: f"NVIDIA {own}")
    monkeypatch.setattr(module.torch, "cuda", gpu)
    assert module._device("cuda:1") == "NVIDIA cuda:1"
    assert "NVIDIA" not in module._device("cpu")  # it is there, and not what is trained on


def test_what_is_of_several_origins_is_said_with_how_many():
    def made(**origin):
        return {"seconds": 1.0, ORIGIN: {"torch": "2.1", "code": "aa", **origin}}

    assert mixed_lines([made(), made(), {"seconds": 2.0}]) == []
    (line,) = mixed_lines([made(code="bb"), made(), {"seconds": 2.0}, made(code="bb")])
    assert line.startswith("cells of several code: bb (2), aa (1); ")
    assert len(mixed_lines([made(), made(code="bb", torch="2.2")])) == 2
