"""Cases: LazyConfigs, which are code of the user's own."""

from __future__ import annotations

import os
from pathlib import Path

from .case import Build, Case, Expectation, either, refused, works
from .judge import SCRIPTS
from .outcomes import boxes, samples
from .toys import TRAIN, coco

KIND = "LazyConfigs"
REGISTERED = 'register_coco_instances("lazy_set", {}, "data/train.json", "data/images")\n'
DICTS = """
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import load_coco_json


def read():
    dicts = load_coco_json("data/train.json", "data/images", None)
    for sample in dicts:
        for own in sample["annotations"]:
            own["category_id"] = (own["category_id"] - 3) // 4
    return dicts


DatasetCatalog.register("lazy_set", read)
"""


def file(*changes: tuple[str, str], behind: str = "", before: str = "") -> Build:
    """A toy with lazy.py, some of whose text is replaced."""

    def build(folder: Path) -> None:
        coco(folder)
        text = (SCRIPTS / "lazy.py").read_text()
        for old, new in changes:
            if old not in text:
                raise ValueError(f"lazy.py has no {old!r}")
            text = text.replace(old, new)
        (folder / "lazy.py").write_text(before + text + behind)

    return build


def once(folder: Path) -> str:
    """The file is executed a single time."""
    count = len(Path(os.environ["HOME"], "times-executed").read_text())
    return "" if count == 1 else f"executed {count} times"


FINE = works(samples(TRAIN), boxes(TRAIN, "lazy_set"), once)
NAMED = refused("lazy.py")
TABLE: dict[str, tuple[Build, tuple[str, ...], tuple[Expectation, ...]]] = {
    "registers-coco": (file(), (), FINE),
    "set-without-classes": (file((REGISTERED, DICTS)), (), works(samples(TRAIN))),
    "override": (file(), ("ADAPRUNER.KEEP_RATIO=0.5",), FINE),
    "syntax-error": (file(behind="\nmodel = = 3\n"), (), NAMED),
    "indentation-error": (file(before="  x = 1\n"), (), NAMED),
    "raises": (file(behind="\nraise RuntimeError('no such disk')\n"), (), refused("no such disk")),
    "raises-key-error": (file(behind="\n{}['x']\n"), (), NAMED),
    "exits": (file(behind="\nraise SystemExit(3)\n"), (), either(NAMED, refused("3"))),
    "missing-import": (file(before="import no_such_module\n"), (), refused("no_such_module")),
    "missing-relative-import": (
        file(before="from .nowhere import model\n"),
        (),
        refused("nowhere"),
    ),
    "no-model": (file(("model = L(", "other = L(")), (), refused("model")),
    "no-train": (file(("train = {", "others = {")), (), refused("train")),
    "no-dataloader": (file(behind="\ndel dataloader\n"), (), refused("dataloader")),
    "no-optimizer": (file(("optimizer = L", "other = L")), (), refused("optimizer")),
    "no-schedule": (file(("lr_multiplier = L", "other = L")), (), refused("lr_multiplier")),
    "set-not-registered": (file((REGISTERED, "")), (), refused("lazy_set")),
    "file-of-set-missing": (file(("data/train.json", "nowhere.json")), (), refused("nowhere.json")),
    "keep-ratio-0": (
        file(('"KEEP_RATIO": 0.7', '"KEEP_RATIO": 0')),
        (),
        refused("KEEP_RATIO|keep ratio"),
    ),
    "unknown-key": (file(('"KEEP_RATIO"', '"KEEP_RATE"')), (), refused("KEEP_RATE")),
    "unknown-override": (file(), ("ADAPRUNER.KEEP_RATE=0.5",), refused("KEEP_RATE")),
    "override-without-equals": (file(), ("ADAPRUNER.KEEP_RATIO", "0.5"), refused("KEEP_RATIO")),
    "override-not-python": (file(), ("train.max_iter=[",), refused("max_iter")),
    "batch-0": (
        file(("total_batch_size=4", "total_batch_size=0")),
        (),
        refused("batch|IMS_PER_BATCH"),
    ),
    "max-iter-negative": (file(('"max_iter": 10', '"max_iter": -1')), (), refused("max_iter")),
    "classes-too-few": (file(("num_classes=2", "num_classes=1")), (), refused("num_classes", "2")),
    "not-utf-8": (
        lambda folder: (file()(folder), (folder / "lazy.py").write_bytes(b"x = '\xe5'\n")),
        (),
        NAMED,
    ),
    "empty": (
        lambda folder: (coco(folder), (folder / "lazy.py").write_text("")),
        (),
        refused("lazy.py"),
    ),
    "a-folder": (lambda folder: (coco(folder), (folder / "lazy.py").mkdir()), (), NAMED),
}

CASES = [
    Case(f"lazy-{name}", KIND, build, "prune_net.py", ("--config-file", "lazy.py", *more), expect)
    for name, (build, more, expect) in TABLE.items()
]
CASES += [
    Case(
        "lazy-plain-run", KIND, file(), "train_pruned.py", ("--config-file", "lazy.py"), works(once)
    ),
    Case("lazy-check", KIND, file(), "check_data.py", ("--config-file", "lazy.py"), works(once)),
]
