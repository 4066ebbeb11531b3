"""Cases: COCO data in a user's own script, classes against heads, and kept COCO splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import toys
from .case import Base, Build, Case, Expectation, Refused, either, refused, then, works
from .coco import CONFIG, FILE, KIND, OWNER, Change, reordered
from .outcomes import classes, images, samples
from .toys import BAD, CLASSES, DATA, OUT, TRAIN, coco, edit_json

RENAMED = r"re:fox.*(differ|other|renamed)"
HEADS, TRUTH = "classes of heads", "kept COCO splits"
US = (*CONFIG, "--num-gpus", "0", "--coco", f"my_coco:{DATA}/train.json:{DATA}/images")


def _script_refuses(*words: str) -> tuple[Expectation, ...]:
    return tuple(Refused(words, code=code, may_write=True) for code in (1, 2))


def _script() -> list[Case]:
    """The same by a user's own script, where Detectron2's reader has read the file."""
    mine = {"DATASETS.TRAIN": ["my_coco"], "DATASETS.TEST": [], "ADAPRUNER.COCO_SETS": []}

    def build(change: Change, more: dict[str, Any] | None = None) -> Build:
        def write(folder: Path) -> None:
            coco(folder)
            edit_json(folder / FILE, change)
            settings = {**toys.YOLO, **toys.TRAINING, **mine, "MODEL.YOLO.NUM_CLASSES": 2}
            settings.pop("ADAPRUNER.COCO_SETS")
            toys.configure(folder, {**settings, **(more or {})})

        return write

    def at(**fields: Any) -> Change:
        return lambda content: content["annotations"][3].update(fields)

    owner = f"{OWNER}|my_coco/4"
    warned = (*works(says=(owner,)), *_script_refuses(owner))
    table: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
        "sound": (build(lambda content: None), works(samples(TRAIN))),
        "no-bbox": (build(lambda c: c["annotations"][3].pop("bbox")), _script_refuses(owner)),
        "zero-width": (build(at(bbox=[9, 9, 0, 9])), warned),
        "negative-height": (build(at(bbox=[9, 9, 9, -20])), warned),
        "nan": (build(at(bbox=[9, 9, float("nan"), 9])), warned),
        "outside": (build(at(bbox=[200, 200, 9, 9])), warned),
        "crowd": (build(at(iscrowd=1)), works(says=())),
        "too-few-classes": (
            build(lambda c: None, {"MODEL.YOLO.NUM_CLASSES": 1}),
            _script_refuses("NUM_CLASSES"),
        ),
        "image-missing": (
            build(lambda c: c["images"][3].update(file_name="nowhere.png")),
            _script_refuses("nowhere.png"),
        ),
    }
    cases = [
        Case(f"coco-script-{name}", KIND, b, "us.py", US, expect)
        for name, (b, expect) in table.items()
    ]
    two = then(
        build(lambda c: None, {"DATASETS.TRAIN": ["my_coco", "second"]}),
        lambda folder: edit_json(folder / f"{DATA}/test.json", reordered),
    )
    more = (*US, f"second:{DATA}/test.json:{DATA}/images")
    cases.append(
        Case(
            "coco-script-other-order", KIND, two, "us.py", more, _script_refuses("second", "class")
        )
    )
    return cases


def _heads() -> list[Case]:
    """Too few classes, for the head of every detector; more than there are is a plain waste."""
    detectors = {
        "yolo": (toys.YOLO, "MODEL.YOLO.NUM_CLASSES"),
        "faster-rcnn": (toys.FASTER_RCNN, "MODEL.ROI_HEADS.NUM_CLASSES"),
        "mask-rcnn": (toys.MASK_RCNN, "MODEL.ROI_HEADS.NUM_CLASSES"),
        "retinanet": (toys.RETINANET, "MODEL.RETINANET.NUM_CLASSES"),
    }
    mine = {"DATASETS.TRAIN": ["my_coco"], "DATASETS.TEST": []}
    cases = []
    for name, (detector, key) in detectors.items():
        for count, words in ((1, (key.rpartition(".")[2],)), (2, None)):

            def build(folder: Path, detector=detector, key=key, count=count) -> None:
                coco(folder)
                toys.configure(folder, {**detector, **toys.TRAINING, **mine, key: count})

            expect = works(samples(TRAIN)) if words is None else _script_refuses(*words, "2")
            cases.append(Case(f"classes-{count}-of-{name}", HEADS, build, "us.py", US, expect))
        sets = {**detector, **toys.TRAINING, **toys.COCO_SETS}
        cases.append(
            Case(
                f"classes-from-coco-sets-{name}",
                HEADS,
                lambda folder, s=sets: (coco(folder), toys.configure(folder, s)),
                "prune_net.py",
                CONFIG,
                # Their number follows from the set, or is asked for.
                either(works(samples(TRAIN), classes(*CLASSES)), refused("NUM_CLASSES")),
            )
        )
    return cases


BASES = {
    "coco": Base(coco, (("prune_net.py", CONFIG),)),
    "coco-frcnn": Base(
        lambda folder: (
            coco(folder),
            toys.configure(
                folder,
                {
                    **toys.FASTER_RCNN,
                    **toys.TRAINING,
                    **toys.COCO_SETS,
                    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
                },
            ),
        ),
        (("prune_net.py", CONFIG),),
    ),
}


def nothing(folder: Path) -> None:
    """The finished run as it is."""


def _kept() -> list[Case]:
    names = f"toy_train={DATA}/train.json:{DATA}/images"
    truth = (f"{OUT}/selection.json", names)
    train = (*CONFIG, "--selection", f"{OUT}/selection.json", "OUTPUT_DIR", "kept")

    def crowded(folder: Path) -> None:
        """A crowd box more changes the data."""
        edit_json(
            folder / FILE,
            lambda c: c["annotations"].append({**c["annotations"][0], "id": 900, "iscrowd": 1}),
        )

    def case(
        name: str, build: Build, tool: str, args: tuple[str, ...], expect: tuple[Expectation, ...]
    ) -> Case:
        return Case(name, TRUTH, build, tool, args, expect, base="coco")

    said = works(says=("AP of the truth: 100.0", "cat", "dog"))
    return [
        case("truth-of-kept-split", nothing, "truth.py", truth, said),
        Case(
            "truth-of-kept-split-frcnn", TRUTH, nothing, "truth.py", truth, said, base="coco-frcnn"
        ),
        case(
            "train-on-kept-split",
            nothing,
            "train_pruned.py",
            train,
            works(images(7, "toy_train@kept70")),
        ),
        case("kept-split-crowd-added", crowded, "train_pruned.py", train, refused("toy_train")),
        case(
            "kept-split-box-moved",
            lambda folder: edit_json(
                folder / FILE, lambda c: c["annotations"][2]["bbox"].reverse()
            ),
            "train_pruned.py",
            train,
            refused("toy_train"),
        ),
        case(
            "kept-split-image-changed",
            lambda folder: toys.picture(12).save(folder / f"{DATA}/images/{BAD}.png"),
            "train_pruned.py",
            train,
            either(refused("toy_train", "4"), works(says=("im03.png",))),
        ),
        case(
            "kept-split-class-renamed",
            lambda folder: edit_json(
                folder / FILE, lambda c: c["categories"][0].update(name="fox")
            ),
            "train_pruned.py",
            train,
            either(refused("class"), refused("fox"), works(says=(RENAMED,))),
        ),
    ]


CASES = [*_script(), *_heads(), *_kept()]
