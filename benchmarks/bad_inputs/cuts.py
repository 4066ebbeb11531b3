"""Cases: a sound selection of data that have changed, and cuts that leave a class empty."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from . import toys
from .case import Base, Build, Case, Expectation, either, refused, works
from .coco_runs import RENAMED
from .outcomes import holds, images, result_images
from .selections import CONFIG, JSON, KEPT, KIND, NPZ, SELECTION, columns, field, nothing
from .toys import BAD, DATA, OUT, image_folder, voc

DATA_KIND, CUTS = "selections of other data", "cuts and lost classes"
LOST = f"{DATA}/Annotations"


def rare(folder: Path) -> None:
    """A toy with a class of one image, which the selection of :func:`dropped` leaves out."""
    voc(folder)
    path = folder / f"{LOST}/{BAD}.xml"
    path.write_text(path.read_text().replace("dog", "seal"))


def dropped(folder: Path) -> None:
    """The selection keeps all but the image of the rare class, and ranks that last."""
    with np.load(folder / NPZ) as archive:
        row = [key.endswith(BAD) for key in archive["key"].tolist()].index(True)
        keys = archive["key"].tolist()
        count = int(archive["kept"].sum())
    order = [i for i in range(len(keys)) if i != row][:count]
    flags = np.isin(np.arange(len(keys)), order)

    def change(own: dict[str, np.ndarray]) -> None:
        own["kept"] = flags.astype(own["kept"].dtype)
        own["logit"] = np.where(flags, 5, -1).astype(own["logit"].dtype)
        own["logit"][row] = -9

    columns(change)(folder)
    field("kept", sorted(key for key, stays in zip(keys, flags, strict=True) if stays))(folder)


BASES = {
    "voc-rare": Base(rare, (("prune_net.py", CONFIG),)),
    "cls": Base(image_folder, (("prune_cls.py", CONFIG),)),
}


def _other_annotation(folder: Path) -> None:
    path = folder / f"{LOST}/{BAD}.xml"
    path.write_text(path.read_text().replace("<ymax>", "<ymax>1"))


def _dropped_image(folder: Path) -> None:
    (folder / f"{DATA}/JPEGImages/{BAD}.png").unlink()
    (folder / f"{LOST}/{BAD}.xml").unlink()
    path = folder / f"{DATA}/ImageSets/Main/train.txt"
    path.write_text(path.read_text().replace(f"{BAD}\n", ""))


def _added_image(folder: Path) -> None:
    shutil.copy(folder / f"{DATA}/JPEGImages/im00.png", folder / f"{DATA}/JPEGImages/new.png")
    shutil.copy(folder / f"{LOST}/im00.xml", folder / f"{LOST}/new.xml")
    with (folder / f"{DATA}/ImageSets/Main/train.txt").open("a") as file:
        file.write("new\n")


def _renamed_class(folder: Path) -> None:
    for path in (folder / LOST).iterdir():
        path.write_text(path.read_text().replace("dog", "fox"))


def _repainted(folder: Path) -> None:
    toys.picture(44).save(folder / f"{DATA}/JPEGImages/{BAD}.png")


def _moved_folder(folder: Path) -> None:
    (folder / DATA).rename(folder / "elsewhere")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace(f"={DATA}:", "=elsewhere:"))


def _case(
    name: str,
    kind: str,
    build: Build,
    tool: str,
    args: tuple[str, ...],
    expect: tuple[Expectation, ...],
    base: str = "voc",
) -> Case:
    return Case(f"selection-{name}", kind, build, tool, args, expect, base)


def _cases() -> list[Case]:
    train = (*CONFIG, *SELECTION, *KEPT)
    cases: list[Case] = []
    changed = refused("toy_train")
    data: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
        "sound": (nothing, works(images(7, "toy_train@kept70"))),
        "other-annotation": (_other_annotation, changed),
        "image-removed": (_dropped_image, changed),
        "image-added": (_added_image, changed),
        "class-renamed": (
            _renamed_class,
            either(refused("class|fox"), works(says=(RENAMED,))),
        ),
        "image-repainted": (_repainted, either(changed, works(says=("im03.png",)))),
        "folder-moved": (_moved_folder, works(images(7, "toy_train@kept70"))),
    }
    cases += [
        _case(f"data-{name}", DATA_KIND, build, "train_pruned.py", train, expect)
        for name, (build, expect) in data.items()
    ]
    cases += [
        _case(
            "data-set-not-registered",
            DATA_KIND,
            nothing,
            "train_pruned.py",
            (*train, "ADAPRUNER.VOC_FOLDERS", f"['toy_test={DATA}:test']"),
            refused("toy_train"),
        ),
        _case(
            "data-of-classification",
            DATA_KIND,
            lambda folder: voc(folder / "det"),
            "train_pruned.py",
            (
                "--config-file",
                "det/config.yaml",
                *SELECTION,
                *KEPT,
                "ADAPRUNER.VOC_FOLDERS",
                "['toy_train=det/data:train','toy_test=det/data:test']",
            ),
            refused("_train"),
            "cls",
        ),
        _case(
            "data-of-detection-to-classifier",
            DATA_KIND,
            lambda folder: image_folder(folder / "cls"),
            "train_cls.py",
            ("--config-file", "cls/config.yaml", *SELECTION, *KEPT, "DATA.ROOT", "cls/data"),
            refused("toy_train|samples"),
        ),
        _case(
            "in-the-new-runs-folder",
            DATA_KIND,
            nothing,
            "train_pruned.py",
            (*CONFIG, *SELECTION),
            either(refused(OUT), works(holds(JSON), holds(NPZ))),
        ),
        _case(
            "in-the-new-runs-folder-cls",
            DATA_KIND,
            nothing,
            "train_cls.py",
            (*CONFIG, *SELECTION),
            either(refused(OUT), works(holds(JSON), holds(NPZ), result_images(9))),
            "cls",
        ),
        _case(
            "given-by-its-npz",
            KIND,
            nothing,
            "train_pruned.py",
            (*CONFIG, "--selection", NPZ, *KEPT),
            either(refused("selection.npz"), works(images(7, "toy_train@kept70"))),
        ),
    ]
    seal = ("seal",)
    cases += [
        _case(
            "lost-class-cut",
            CUTS,
            dropped,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.3"),
            works(says=seal),
            "voc-rare",
        ),
        _case(
            "lost-class-train",
            CUTS,
            dropped,
            "train_pruned.py",
            train,
            works(says=seal),
            "voc-rare",
        ),
        _case(
            "cut-ratio-0",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0"),
            refused("keep ratio|keep-ratio"),
        ),
        _case(
            "cut-ratio-2",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.5", "2"),
            refused("keep ratio|keep-ratio"),
        ),
        _case(
            "cut-ratio-nan",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "nan"),
            refused("keep ratio|keep-ratio"),
        ),
        _case(
            "cut-into-a-file",
            CUTS,
            lambda folder: (folder / "taken").write_text(""),
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.5", "--output-dir", "taken"),
            refused("taken"),
        ),
        _case(
            "cut-into-proc",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.5", "--output-dir", "/proc/cuts"),
            refused("/proc"),
        ),
        _case(
            "cut-sound",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.5", "0.3"),
            works(holds(f"{OUT}/selection-keep50.json"), holds(f"{OUT}/selection-keep30.npz")),
        ),
        _case(
            "cut-leaves-nothing",
            CUTS,
            nothing,
            "cut.py",
            (*SELECTION, "--keep-ratio", "0.001"),
            either(refused("keep ratio|keep-ratio|no image"), works(says=("0 of 10|1 of 10",))),
        ),
    ]
    return cases


CASES = _cases()
