"""Cases: image files, in both tasks and for every tool that opens them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .case import Build, Case, Expectation, either, listed, refused, then, works
from .faults import FAULTS, FINE, GREY, Fault, encoded, like, replaced, turned
from .outcomes import ONE, boxes, excluded, holds, samples
from .toys import BAD, DATA, OUT, TRAIN, coco, image_folder, toy_xml, voc

DETECTION, CLASSIFICATION = "images, detection", "images, classification"
FIVE, THREE = r"re:\b5 (\S+ )?(file|image|other)", r"re:\b3 (of|image|sample)"
CONFIG = ("--config-file", "config.yaml")
VOC_IMAGE = f"{DATA}/JPEGImages/{BAD}.png"
CLASS_IMAGE = f"{DATA}/train/dog/{BAD}.png"


def spoilt(toy: Build, path: str, *faults: Fault) -> Build:
    """A toy one of whose files has ``faults``."""
    return then(toy, *(partial(_at, fault, path) for fault in faults))


def _at(fault: Fault, path: str, folder: Path) -> None:
    fault(folder / path)


def _case(
    name: str, kind: str, build: Build, tool: str, expect: tuple[Expectation, ...], *more: str
) -> Case:
    return Case(name, kind, build, tool, (*CONFIG, *more), expect)


def _gone(name: str) -> tuple[Expectation, ...]:
    """Where a class has no list, a file that is not there is one image less, and nothing else."""
    if name == "missing":
        return works(samples(11))
    return either(refused(BAD), works(samples(11))) if name == "directory" else refused(BAD)


def _pruning() -> list[Case]:
    cases = []
    for name, fault in FAULTS.items():
        cases += [
            _case(
                f"voc-image-{name}",
                DETECTION,
                spoilt(voc, VOC_IMAGE, fault),
                "prune_net.py",
                refused(BAD),
            ),
            _case(
                f"cls-image-{name}",
                CLASSIFICATION,
                spoilt(image_folder, CLASS_IMAGE, fault),
                "prune_cls.py",
                _gone(name),
            ),
        ]
    for name, fault in {**FINE, **GREY}.items():
        cases.append(
            _case(
                f"voc-image-{name}",
                DETECTION,
                spoilt(voc, VOC_IMAGE, fault),
                "prune_net.py",
                works(samples(TRAIN), boxes(TRAIN)),
            )
        )
    for name, fault in FINE.items():
        cases.append(
            _case(
                f"cls-image-{name}",
                CLASSIFICATION,
                spoilt(image_folder, CLASS_IMAGE, fault),
                "prune_cls.py",
                works(samples(12)),
            )
        )
    for name, fault in GREY.items():
        build = spoilt(image_folder, CLASS_IMAGE, fault)
        cases += [
            _case(f"cls-image-{name}", CLASSIFICATION, build, "prune_cls.py", refused(BAD, "grey")),
            _case(
                f"cls-image-{name}-converted",
                CLASSIFICATION,
                build,
                "prune_cls.py",
                works(samples(12), says=("grey",)),
                "DATA.GREY",
                "convert",
            ),
        ]
    return cases


def _other_tools() -> list[Case]:
    """One fault of each nature at every other place where images are opened."""
    some = ("missing", "fifo", "jpeg-cut-in-half", "bomb-in-header", "16-bit-grey-png", "text")
    test_voc, test_cls = f"{DATA}/JPEGImages/im11.png", f"{DATA}/test/cat/im01.png"
    cases = []
    for name in some:
        fault = FAULTS[name]
        bad = spoilt(voc, VOC_IMAGE, fault)
        coco_bad = spoilt(coco, f"{DATA}/images/{BAD}.png", fault)
        cases += [
            _case(f"check-voc-{name}", DETECTION, bad, "check_data.py", listed(BAD)),
            _case(f"check-coco-{name}", DETECTION, coco_bad, "check_data.py", listed(BAD)),
            _case(f"coco-image-{name}", DETECTION, coco_bad, "prune_net.py", refused(BAD)),
            _case(
                f"voc-test-image-{name}",
                DETECTION,
                spoilt(voc, test_voc, fault),
                "prune_net.py",
                refused("im11"),
            ),
        ]
        if name != "missing":
            cases.append(
                _case(
                    f"cls-test-image-{name}",
                    CLASSIFICATION,
                    spoilt(image_folder, test_cls, fault),
                    "train_cls.py",
                    refused("im01"),
                )
            )
    for name in ("fifo", "jpeg-cut-in-half"):
        bad = spoilt(voc, VOC_IMAGE, FAULTS[name])
        cases += [
            _case(f"plain-image-{name}", DETECTION, bad, "train_pruned.py", refused(BAD)),
            _case(
                f"compare-image-{name}",
                DETECTION,
                bad,
                "compare.py",
                refused(BAD),
                "--num-seeds",
                "1",
            ),
            _case(
                f"skip-image-{name}",
                DETECTION,
                bad,
                "prune_net.py",
                works(samples(TRAIN - 1), excluded(BAD), says=(f"{BAD}.png", ONE)),
                "ADAPRUNER.ON_BAD_SAMPLE",
                "skip",
            ),
            Case(
                f"transfer-image-{name}",
                CLASSIFICATION,
                spoilt(image_folder, CLASS_IMAGE, FAULTS[name]),
                "transfer_cls.py",
                (*CONFIG, "--target-config-file", "config.yaml"),
                refused(BAD),
            ),
        ]
    return cases


def _sizes() -> list[Case]:
    """The annotation's size against the image's, which is what EXIF makes of it."""
    xml = f"{DATA}/Annotations/{BAD}.xml"

    def stated(width: object, height: object) -> Fault:
        return lambda path: path.write_text(
            toy_xml(3)
            .replace("<width>64", f"<width>{width}")
            .replace("<height>48", f"<height>{height}")
        )

    def without_size(path: Path) -> None:
        text = toy_xml(3)
        path.write_text(text[: text.index("<size>")] + text[text.index("</size>") + 7 :])

    wrong = refused(BAD)
    fine = works(samples(TRAIN), boxes(TRAIN))
    table: dict[str, tuple[Fault, tuple[Expectation, ...]]] = {
        "ten-too-wide": (stated(74, 48), wrong),
        "one-too-low": (stated(64, 47), wrong),
        "swapped": (stated(48, 64), wrong),
        "huge": (stated(10**12, 10**12), wrong),
        "fraction-off": (stated("64.9", 48), either(wrong, fine)),
        "written-as-64.0": (stated("64.0", "48.0"), fine),
        "zero": (stated(0, 0), either(fine, wrong)),
        "negative": (stated(-64, -48), either(fine, wrong)),
        "words": (stated("wide", "high"), either(fine, wrong)),
        "nan": (stated("nan", "nan"), either(fine, wrong)),
        "inf": (stated("inf", "inf"), either(fine, wrong)),
        "empty": (stated("", ""), either(fine, wrong)),
        "absent": (without_size, fine),
        "scaled-image": (
            lambda path: (
                like(path.parents[1] / f"JPEGImages/{BAD}.png")
                .resize((32, 24))
                .save(path.parents[1] / f"JPEGImages/{BAD}.png")
            ),
            wrong,
        ),
    }
    cases = [
        _case(f"size-{name}", DETECTION, spoilt(voc, xml, fault), "prune_net.py", expect)
        for name, (fault, expect) in table.items()
    ]
    stored = then(
        spoilt(voc, VOC_IMAGE, replaced(turned)),
        lambda folder: (folder / xml).write_text(
            toy_xml(3).replace("<width>64", "<width>48").replace("<height>48", "<height>64")
        ),
    )
    both = then(
        spoilt(coco, f"{DATA}/images/{BAD}.png", replaced(turned)),
        lambda folder: (folder / DATA / "train.json").write_text(
            (folder / DATA / "train.json")
            .read_text()
            .replace(
                '"im03.png", "width": 64, "height": 48', '"im03.png", "width": 48, "height": 64'
            )
        ),
    )
    cases += [
        _case("size-before-exif-turn", DETECTION, stored, "prune_net.py", refused(BAD)),
        _case("coco-size-before-exif-turn", DETECTION, both, "prune_net.py", refused(BAD)),
        _case(
            "coco-size-after-exif-turn",
            DETECTION,
            spoilt(coco, f"{DATA}/images/{BAD}.png", replaced(turned)),
            "prune_net.py",
            works(samples(TRAIN), boxes(TRAIN)),
        ),
        _case(
            "coco-size-wrong",
            DETECTION,
            spoilt(
                coco,
                f"{DATA}/images/{BAD}.png",
                replaced(lambda image: encoded(image.resize((32, 24)), "PNG")),
            ),
            "prune_net.py",
            refused(BAD),
        ),
    ]
    return cases


def _names() -> list[Case]:
    """Suffixes, and files that share a stem."""

    def renamed(suffix: str, form: str = "JPEG") -> Build:
        def build(folder: Path) -> None:
            voc(folder)
            image = folder / VOC_IMAGE
            image.with_suffix(suffix).write_bytes(encoded(like(image), form))
            image.unlink()

        return build

    def class_suffix(suffix: str, form: str) -> Build:
        def build(folder: Path) -> None:
            image_folder(folder)
            for image in sorted((folder / DATA / "train/cat").iterdir())[1:]:
                image.with_suffix(suffix).write_bytes(encoded(like(image), form))
                image.unlink()

        return build

    def shared_stem(folder: Path) -> None:
        voc(folder)
        (folder / f"{DATA}/JPEGImages/{BAD}.jpg").write_bytes(
            encoded(like(folder / f"{DATA}/JPEGImages/im04.png"), "JPEG")
        )

    fine = works(samples(TRAIN), boxes(TRAIN))
    cases = [
        _case("voc-suffix-upper-jpg", DETECTION, renamed(".JPG"), "prune_net.py", fine),
        _case("voc-suffix-upper-jpeg", DETECTION, renamed(".JPEG"), "prune_net.py", fine),
        _case(
            "voc-suffix-mixed",
            DETECTION,
            renamed(".Jpg"),
            "prune_net.py",
            either(fine, refused(BAD)),
        ),
        _case(
            "voc-suffix-jfif",
            DETECTION,
            renamed(".jfif"),
            "prune_net.py",
            either(fine, refused(BAD)),
        ),
        _case(
            "voc-suffix-bmp",
            DETECTION,
            renamed(".bmp", "BMP"),
            "prune_net.py",
            either(fine, refused(BAD)),
        ),
        _case(
            "voc-two-images-of-one-stem",
            DETECTION,
            shared_stem,
            "prune_net.py",
            either(refused(BAD), works(samples(TRAIN), says=(f"{BAD}.png",))),
        ),
        _case(
            "cls-suffix-jfif",
            CLASSIFICATION,
            class_suffix(".jfif", "JPEG"),
            "prune_cls.py",
            works(samples(12)),
        ),
        _case(
            "cls-suffix-upper",
            CLASSIFICATION,
            class_suffix(".PNG", "PNG"),
            "prune_cls.py",
            works(samples(12)),
        ),
        _case(
            "cls-suffix-jpe",
            CLASSIFICATION,
            class_suffix(".jpe", "JPEG"),
            "prune_cls.py",
            either(works(samples(12)), works(samples(7), says=(FIVE,))),
        ),
        _case(
            "cls-suffix-unknown",
            CLASSIFICATION,
            class_suffix(".img", "PNG"),
            "prune_cls.py",
            either(works(samples(7), says=(FIVE,)), refused("img")),
        ),
    ]
    return cases


def _skip() -> list[Case]:
    def several(folder: Path) -> None:
        voc(folder)
        for name, fault in zip(
            ("im01", "im05", "im08"), ("text", "missing", "16-bit-grey-png"), strict=True
        ):
            FAULTS[fault](folder / f"{DATA}/JPEGImages/{name}.png")

    def every(folder: Path) -> None:
        voc(folder)
        for path in (folder / DATA / "JPEGImages").iterdir():
            FAULTS["text"](path)

    def all_of_two(folder: Path) -> None:
        voc(folder)
        for name in ("im02", "im06"):
            FAULTS["empty"](folder / f"{DATA}/JPEGImages/{name}.png")

    skip = ("ADAPRUNER.ON_BAD_SAMPLE", "skip")
    return [
        _case(
            "skip-three-images",
            DETECTION,
            several,
            "prune_net.py",
            works(
                samples(TRAIN - 3),
                excluded("im01", "im05", "im08"),
                says=(THREE,),
            ),
            *skip,
        ),
        _case("skip-every-image", DETECTION, every, "prune_net.py", refused(DATA), *skip),
        _case(
            "skip-badly-spelt",
            DETECTION,
            voc,
            "prune_net.py",
            refused("ON_BAD_SAMPLE", "stop", "skip"),
            "ADAPRUNER.ON_BAD_SAMPLE",
            "ignore",
        ),
        _case("check-lists-both", DETECTION, all_of_two, "check_data.py", listed("im02", "im06")),
        _case("check-of-sound-data", DETECTION, voc, "check_data.py", works()),
        _case("check-of-sound-coco", DETECTION, coco, "check_data.py", works()),
        _case(
            "second-check-of-changed-image",
            DETECTION,
            lambda folder: (voc(folder), _remembered(folder)),
            "prune_net.py",
            refused(BAD),
        ),
    ]


def _remembered(folder: Path) -> None:
    """Let the check's cache know the sound file, then spoil it: same length, later time."""
    from adapruner_det.image_check import check_images

    path = folder / VOC_IMAGE
    check_images([str(path)])
    length = path.stat().st_size
    path.write_bytes((path.read_bytes()[:40] + b"\0" * length)[:length])


def _sound() -> list[Case]:
    """What is in order stays in order: else a corpus of refusals would prove nothing."""
    cases = [
        _case("sound-voc", DETECTION, voc, "prune_net.py", works(samples(TRAIN), boxes(TRAIN))),
        _case("sound-coco", DETECTION, coco, "prune_net.py", works(samples(TRAIN), boxes(TRAIN))),
        _case("sound-folder", CLASSIFICATION, image_folder, "prune_cls.py", works(samples(12))),
        _case(
            "sound-plain-voc",
            DETECTION,
            voc,
            "train_pruned.py",
            works(holds(f"{OUT}/model_final.pth")),
        ),
    ]
    return cases


CASES = [*_sound(), *_pruning(), *_other_tools(), *_sizes(), *_names(), *_skip()]
