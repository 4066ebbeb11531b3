"""Who may know whom: the rules of docs/architecture.md, held against the sources as they are read.

Every import counts, be it within a function, for the type checker alone, or by ``import_module``.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "adapruner_det"
CORE, CLI = f"{PACKAGE}.core", f"{PACKAGE}.cli"
DETECTION, CLASSIFICATION = f"{PACKAGE}.detection", f"{PACKAGE}.classification"
EXPERIMENT = f"{PACKAGE}.experiment"
READERS = tuple(f"{PACKAGE}.{room}" for room in ("report", "export", "analysis"))
#: Tools that run before the package is there.
STANDALONE = ("tools.install_detectron2", "tools.detectron2_stub")
#: What stands for the name of an import that is computed when it is made.
COMPUTED = "a name that is computed"


def within(name: str, *rooms: str) -> bool:
    """Whether the dotted ``name`` is one of ``rooms`` or lies in one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@dataclass(frozen=True)
class Rule:
    """What modules ``of`` some rooms, ``but`` not of others, must not import."""

    sentence: str
    of: tuple[str, ...]
    forbidden: Callable[[str], bool]
    but: tuple[str, ...] = ()

    def applies(self, module: str) -> bool:
        return within(module, *self.of) and not within(module, *self.but)


FACE = f"{PACKAGE}.__init__"  # how this file calls the module adapruner_det itself
FINDER = f"{PACKAGE}.methods.__init__"  # which finds the modules beside it

RULES = (
    Rule(
        "core imports no sibling",
        of=(CORE,),
        forbidden=lambda name: within(name, PACKAGE) and not within(name, CORE),
    ),
    Rule(
        "core imports torch, numpy and the standard library alone",
        of=(CORE,),
        forbidden=lambda name: (
            not within(name, PACKAGE, "torch", "numpy", "tests", COMPUTED)
            and name.partition(".")[0] not in sys.stdlib_module_names
        ),
    ),
    Rule(
        "nothing outside of detection/ imports detectron2",
        of=(PACKAGE, "tools"),
        but=(DETECTION, *STANDALONE),
        forbidden=lambda name: within(name, "detectron2"),
    ),
    Rule(
        "detection and classification do not import each other",
        of=(DETECTION,),
        forbidden=lambda name: within(name, CLASSIFICATION),
    ),
    Rule(
        "detection and classification do not import each other",
        of=(CLASSIFICATION,),
        forbidden=lambda name: within(name, DETECTION),
    ),
    Rule(
        "report, export and analysis read a selection and import no trainer",
        of=READERS,
        forbidden=lambda name: within(name, DETECTION, CLASSIFICATION, EXPERIMENT),
    ),
    Rule(
        "what serves both tasks imports neither of them",
        of=(PACKAGE,),
        but=(DETECTION, CLASSIFICATION, CLI, FACE, CORE, *READERS),
        forbidden=lambda name: within(name, DETECTION, CLASSIFICATION),
    ),
    Rule(
        "cli is what a user calls; nothing in the package builds on it",
        of=(PACKAGE,),
        but=(CLI, f"{PACKAGE}.__main__"),
        forbidden=lambda name: within(name, CLI),
    ),
    Rule(
        "nothing imports the tests",
        of=(PACKAGE, "tools"),
        forbidden=lambda name: within(name, "tests"),
    ),
    Rule(
        "what runs before the package is installed does not import it",
        of=STANDALONE,
        forbidden=lambda name: within(name, PACKAGE),
    ),
    Rule(
        "an import is written out, so that it can be read",
        of=(PACKAGE, "tools"),
        but=(CLI, FACE, FINDER),
        forbidden=lambda name: name == COMPUTED,
    ),
)
LOGIC = "a tool holds no logic: a docstring, an import from adapruner_det.cli, one call of it"


def violations(root: Path) -> list[str]:
    """``file:line: rule; what it imports`` of all that the project at ``root`` should not do."""
    face = dict(_public_names(root / PACKAGE / "__init__.py"))
    found = []
    for path in sources(root):
        module = _dotted(path.relative_to(root))
        place = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in imports(tree, module, face):
            found += [
                f"{place}:{line}: {rule.sentence}; it imports {name}"
                for rule in RULES
                if rule.applies(module) and rule.forbidden(name)
            ]
        if within(module, "tools") and module not in STANDALONE:
            found += [f"{place}:{line}: {LOGIC}" for line in logic(tree)]
    return found


def sources(root: Path) -> list[Path]:
    """All modules of the package and the tools."""
    return sorted(path for room in (PACKAGE, "tools") for path in (root / room).rglob("*.py"))


