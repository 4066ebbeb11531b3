"""Cases: command lines."""

from __future__ import annotations

from .case import Case, Expectation, Refused, either, refused, works
from .outcomes import samples
from .toys import DATA, TRAIN, image_folder, voc

LINES = "command lines"
CONFIG = ("--config-file", "config.yaml")


def _lines() -> list[Case]:
    usage = (Refused(usage=True),)

    def net(
        name: str, expect: tuple[Expectation, ...], *args: str, tool: str = "prune_net.py"
    ) -> Case:
        return Case(f"line-{name}", LINES, voc, tool, args, expect)

    def cls(
        name: str, expect: tuple[Expectation, ...], *args: str, tool: str = "prune_cls.py"
    ) -> Case:
        return Case(f"line-cls-{name}", LINES, image_folder, tool, args, expect)

    folders = "ADAPRUNER.VOC_FOLDERS"
    cases = [
        net("nothing", refused("DATASETS.TRAIN|config"), tool="prune_net.py"),
        net("compare-nothing", usage, tool="compare.py"),
        net("cut-nothing", usage, tool="cut.py"),
        net(
            "anchors-nothing",
            (Refused(usage=True), Refused(("config|DATASETS",))),
            tool="anchors.py",
        ),
        net(
            "check-nothing",
            (Refused(usage=True), Refused(("config|DATASETS",))),
            tool="check_data.py",
        ),
        net("eval-only-of-pruning", refused("train_pruned"), *CONFIG, "--eval-only"),
        net("odd-overrides", refused("SEED"), *CONFIG, "SEED"),
        net("unknown-key", refused("ADAPRUNER.KEEP"), *CONFIG, "ADAPRUNER.KEEP", "0.9"),
        net(
            "key-equals-value", refused("ADAPRUNER.KEEP_RATIO"), *CONFIG, "ADAPRUNER.KEEP_RATIO=0.9"
        ),
        net("unknown-option", usage + refused("--keep-rate"), *CONFIG, "--keep-rate", "0.9"),
        net("unknown-set", refused("my_set"), *CONFIG, "DATASETS.TRAIN", "('my_set',)"),
        net("unknown-test-set", refused("my_set"), *CONFIG, "DATASETS.TEST", "('my_set',)"),
        net("set-without-comma", refused("DATASETS.TRAIN"), *CONFIG, "DATASETS.TRAIN", "toy_train"),
        net("no-training-set", refused("DATASETS.TRAIN"), *CONFIG, "DATASETS.TRAIN", "()"),
        net(
            "set-twice",
            refused("toy_train"),
            *CONFIG,
            "DATASETS.TRAIN",
            "('toy_train','toy_train')",
        ),
        net(
            "no-voc-there",
            refused("voc_2007_trainval"),
            *CONFIG,
            "DATASETS.TRAIN",
            "('voc_2007_trainval',)",
        ),
        net(
            "no-coco-there",
            refused("coco_2017_train"),
            *CONFIG,
            "DATASETS.TRAIN",
            "('coco_2017_train',)",
        ),
        net("folder-without-split", refused(folders), *CONFIG, folders, f"['toy_train={DATA}']"),
        net("folder-without-name", refused(folders), *CONFIG, folders, f"['{DATA}:train']"),
        net("folder-empty", refused(folders), *CONFIG, folders, "['']"),
        net("folder-a-string", refused(folders), *CONFIG, folders, f"toy_train={DATA}:train"),
        net("folder-a-number", refused(folders), *CONFIG, folders, "[7]"),
        net(
            "folder-name-twice",
            refused("toy_train"),
            *CONFIG,
            folders,
            f"['toy_train={DATA}:train','toy_train={DATA}:test','toy_test={DATA}:test']",
        ),
        net(
            "folder-name-of-detectron2s",
            refused("voc_2007_test"),
            *CONFIG,
            folders,
            f"['toy_train={DATA}:train','toy_test={DATA}:test','voc_2007_test={DATA}:test']",
        ),
        net(
            "folder-name-with-slash",
            either(refused("a/b"), works(samples(TRAIN))),
            *CONFIG,
            folders,
            f"['a/b={DATA}:train','toy_test={DATA}:test']",
            "DATASETS.TRAIN",
            "('a/b',)",
        ),
        net(
            "folder-split-outside",
            refused("../"),
            *CONFIG,
            folders,
            f"['toy_train={DATA}:../../train','toy_test={DATA}:test']",
        ),
        net("folder-missing", refused("nowhere"), *CONFIG, folders, "['toy_train=nowhere:train']"),
        net("config-twice", works(samples(TRAIN)), "--config-file", "nowhere.yaml", *CONFIG),
        net(
            "compare-no-seeds",
            usage + refused("seeds"),
            *CONFIG,
            "--num-seeds",
            "0",
            tool="compare.py",
        ),
        net("compare-half-a-seed", usage, *CONFIG, "--num-seeds", "1.5", tool="compare.py"),
        net(
            "compare-no-process",
            usage + refused("processes"),
            *CONFIG,
            "--processes",
            "0",
            tool="compare.py",
        ),
        net(
            "compare-without-test-set",
            refused("DATASETS.TEST"),
            *CONFIG,
            "--num-seeds",
            "1",
            "DATASETS.TEST",
            "()",
            tool="compare.py",
        ),
        net(
            "train-selection-missing",
            refused("no.json"),
            *CONFIG,
            "--selection",
            "no.json",
            tool="train_pruned.py",
        ),
        net(
            "train-selection-empty",
            refused("selection"),
            *CONFIG,
            "--selection",
            "",
            tool="train_pruned.py",
        ),
        net(
            "evaluate-without-test-set",
            refused("DATASETS.TEST"),
            *CONFIG,
            "--eval-only",
            "DATASETS.TEST",
            "()",
            tool="train_pruned.py",
        ),
        net(
            "evaluate-without-weights",
            either(refused("WEIGHTS"), works(says=("from scratch",))),
            *CONFIG,
            "--eval-only",
            tool="train_pruned.py",
        ),
        net("anchors-of-sound-data", works(), *CONFIG, tool="anchors.py"),
        net(
            "anchors-too-many",
            (Refused(usage=True), *refused("anchor")),
            *CONFIG,
            "--count",
            "999",
            tool="anchors.py",
        ),
        cls("odd-overrides", refused("SEED"), *CONFIG, "SEED"),
        cls("unknown-key", refused("DATA.SIZES"), *CONFIG, "DATA.SIZES", "9"),
        cls("key-equals-value", refused("DATA.SIZE"), *CONFIG, "DATA.SIZE=9"),
        cls("unknown-option", usage + refused("--keep-rate"), *CONFIG, "--keep-rate", "0.9"),
        cls("unknown-ablation", usage, *CONFIG, "--without", "everything"),
        cls(
            "keep-ratio-0",
            refused("keep ratio|keep-ratio"),
            *CONFIG,
            "--keep-ratio",
            "0",
            tool="train_cls.py",
        ),
        cls(
            "keep-ratio-without-selection",
            refused("selection"),
            *CONFIG,
            "--keep-ratio",
            "0.5",
            tool="train_cls.py",
        ),
        cls(
            "selection-missing",
            refused("no.json"),
            *CONFIG,
            "--selection",
            "no.json",
            tool="train_cls.py",
        ),
        cls("transfer-nothing", usage, tool="transfer_cls.py"),
        cls("transfer-without-target", usage, *CONFIG, tool="transfer_cls.py"),
        cls(
            "transfer-selection-missing",
            refused("no.json"),
            *CONFIG,
            "--target-config-file",
            "config.yaml",
            "--selection",
            "no.json",
            tool="transfer_cls.py",
        ),
    ]
    apart = [
        Case(
            "apart-line-unknown-set",
            LINES,
            voc,
            "prune_net.py",
            (*CONFIG, "DATASETS.TRAIN", "('x',)"),
            refused("'x'"),
            apart=True,
        ),
        Case(
            "apart-line-no-config",
            LINES,
            voc,
            "train_pruned.py",
            ("--config-file", "no.yaml"),
            refused("no.yaml"),
            apart=True,
        ),
        Case(
            "apart-line-cls-no-config",
            LINES,
            image_folder,
            "prune_cls.py",
            ("--config-file", "no.yaml"),
            refused("no.yaml"),
            apart=True,
        ),
        Case(
            "apart-line-cut",
            LINES,
            voc,
            "cut.py",
            ("--selection", "no.json", "--keep-ratio", "0.5"),
            refused("no.json"),
            apart=True,
        ),
    ]
    return [*cases, *apart]


CASES = _lines()
