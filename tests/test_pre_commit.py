"""The hooks before a commit run what `make lint` runs, with what `make install` installed."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.test_imports import ROOT

(LOCAL,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
HOOKS = {hook["id"]: hook for hook in LOCAL["hooks"]}
COMMANDS = [hook for hook in HOOKS.values() if hook["language"] == "system"]


def test_no_hook_is_downloaded():
    assert LOCAL["repo"] == "local"
    assert len(HOOKS) == len(LOCAL["hooks"])
    assert {hook["language"] for hook in HOOKS.values()} == {"system", "pygrep"}
    assert all({"id", "name", "entry"} <= hook.keys() for hook in HOOKS.values())


def module_of(hook):
    python, flag, module, *rest = shlex.split(hook["entry"])
    assert (python, flag) == (".venv/bin/python", "-m")
    return module, rest


@pytest.mark.parametrize("hook", COMMANDS, ids=lambda hook: hook["id"])
def test_a_command_is_there(hook):
    module, rest = module_of(hook)
    done = subprocess.run([sys.executable, "-m", module, *rest, "--help"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_they_are_those_of_make_lint():
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    lint = [line.split("-m ")[1].split()[:2] for line in recipe.splitlines()]
    hooks = [[module, *rest][:2] for module, rest in map(module_of, COMMANDS)]
    assert [words for words in lint if words] == hooks


@pytest.mark.parametrize(
    ("hook", "bad", "good"),
    [
        ("trailing-whitespace", ["a ", "\t", "a\t"], ["", " a", "a\tb"]),
        (
            "merge-conflict",
            ["<<<<<<< HEAD", "=======", ">>>>>>> other"],
            ["========", "a =======", "<<<<<<", "======", "# ======="],
        ),
    ],
)
def test_a_pattern_finds_what_it_is_for(hook, bad, good):
    pattern = re.compile(HOOKS[hook]["entry"])
    assert all(pattern.search(line) for line in bad)
    assert not any(pattern.search(line) for line in good)
