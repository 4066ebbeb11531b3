"""Cases: COCO annotations that ADAPRUNER.COCO_SETS names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import toys
from .case import Build, Case, Expectation, either, listed, refused, then, works
from .outcomes import ONE, boxes, samples
from .toys import DATA, TEST, TRAIN, coco, edit_json

KIND = "COCO annotations"
CONFIG = ("--config-file", "config.yaml")
FILE = f"{DATA}/train.json"
#: How a line may name the spoilt annotation: by its id, or by its image.
OWNER = r"re:annotation (id )?103\b|im03\.png|image(_id| id)? 4\b"

Change = Callable[[dict[str, Any]], object]


def changed(change: Change, file: str = FILE) -> Build:
    """A toy whose annotation file ``change`` has worked on."""
    return then(coco, lambda folder: edit_json(folder / file, change))


def annotation(**fields: Any) -> Build:
    """A toy one of whose annotations has other fields; None leaves one out."""

    def change(content: dict[str, Any]) -> None:
        own = content["annotations"][3]
        own.update(fields)
        for name, value in fields.items():
            if value is None:
                del own[name]

    return changed(change)


def image(**fields: Any) -> Build:
    """A toy one of whose images has other fields; None leaves one out."""

    def change(content: dict[str, Any]) -> None:
        own = content["images"][3]
        own.update(fields)
        for name, value in fields.items():
            if value is None:
                del own[name]

    return changed(change)


def content(data: str | bytes) -> Build:
    """A toy whose annotation file is ``data``."""
    raw = data.encode() if isinstance(data, str) else data
    return then(coco, lambda folder: (folder / FILE).write_bytes(raw))


def instead(make: Callable[[Path], object], file: str = FILE) -> Build:
    """A toy with something else in place of a file."""

    def build(folder: Path) -> None:
        coco(folder)
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return build


def null_box(content: dict[str, Any]) -> None:
    content["annotations"][3]["bbox"] = None


def appended(part: str, row: int, **fields: Any) -> Build:
    """A toy with a further row that is like row ``row``."""
    return changed(lambda content: content[part].append({**content[part][row], **fields}))


def in_both(part: str, **fields: Any) -> Build:
    """A toy whose sets both have a further row that is like the first."""

    def change(content: dict[str, Any]) -> None:
        content[part].append({**content[part][0], **fields})

    return then(changed(change), lambda folder: edit_json(folder / f"{DATA}/test.json", change))


def keyless(part: str) -> Build:
    """A toy whose annotation file has no such part."""
    return changed(lambda content: content.pop(part))


def reordered(content: dict[str, Any]) -> None:
    """The same categories with their ids the other way round, and the annotations with them."""
    swap = {3: 7, 7: 3}
    for category in content["categories"]:
        category["id"] = swap[category["id"]]
    for own in content["annotations"]:
        own["category_id"] = swap[own["category_id"]]


def second_set(change: Change) -> Build:
    """Two training sets, the second of which ``change`` has worked on."""

    def build(folder: Path) -> None:
        coco(folder)
        content = toys.coco_json(range(TRAIN, TRAIN + TEST))
        change(content)
        (folder / DATA / "second.json").write_text(json.dumps(content))
        sets = [*toys.COCO_SETS["ADAPRUNER.COCO_SETS"], f"second={DATA}/second.json:{DATA}/images"]
        toys.configure(
            folder,
            {
                **toys.YOLO,
                **toys.TRAINING,
                "ADAPRUNER.COCO_SETS": sets,
                "MODEL.YOLO.NUM_CLASSES": 2,
                "DATASETS.TRAIN": ["toy_train", "second"],
                "DATASETS.TEST": [],
            },
        )

    return build


def other_test(change: Change) -> Build:
    """A test set that ``change`` has worked on."""
    return changed(change, f"{DATA}/test.json")


X, Y, W, H = 17, 15, 17, 17
ALL = works(samples(TRAIN), boxes(TRAIN))
NAMED = refused(OWNER)
#: A box that cannot be one: refused by name, or left out and said with file and count.
WARNED = either(
    NAMED, works(samples(TRAIN - 1), says=(OWNER, ONE)), works(boxes(TRAIN - 1), says=(OWNER,))
)
SAID = either(NAMED, works(says=(OWNER,)))
TABLE: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
    "no-bbox": (annotation(bbox=None), NAMED),
    "bbox-null": (changed(null_box), NAMED),
    "bbox-empty": (annotation(bbox=[]), NAMED),
    "bbox-of-3": (annotation(bbox=[X, Y, W]), NAMED),
    "bbox-of-5": (annotation(bbox=[X, Y, W, H, 0.5]), NAMED),
    "bbox-of-strings": (annotation(bbox=[str(v) for v in (X, Y, W, H)]), either(NAMED, ALL)),
    "bbox-of-words": (annotation(bbox=["a", "b", "c", "d"]), NAMED),
    "bbox-of-nulls": (annotation(bbox=[None] * 4), NAMED),
    "bbox-a-string": (annotation(bbox="1,2,3,4"), NAMED),
    "bbox-a-dict": (annotation(bbox={"x": 1, "y": 2, "w": 3, "h": 4}), NAMED),
    "bbox-nested": (annotation(bbox=[[X, Y, W, H]]), NAMED),
    "bbox-of-bools": (annotation(bbox=[True, True, True, True]), either(NAMED, SAID)),
    "bbox-nan": (annotation(bbox=[X, Y, float("nan"), H]), WARNED),
    "bbox-inf": (annotation(bbox=[X, Y, float("inf"), H]), WARNED),
    "bbox-huge": (annotation(bbox=[1e30, 1e30, 1e30, 1e30]), WARNED),
    "bbox-zero-width": (annotation(bbox=[X, Y, 0, H]), WARNED),
    "bbox-zero": (annotation(bbox=[0, 0, 0, 0]), WARNED),
    "bbox-negative-height": (annotation(bbox=[X, Y, W, -H]), WARNED),
    "bbox-outside": (annotation(bbox=[200, 200, 20, 20]), WARNED),
    "bbox-left-of-image": (annotation(bbox=[-50, 5, 20, 20]), WARNED),
    "bbox-partly-outside": (annotation(bbox=[50, 30, 30, 30]), SAID),
    "bbox-xyxy-as-xywh": (annotation(bbox=[40, 30, 60, 46]), SAID),
    "bbox-normalised": (annotation(bbox=[0.2, 0.3, 0.25, 0.4]), SAID),
    "crowd": (annotation(iscrowd=1), either(works(samples(TRAIN - 1)), works(samples(TRAIN)))),
    "crowd-of-2": (annotation(iscrowd=2), either(NAMED, works())),
    "crowd-a-string": (annotation(iscrowd="no"), either(NAMED, SAID)),
    "no-iscrowd": (annotation(iscrowd=None), ALL),
    "no-segmentation": (annotation(segmentation=None), ALL),
    "segmentation-empty": (annotation(segmentation=[]), either(ALL, SAID)),
    "category-unknown": (annotation(category_id=99), refused("train.json", "99")),
    "category-a-string": (annotation(category_id="7"), either(NAMED, refused("train.json", "'7'"))),
    "category-null": (changed(lambda c: c["annotations"][3].update(category_id=None)), NAMED),
    "no-category-id": (annotation(category_id=None), NAMED),
    "duplicate-category-id": (
        appended("categories", 0, name="fox"),
        refused("train.json", "3|fox"),
    ),
    "duplicate-category-name": (in_both("categories", id=9), refused("train.json", "cat")),
    "category-names-differ-by-case": (
        in_both("categories", id=9, name="Cat"),
        either(
            works(samples(TRAIN), says=("Cat", "differ|case|alike")), refused("Cat", "NUM_CLASSES")
        ),
    ),
    "category-without-name": (
        changed(lambda c: c["categories"][0].pop("name")),
        refused("train.json", "name"),
    ),
    "category-without-id": (
        changed(lambda c: c["categories"][0].pop("id")),
        refused("train.json", "id"),
    ),
    "no-categories-given": (
        changed(lambda c: c.update(categories=[])),
        refused("train.json", "categor"),
    ),
    "duplicate-image-id": (appended("images", 0, file_name="im12.png"), refused("train.json", "1")),
    "duplicate-image-row": (appended("images", 3), refused("train.json", "4|im03")),
    "duplicate-annotation-id": (appended("annotations", 2), refused("train.json", "102")),
    "same-file-under-two-ids": (
        appended("images", 3, id=77),
        either(refused("im03"), works(says=("im03.png",)), works(samples(TRAIN))),
    ),
    "annotation-of-no-image": (
        appended("annotations", 3, id=999, image_id=12345),
        either(refused("train.json", "12345|999"), works(says=("12345|999",))),
    ),
    "annotation-without-image-id": (
        annotation(image_id=None),
        refused("train.json", "103|image_id"),
    ),
    "annotation-without-id": (annotation(id=None), either(ALL, refused("train.json", "id"))),
    "image-without-annotations": (
        changed(lambda c: c["annotations"].pop(3)),
        works(samples(TRAIN - 1)),
    ),
    "no-annotations-at-all": (
        changed(lambda c: c["annotations"].clear()),
        refused("toy_train|train.json"),
    ),
    "no-images-at-all": (
        changed(lambda c: (c["images"].clear(), c["annotations"].clear())),
        refused("toy_train|train.json"),
    ),
    "no-images-key": (keyless("images"), refused("train.json", "images")),
    "no-annotations-key": (keyless("annotations"), refused("train.json", "annotations")),
    "no-categories-key": (keyless("categories"), refused("train.json", "categories")),
    "images-a-dict": (changed(lambda c: c.update(images={})), refused("train.json", "images")),
    "annotations-null": (
        changed(lambda c: c.update(annotations=None)),
        refused("train.json", "annotations"),
    ),
    "image-without-file-name": (image(file_name=None), refused("train.json", "file_name")),
    "image-without-id": (image(id=None), refused("train.json", "id")),
    "image-without-size": (image(width=None, height=None), either(ALL, refused("train.json"))),
    "image-size-a-string": (image(width="64", height="48"), either(ALL, refused("train.json"))),
    "image-size-null": (
        changed(lambda c: c["images"][3].update(width=None)),
        either(ALL, refused("train.json|im03")),
    ),
    "image-size-wrong": (image(width=640), refused("im03")),
    "file-name-outside": (image(file_name="../../away.png"), refused("away.png")),
    "file-name-absolute": (image(file_name="/etc/hostname"), refused("/etc/hostname")),
    "file-name-of-folder": (image(file_name=""), refused("train.json|images")),
    "file-name-a-number": (image(file_name=7), refused("train.json|7")),
    "file-missing": (image(file_name="nowhere.png"), refused("nowhere.png")),
    "file-name-with-null": (image(file_name="im\0.png"), refused("train.json|im")),
    "id-a-string": (
        changed(
            lambda c: (c["images"][3].update(id="x4"), c["annotations"][3].update(image_id="x4"))
        ),
        either(ALL, refused("train.json", "x4")),
    ),
    "id-with-slash": (
        changed(
            lambda c: (c["images"][3].update(id="a/4"), c["annotations"][3].update(image_id="a/4"))
        ),
        either(works(samples(TRAIN)), refused("train.json", "a/4")),
    ),
    "not-json": (content("hello"), refused("train.json")),
    "empty-file": (content(""), refused("train.json")),
    "cut": (content(json.dumps(toys.coco_json(range(TRAIN)))[:700]), refused("train.json")),
    "a-list": (content("[]"), refused("train.json")),
    "a-number": (content("7"), refused("train.json")),
    "null": (content("null"), refused("train.json")),
    "empty-dict": (content("{}"), refused("train.json")),
    "utf-16": (
        content(json.dumps(toys.coco_json(range(TRAIN))).encode("utf-16")),
        either(refused("train.json"), ALL),
    ),
    "bom": (
        content("\ufeff" + json.dumps(toys.coco_json(range(TRAIN)))),
        either(refused("train.json"), ALL),
    ),
    "binary": (content(bytes(range(256)) * 9), refused("train.json")),
    "deep-nesting": (content("[" * 200_000 + "]" * 200_000), refused("train.json")),
    "huge-number": (content('{"images": [{"id": 1' + "0" * 5000 + "}]}"), refused("train.json")),
    "zip-as-json": (content(b"PK\x03\x04" + bytes(100)), refused("train.json")),
    "file-directory": (instead(Path.mkdir), refused("train.json")),
    "file-fifo": (instead(os.mkfifo), refused("train.json")),
    "file-missing-altogether": (instead(lambda path: None), refused("train.json")),
    "file-link-to-zero-device": (
        instead(lambda path: path.symlink_to("/dev/zero")),
        refused("train.json|/dev/zero"),
    ),
    "images-folder-missing": (instead(lambda path: None, f"{DATA}/images"), refused("images")),
    "images-folder-a-file": (
        instead(lambda path: path.write_text(""), f"{DATA}/images"),
        refused("images"),
    ),
    "results-file-as-annotations": (
        content(
            json.dumps([{"image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.9}])
        ),
        refused("train.json"),
    ),
    "two-sets-of-other-order": (second_set(reordered), refused("second", "toy_train", "class")),
    "two-sets-of-other-names": (
        second_set(lambda c: c["categories"][0].update(name="fox")),
        refused("second", "fox"),
    ),
    "two-sets-one-class-less": (
        second_set(
            lambda c: (
                c["categories"].pop(0),
                c.update(annotations=[a for a in c["annotations"] if a["category_id"] == 7]),
            )
        ),
        refused("second", "class"),
    ),
    "two-sets-of-other-category-ids": (
        second_set(
            lambda c: (
                [x.update(id=x["id"] + 10) for x in c["categories"]],
                [a.update(category_id=a["category_id"] + 10) for a in c["annotations"]],
            )
        ),
        either(works(samples(TRAIN + TEST)), refused("second")),
    ),
    "two-sets-alike": (second_set(lambda c: None), works(samples(TRAIN + TEST))),
    "test-set-of-other-order": (other_test(reordered), refused("toy_test", "class")),
    "test-set-without-images-key": (
        other_test(lambda c: c.pop("images")),
        refused("test.json", "images"),
    ),
    "test-set-without-bbox": (
        other_test(lambda c: c["annotations"][0].pop("bbox")),
        refused("test.json|im10"),
    ),
    "test-set-category-unknown": (
        other_test(lambda c: c["annotations"][0].update(category_id=99)),
        refused("test.json", "99"),
    ),
    "test-set-image-missing": (
        other_test(lambda c: c["images"][0].update(file_name="nowhere.png")),
        refused("nowhere.png"),
    ),
}


def _entries() -> list[Case]:
    """What may stand in ADAPRUNER.COCO_SETS."""
    key = "ADAPRUNER.COCO_SETS"
    good = f"toy_train={DATA}/train.json:{DATA}/images"
    table = {
        "no-name": (f"['={DATA}/train.json:{DATA}/images']", (key,)),
        "no-equals": (f"['{DATA}/train.json:{DATA}/images']", (key,)),
        "no-images": (f"['toy_train={DATA}/train.json']", (key,)),
        "empty-images": (f"['toy_train={DATA}/train.json:']", (key,)),
        "empty": ("['']", (key,)),
        "a-number": ("[7]", (key,)),
        "a-string": (f"'{good}'", (key,)),
        "the-same-name-twice": (
            f"['{good}', 'toy_train={DATA}/test.json:{DATA}/images']",
            ("toy_train",),
        ),
        "a-name-of-detectron2s": (
            f"['coco_2017_val={DATA}/train.json:{DATA}/images']",
            ("coco_2017_val",),
        ),
        "a-missing-file": (f"['toy_train=nowhere.json:{DATA}/images']", ("nowhere.json",)),
    }
    return [
        Case(
            f"coco-sets-{name}",
            KIND,
            coco,
            "prune_net.py",
            (*CONFIG, key, value, "DATASETS.TEST", "()"),
            refused(*words),
        )
        for name, (value, words) in table.items()
    ]


CASES = [
    *(
        Case(f"coco-{name}", KIND, build, "prune_net.py", CONFIG, expect)
        for name, (build, expect) in TABLE.items()
    ),
    Case("coco-check-no-bbox", KIND, annotation(bbox=None), "check_data.py", CONFIG, listed(OWNER)),
    Case(
        "coco-check-not-json", KIND, content("hello"), "check_data.py", CONFIG, listed("train.json")
    ),
    *_entries(),
]
