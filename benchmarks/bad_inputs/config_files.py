"""Cases: files that are no configuration, or one that would do more than configure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .case import Build, Case, Expectation, either, refused, then, works
from .toys import DATA, image_folder, voc

FILES = "configuration files"
CONFIG = ("--config-file", "config.yaml")
MARK = "touch marker"

#: Lines that are added to a sound yaml, and what is right, in both tasks.
SPOILT: dict[str, tuple[str | bytes, tuple[Expectation, ...]]] = {
    "unknown-key": ("ADAPRUNER: {KEEP_RATE: 0.9}\n", refused("KEEP_RATE")),
    "unknown-node": ("PRUNER: {KEEP_RATIO: 0.9}\n", refused("PRUNER")),
    "dotted-key": ("ADAPRUNER.KEEP_RATIO: 0.9\n", refused("ADAPRUNER.KEEP_RATIO")),
    "value-for-node": ("ADAPRUNER: 0.9\n", refused("ADAPRUNER")),
    "null-for-node": ("ADAPRUNER:\n", refused("ADAPRUNER")),
    "list-for-number": ("ADAPRUNER: {KEEP_RATIO: [0.9]}\n", refused("KEEP_RATIO")),
    "node-for-number": ("ADAPRUNER: {KEEP_RATIO: {A: 1}}\n", refused("KEEP_RATIO")),
    "null-for-number": ("ADAPRUNER: {KEEP_RATIO: null}\n", refused("KEEP_RATIO")),
    "nan": ("ADAPRUNER: {KEEP_RATIO: .nan}\n", refused("KEEP_RATIO|keep ratio")),
    "infinite": ("ADAPRUNER: {ALPHA_END: .inf}\n", refused("ALPHA_END")),
    "date-for-number": ("ADAPRUNER: {KEEP_RATIO: 2024-01-01}\n", refused("KEEP_RATIO")),
    "words-for-number": ("ADAPRUNER: {KEEP_RATIO: most of it}\n", refused("KEEP_RATIO")),
    "key-a-number": ("7: 8\n", refused("config.yaml")),
    "key-twice": (
        "ADAPRUNER: {KEEP_RATIO: 0.9}\nADAPRUNER: {KEEP_RATIO: 0.5}\n",
        refused("ADAPRUNER"),
    ),
    "code-apply": (f'SEED: !!python/object/apply:os.system ["{MARK}"]\n', refused("config.yaml")),
    "code-new": (
        f'OUTPUT_DIR: !!python/object/new:subprocess.getoutput ["{MARK}"]\n',
        refused("config.yaml"),
    ),
    "code-tuple": ("SOLVER: {STEPS: !!python/tuple [1]}\n", refused("config.yaml|STEPS")),
    "eval-in-value": (
        "ADAPRUNER: {KEEP_RATIO: \"__import__('os').system('touch marker')\"}\n",
        refused("KEEP_RATIO"),
    ),
}

#: The whole text of a yaml and what is right, in both tasks.
TEXTS: dict[str, tuple[str | bytes, tuple[Expectation, ...]]] = {
    "a-list": ("- a\n- b\n", refused("config.yaml")),
    "a-word": ("hello\n", refused("config.yaml")),
    "a-number": ("7\n", refused("config.yaml")),
    "not-yaml": ("a: [1, 2\nb: }\n", refused("config.yaml")),
    "tabs": ("ADAPRUNER:\n\tKEEP_RATIO: 0.9\n", refused("config.yaml")),
    "two-documents": ("SEED: 1\n---\nSEED: 2\n", refused("config.yaml")),
    "latin-1": (b"# bl\xe5b\xe6r\nSEED: 1\n", refused("config.yaml")),
    "binary": (bytes(range(256)), refused("config.yaml")),
    "null-bytes": (b"SEED: 1\0\0\n", refused("config.yaml")),
    "deep-nesting": ("[" * 20_000, refused("config.yaml")),
    "alias-bomb": (
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        refused("config.yaml|a0"),
    ),
    "base-missing": ("_BASE_: nowhere.yaml\n", refused("nowhere.yaml")),
    "base-itself": ("_BASE_: config.yaml\n", refused("config.yaml")),
    "base-a-folder": (f"_BASE_: {DATA}\n", refused(DATA)),
    "base-a-number": ("_BASE_: 7\n", refused("_BASE_|config.yaml")),
    "base-null": ("_BASE_:\n", either(refused("_BASE_|config.yaml"), refused("DATASETS"), works())),
    "base-on-the-web": ("_BASE_: http://127.0.0.1:9/base.yaml\n", refused("config.yaml|127.0.0.1")),
}


def _overwrite(content: str | bytes) -> Build:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "config.yaml").write_bytes(data)


def _on_top(content: str | bytes) -> Build:
    """The lines in a yaml whose base is the sound one."""

    def build(folder: Path) -> None:
        (folder / "config.yaml").rename(folder / "sound.yaml")
        _overwrite(f"_BASE_: sound.yaml\n{content}")(folder)

    return build


def _instead(make: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        (folder / "config.yaml").unlink()
        make(folder / "config.yaml")

    return build


def _rewritten(change: Callable[[str], str], encoding: str = "utf-8") -> Build:
    def build(folder: Path) -> None:
        path = folder / "config.yaml"
        path.write_bytes(change(path.read_text()).encode(encoding))

    return build


def _loop_of_two(folder: Path) -> None:
    (folder / "config.yaml").write_text("_BASE_: other.yaml\n")
    (folder / "other.yaml").write_text("_BASE_: config.yaml\n")


def _bad_base(folder: Path) -> None:
    (folder / "config.yaml").rename(folder / "sound.yaml")
    (folder / "config.yaml").write_text("_BASE_: bad.yaml\n")
    (folder / "bad.yaml").write_text(f'SEED: !!python/object/apply:os.system ["{MARK}"]\n')


def _files() -> list[Case]:
    cases = []
    for toy, tool, short in ((voc, "prune_net.py", "det"), (image_folder, "prune_cls.py", "cls")):
        further: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
            "missing": (_instead(lambda path: None), refused("config.yaml")),
            "directory": (_instead(Path.mkdir), refused("config.yaml")),
            "fifo": (_instead(os.mkfifo), refused("config.yaml")),
            "zero-device": (
                _instead(lambda path: path.symlink_to("/dev/zero")),
                refused("config.yaml"),
            ),
            "base-loop-of-two": (_loop_of_two, refused("yaml")),
            "base-with-code": (_bad_base, refused("yaml")),
            "bom": (_rewritten(lambda text: "\ufeff" + text), works()),
            "crlf": (_rewritten(lambda text: text.replace("\n", "\r\n")), works()),
            "utf-16": (
                _rewritten(lambda text: text, "utf-16"),
                either(works(), refused("config.yaml")),
            ),
        }
        for name, (content, expect) in TEXTS.items():
            further[name] = (_overwrite(content), expect)
        for name, (content, expect) in SPOILT.items():
            further[name] = (_on_top(content), expect)
        cases += [
            Case(f"{short}-yaml-{name}", FILES, then(toy, build), tool, CONFIG, expect)
            for name, (build, expect) in further.items()
        ]
    target = ("--config-file", "config.yaml", "--target-config-file", "target.yaml")
    cases += [
        Case(
            "transfer-target-missing",
            FILES,
            image_folder,
            "transfer_cls.py",
            target,
            refused("target.yaml"),
        ),
        Case(
            "transfer-target-with-code",
            FILES,
            lambda folder: (
                image_folder(folder),
                (folder / "target.yaml").write_text(
                    f'SEED: !!python/object/apply:os.system ["{MARK}"]\n'
                ),
            ),
            "transfer_cls.py",
            target,
            refused("target.yaml"),
        ),
    ]
    return cases


CASES = _files()