def imports(tree: ast.AST, module: str, face: dict[str, str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import; ``from a import b`` is ``a.b``.

    Args:
        tree: of the module.
        module: its dotted name, that of a package with ``__init__`` at its end.
        face: name → where it comes from, of what the package offers at its top.
    """
    package = module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = _absolute("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = f"{start}.{alias.name}"
                own = face.get(alias.name) if start == PACKAGE else None
                yield node.lineno, own or name
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
            yield node.lineno, _absolute(first.value, package) if literal else COMPUTED


def logic(tree: ast.Module) -> Iterator[int]:
    """The lines of a tool that do more than call what it imports from the package's cli."""
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    if body is tree.body:
        yield 1
    called = []
    for node in body:
        if isinstance(node, ast.ImportFrom) and within(node.module or "", CLI) and not node.level:
            called += [alias.asname or alias.name for alias in node.names]
        elif not (
            isinstance(node, ast.If)
            and ast.unparse(node.test) == "__name__ == '__main__'"
            and len(node.body) == 1
            and not node.orelse
            and isinstance(node.body[0], ast.Expr)
            and isinstance(call := node.body[0].value, ast.Call)
            and _called(call) in called
            and all(isinstance(word, ast.Name) for word in call.args)
            and not call.keywords
        ):
            yield node.lineno


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _absolute(name: str, package: str) -> str:
    """``..b`` as seen from ``package``."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name[level:]])])


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _public_names(file: Path) -> Iterator[tuple[str, str]]:
    """Name → where it comes from, of what the file of a package imports from its own modules."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                yield alias.asname or alias.name, f"{PACKAGE}.{node.module}.{alias.name}"


# --- the project ---------------------------------------------------------------------------------


def test_the_project_keeps_its_rules():
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_all_of_it_is_read():
    read = {path.relative_to(ROOT).as_posix() for path in sources(ROOT)}
    assert {"adapruner_det/__init__.py", "adapruner_det/core/mask.py", "tools/cut.py"} <= read
    trainer = ROOT / "adapruner_det/detection/training/trainer.py"
    names = {
        name
        for _, name in imports(
            ast.parse(trainer.read_text()), "adapruner_det.detection.training.trainer", {}
        )
    }
    assert any(within(name, "detectron2.engine") for name in names)
    assert any(within(name, "adapruner_det.selection") for name in names)
    assert any(within(name, "adapruner_det.detection.training") for name in names)


def test_every_room_of_a_rule_is_a_room():
    planned = set(READERS)  # export and analysis are to come
    for rule in RULES:
        for room in {*rule.of, *rule.but} - planned:
            path = ROOT / room.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), room


# --- planted faults ------------------------------------------------------------------------------

FACE_SOURCE = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from .detection.training.trainer import PruningTrainer
    from .selection import Selection
"""

FAULTY = [
    # core
    ("core/a.py", "from ..errors import DataError", 1, "core imports no sibling"),
    ("core/a.py", "from .. import files", 1, "core imports no sibling"),
    ("core/a.py", "\nimport adapruner_det.files as f", 2, "core imports no sibling"),
    ("core/a.py", "def f():\n    from adapruner_det import Selection", 2, "core imports no sib"),
    ("core/deep/a.py", "from ...selection import Selection", 1, "core imports no sibling"),
    ("core/__init__.py", "from ..files import locked", 1, "core imports no sibling"),
    ("core/a.py", "import scipy.stats", 1, "core imports torch, numpy and the standard library"),
    ("core/a.py", "from PIL import Image", 1, "core imports torch, numpy and the standard"),
    ("core/a.py", "from fvcore import nn", 1, "core imports torch, numpy and the standa"),
    # detectron2
    ("files.py", "import detectron2", 1, "nothing outside of detection/ imports detectron2"),
    ("cli/a.py", "def f():\n  from detectron2.utils import comm", 2, "nothing outside of detec"),
    ("__init__.py", "import detectron2.config", 1, "nothing outside of detection/ imports"),
    ("experiment/a.py", "if TYPE_CHECKING:\n  import detectron2", 2, "nothing outside of detec"),
    (
        "report/a.py",
        "import importlib\nimportlib.import_module('detectron2.data')",
        2,
        "nothing outside of detection/ imports detectron2",
    ),
    ("report/a.py", "__import__('detectron2')", 1, "nothing outside of detection/ imports"),
    # the two tasks
    ("detection/a.py", "from ..classification.data import x", 1, "do not import each other"),
    ("detection/data/a.py", "from ... import classification", 1, "do not import each other"),
    ("classification/a.py", "from ..detection import setup", 1, "do not import each other"),
    ("classification/a.py", "from adapruner_det import PruningTrainer", 1, "do not import each"),
    # what reads a selection
    ("report/a.py", "from ..detection.setup import run", 1, "export and analysis read a sel"),
    ("report/b/a.py", "from ... import PruningTrainer", 1, "export and analysis read a selection"),
    ("export/a.py", "import adapruner_det.classification.trainer", 1, "export and analysis read"),
    ("analysis/a.py", "from ..experiment.grid import grid", 1, "export and analysis read a sel"),
    # what serves both
    ("settings.py", "from .detection.config import x", 1, "what serves both tasks imports neither"),
    ("methods/a.py", "from ..classification import run", 1, "what serves both tasks imports nei"),
    ("experiment/a.py", "from ..detection.task import T", 1, "what serves both tasks imports nei"),
    # cli, tests, computed
    ("errors.py", "from . import cli", 1, "cli is what a user calls"),
    ("detection/a.py", "from ..cli.cut import main", 1, "cli is what a user calls"),
    ("__init__.py", "from .cli import main", 1, "cli is what a user calls"),
    ("detection/a.py", "from tests.detection.toy import squares", 1, "nothing imports the tests"),
    ("core/a.py", "import tests", 1, "nothing imports the tests"),
    ("methods/a.py", "import_module(f'..{x}')", 1, "an import is written out"),
    ("core/a.py", "importlib.import_module(name)", 1, "an import is written out"),
]


def planted(tmp_path, place, source, face=FACE_SOURCE):
    """What the rules say of a project of one module besides its public face."""
    files = {"__init__.py": face, place: source}
    for name, text in files.items():
        path = tmp_path / (name if name.startswith("tools/") else f"{PACKAGE}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(tmp_path)


@pytest.mark.parametrize(("place", "source", "line", "sentence"), FAULTY)
def test_what_a_rule_forbids_is_named_with_its_file_and_line(
    tmp_path, place, source, line, sentence
):
    (found,) = planted(tmp_path, place, source)
    assert found.startswith(f"{PACKAGE}/{place}:{line}: ")
    assert sentence in found and "; it imports " in found


def test_every_rule_has_a_fault_that_it_finds():
    for rule in RULES:
        if rule.of != STANDALONE:
            assert any(sentence in rule.sentence for *_, sentence in FAULTY), rule.sentence


def test_all_faults_of_a_file_are_named(tmp_path):
    found = planted(tmp_path, "core/a.py", "import scipy\nfrom ..files import a, b\nimport tests")
    assert [line.split(":")[1] for line in found] == ["1", "2", "2", "3"]
    assert found[2].endswith("it imports adapruner_det.files.b")


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("core/a.py", "import math, torch.nn, numpy as np\nfrom . import cut\nfrom .cut import x"),
        ("core/a.py", "from __future__ import annotations\nfrom adapruner_det.core import cut"),
        ("core/deep/a.py", "from ..mask import SampleMask\nfrom . import b"),
        ("core/__init__.py", "from .pruner import AdaPruner"),
        ("detection/a.py", "import detectron2\nfrom ..core import x\nfrom adapruner_det import y"),
        ("detection/data/a.py", "from .. import compat\nfrom ..training.trainer import x"),
        ("classification/a.py", "from ..experiment.task import Task\nimport torchvision"),
        ("report/a.py", "from ..selection import Selection\nfrom .. import Selection\nimport PIL"),
        ("report/detection.py", "from .classification import x"),  # its own modules
        ("cli/a.py", "from ..detection.task import T\nimport_module(f'..{x}')\nimport detectron"),
        ("__main__.py", "from .cli import main"),
        ("methods/__init__.py", "import_module(f'.{x}', __name__)"),
        ("detectron2_names.py", "import detectron2_other, testsuite\nopen_module('x')"),
        ("tools/a.py", '"""A."""\nfrom adapruner_det.cli.a import main'),
        (
            "tools/a.py",
            '"""A."""\nfrom adapruner_det.cli.a import main\n'
            'if __name__ == "__main__":\n    main(__file__)',
        ),
        ("tools/install_detectron2.py", "import detectron2, sys\nsys.exit(1)"),
    ],
)
def test_what_no_rule_forbids_is_passed(tmp_path, place, source):
    assert planted(tmp_path, place, source) == []


@pytest.mark.parametrize("name", ["install_detectron2", "detectron2_stub"])
def test_what_runs_before_the_package_does_not_import_it(tmp_path, name):
    (found,) = planted(tmp_path, f"tools/{name}.py", "import os\nfrom adapruner_det import errors")
    assert found.startswith(f"tools/{name}.py:2: what runs before the package is installed")


CALL = 'if __name__ == "__main__":\n    '
IMPORT = "from adapruner_det.cli.a import main\n"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (f"{IMPORT}{CALL}main()", 1),  # without a word
        (f'"""A."""\n{IMPORT}main()', 3),  # when imported too
        (f'"""A."""\n{IMPORT}{CALL}main(1)', 3),
        (f'"""A."""\n{IMPORT}{CALL}main(x=y)', 3),
        (f'"""A."""\n{IMPORT}{CALL}main()\n    print(1)', 3),
        (f'"""A."""\n{IMPORT}{CALL}main()\nelse:\n    print(1)', 3),
        (f'"""A."""\n{IMPORT}{CALL}exec(x)', 3),
        (f'"""A."""\n{IMPORT}if True:\n    main()', 3),
        (f'"""A."""\n{IMPORT}def f():\n    pass', 3),
        (f'"""A."""\n{IMPORT}x = 1', 3),
        ('"""A."""\nfrom adapruner_det.files import locked', 2),
        ('"""A."""\nimport sys', 2),
    ],
)
def test_logic_in_a_tool_is_found(tmp_path, source, line):
    assert planted(tmp_path, "tools/a.py", source) == [f"tools/a.py:{line}: {LOGIC}"]


def test_a_tool_that_imports_detectron2_or_the_tests_breaks_two_rules(tmp_path):
    found = planted(tmp_path, "tools/a.py", '"""A."""\nimport detectron2\nimport tests.x')
    assert len(found) == 4
