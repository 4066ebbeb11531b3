"""Cases: the weights that a run starts from, in both tasks."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import toys
from .case import Case, Expectation, Refused, either, refused, then, works
from .outcomes import holds, lacks, samples
from .runs import Marker, flip, half
from .toys import OUT, TRAIN, image_folder, voc

KIND = "weights"
CONFIG = ("--config-file", "config.yaml")


def detector(folder: Path, changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """The weights of a detector of 5 classes that is otherwise the toy's."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from adapruner_det import add_adapruner_config

    cfg = get_cfg()
    add_adapruner_config(cfg)
    settings = {**toys.YOLO, "MODEL.YOLO.NUM_CLASSES": 5, "MODEL.DEVICE": "cpu", **(changes or {})}
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    torch.manual_seed(0)
    return build_model(cfg).state_dict()


def saved(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Write what ``make`` gives as torch.save does."""
    return lambda folder: torch.save(make(folder), folder / name)


def pickled(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Write what ``make`` gives as Detectron2's model zoo does."""
    return lambda folder: (folder / name).write_bytes(pickle.dumps(make(folder)))


def raw(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data)


def damaged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        torch.save({"model": detector(folder)}, folder / name)
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return build


def arrays(folder: Path) -> dict[str, Any]:
    """As in a file of the model zoo."""
    model = {name: value.numpy() for name, value in detector(folder).items()}
    return {"model": model, "__author__": "nobody"}


def _nan(folder: Path) -> dict[str, Any]:
    return {"model": {k: v * float("nan") for k, v in detector(folder).items()}}


def _other_shapes(folder: Path) -> dict[str, Any]:
    return {"model": detector(folder, {"MODEL.DARKNET.WIDTH": 0.25})}


SKIPPED = ("skip|shape|not loaded|starts anew",)
#: What is made, MODEL.WEIGHTS, further arguments in front, and what is right.
TABLE: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...], tuple[Expectation, ...]]] = {
    "missing": (lambda folder: None, "no.pth", (), refused("no.pth")),
    "missing-folder": (lambda folder: None, "no/such/w.pth", (), refused("no/such/w.pth")),
    "directory": (lambda folder: (folder / "w.pth").mkdir(), "w.pth", (), refused("w.pth")),
    "fifo": (lambda folder: os.mkfifo(folder / "w.pth"), "w.pth", (), refused("w.pth")),
    "zero-device": (lambda folder: None, "/dev/zero", (), refused("/dev/zero")),
    "empty": (raw("w.pth", b""), "w.pth", (), refused("w.pth")),
    "text": (raw("w.pth", b"hello\n"), "w.pth", (), refused("w.pth")),
    "web-page": (raw("w.pth", b"<!DOCTYPE html><html></html>"), "w.pth", (), refused("w.pth")),
    "lfs-pointer": (
        raw("w.pth", b"version https://git-lfs.github.com/spec/v1\n"),
        "w.pth",
        (),
        refused("w.pth"),
    ),
    "torn": (damaged("w.pth", half), "w.pth", (), refused("w.pth")),
    "flipped": (damaged("w.pth", flip), "w.pth", (), refused("w.pth")),
    "hostile-pth": (
        saved("w.pth", lambda f: {"model": {}, "x": Marker()}),
        "w.pth",
        (),
        refused("w.pth"),
    ),
    "hostile-pth-of-pickle": (
        raw("w.pth", pickle.dumps({"model": Marker()})),
        "w.pth",
        (),
        refused("w.pth"),
    ),
    "hostile-pkl": (raw("w.pkl", pickle.dumps({"model": Marker()})), "w.pkl", (), refused("w.pkl")),
    "pkl-untrusted": (pickled("w.pkl", arrays), "w.pkl", (), refused("w.pkl", "--trust-pickle")),
    "pkl-trusted": (pickled("w.pkl", arrays), "w.pkl", ("--trust-pickle",), works(samples(TRAIN))),
    "pkl-trusted-text": (raw("w.pkl", b"hello\n"), "w.pkl", ("--trust-pickle",), refused("w.pkl")),
    "a-list": (saved("w.pth", lambda f: [1, 2]), "w.pth", (), refused("w.pth")),
    "a-tensor": (saved("w.pth", lambda f: torch.ones(3)), "w.pth", (), refused("w.pth")),
    "a-whole-module": (
        saved("w.pth", lambda f: torch.nn.Linear(2, 2)),
        "w.pth",
        (),
        refused("w.pth"),
    ),
    "nothing-matches": (
        saved("w.pth", lambda f: {"model": {"some.weight": torch.ones(3)}}),
        "w.pth",
        (),
        either(refused("w.pth"), works(says=("some.weight",))),
    ),
    "not-finite": (
        saved("w.pth", _nan),
        "w.pth",
        (),
        (Refused(("w.pth",)), Refused(("diverge|w.pth",), may_write=True)),
    ),
    "other-head": (
        saved("w.pth", lambda f: {"model": detector(f)}),
        "w.pth",
        (),
        works(samples(TRAIN), says=SKIPPED),
    ),
    "other-head-bare": (saved("w.pth", detector), "w.pth", (), works(samples(TRAIN), says=SKIPPED)),
    "other-width": (
        saved("w.pth", _other_shapes),
        "w.pth",
        (),
        works(samples(TRAIN), says=SKIPPED),
    ),
    "unreachable": (lambda folder: None, "http://127.0.0.1:9/w.pth", (), refused("127.0.0.1")),
    "unknown-scheme": (lambda folder: None, "ftp2://host/w.pth", (), refused("ftp2")),
    "unknown-zoo-name": (
        lambda folder: None,
        "catalog://Nothing/such",
        (),
        refused("catalog://Nothing/such|Nothing"),
    ),
}
#: For a classifier's MODEL.WEIGHTS.
PLAIN: dict[str, tuple[Callable[[Path], object], tuple[Expectation, ...]]] = {
    "missing": (lambda folder: None, refused("w.pt")),
    "directory": (lambda folder: (folder / "w.pt").mkdir(), refused("w.pt")),
    "fifo": (lambda folder: os.mkfifo(folder / "w.pt"), refused("w.pt")),
    "empty": (raw("w.pt", b""), refused("w.pt")),
    "text": (raw("w.pt", b"hello\n"), refused("w.pt")),
    "hostile": (saved("w.pt", lambda f: {"x": Marker()}), refused("w.pt")),
    "hostile-of-pickle": (raw("w.pt", pickle.dumps(Marker())), refused("w.pt")),
    "a-list": (saved("w.pt", lambda f: [1, 2]), refused("w.pt")),
    "nothing-matches": (saved("w.pt", lambda f: {"some": torch.ones(3)}), refused("w.pt")),
    "of-a-detector": (damaged("w.pt", lambda data: data), refused("w.pt")),
    "torn": (damaged("w.pt", half), refused("w.pt")),
}


def _two_classes(detector_settings: dict[str, Any], key: str) -> Callable[[Path], None]:
    """Weights of a detector of 5 classes for one of 2, as when starting from COCO's 80."""

    def build(folder: Path) -> None:
        voc(folder)
        toys.configure(folder, {**detector_settings, **toys.TRAINING, **toys.VOC_SETS})
        torch.save({"model": detector(folder, {**detector_settings, key: 5})}, folder / "w.pth")

    return build


def _cases() -> list[Case]:
    cases = [
        Case(
            f"weights-{name}",
            KIND,
            then(voc, make),
            "prune_net.py",
            (*front, *CONFIG, "MODEL.WEIGHTS", value),
            expect,
        )
        for name, (make, value, front, expect) in TABLE.items()
    ]
    for name in (
        "missing",
        "text",
        "hostile-pth",
        "hostile-pkl",
        "pkl-untrusted",
        "fifo",
        "flipped",
    ):
        make, value, front, expect = TABLE[name]
        for short, options in (("plain", ()), ("eval", ("--eval-only",))):
            cases.append(
                Case(
                    f"weights-{short}-{name}",
                    KIND,
                    then(voc, make),
                    "train_pruned.py",
                    (*options, *CONFIG, "MODEL.WEIGHTS", value),
                    expect,
                )
            )
    for name in ("missing", "hostile-pth", "other-head"):
        make, value, _, expect = TABLE[name]
        if name == "other-head":
            expect = works(holds(f"{OUT}/log.txt"), lacks("marker"))
        cases.append(
            Case(
                f"weights-compare-{name}",
                KIND,
                then(voc, make),
                "compare.py",
                (*CONFIG, "--num-seeds", "1", "MODEL.WEIGHTS", value),
                expect,
            )
        )
    for name, settings, key in (
        ("faster-rcnn", toys.FASTER_RCNN, "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("retinanet", toys.RETINANET, "MODEL.RETINANET.NUM_CLASSES"),
    ):
        cases.append(
            Case(
                f"weights-other-head-{name}",
                KIND,
                _two_classes(settings, key),
                "prune_net.py",
                (*CONFIG, "MODEL.WEIGHTS", "w.pth"),
                works(samples(TRAIN), says=SKIPPED),
            )
        )
    cases += [
        Case(
            f"weights-cls-{name}",
            KIND,
            then(image_folder, make),
            "prune_cls.py",
            (*CONFIG, "MODEL.WEIGHTS", "w.pt"),
            expect,
        )
        for name, (make, expect) in PLAIN.items()
    ]
    return cases


CASES = _cases()
