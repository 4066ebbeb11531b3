"""Cases: annotations in VOC's XML."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .case import Build, Case, Expectation, either, listed, refused, then, works
from .outcomes import ONE, boxes, classes, samples
from .toys import BAD, CLASSES, DATA, TRAIN, square, toy_xml, voc, xml_object, xml_text

KIND = "VOC annotations"
CONFIG = ("--config-file", "config.yaml")
FILE = f"{DATA}/Annotations/{BAD}.xml"
NAME, (X0, Y0, X1, Y1) = square(3)
BOX = (X0 + 1, Y0 + 1, X1, Y1)


def text(content: str | bytes) -> Build:
    """A toy one of whose annotations is ``content``."""
    data = content.encode() if isinstance(content, str) else content
    return then(voc, lambda folder: (folder / FILE).write_bytes(data))


def objects(*parts: str) -> Build:
    """A toy one of whose annotations has these objects."""
    return text(xml_text(*parts))


def box(*sides: object) -> Build:
    """A toy one of whose boxes is (xmin, ymin, xmax, ymax) as given."""
    return objects(xml_object(NAME, sides))


def named(name: str) -> Build:
    """A toy one of whose classes is called ``name``."""
    return objects(xml_object(name, BOX))


def difficult(value: str) -> Build:
    """A toy one of whose objects is as difficult as given."""
    return objects(xml_object(NAME, BOX, value))


def everywhere(change: Callable[[str], str]) -> Build:
    """A toy all of whose annotations are changed."""

    def build(folder: Path) -> None:
        voc(folder)
        for path in (folder / DATA / "Annotations").iterdir():
            path.write_text(change(path.read_text()))

    return build


def replaced(make: Callable[[Path], object]) -> Build:
    """A toy with something else in place of an annotation."""

    def build(folder: Path) -> None:
        voc(folder)
        (folder / FILE).unlink()
        make(folder / FILE)

    return build


def _laughs() -> str:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(10))
    return f"<!DOCTYPE annotation [{entities}]>" + toy_xml(3).replace(NAME, "&l9;")


def _external(folder: Path) -> None:
    voc(folder)
    (folder / "secret.txt").write_text("dog")
    (folder / FILE).write_text(
        f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{folder}/secret.txt">]>'
        + toy_xml(3).replace(NAME, "&x;")
    )


SECOND = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
ALL = works(samples(TRAIN), boxes(TRAIN))
#: A box that cannot be one: refused with the file, or left out with the file and the count.
WARNED = either(refused(BAD), works(boxes(TRAIN - 1), says=(f"{BAD}.xml", ONE)))
#: A box that can be read in two ways: refused, or said.
SAID = either(refused(BAD), works(says=(f"{BAD}.xml",)))
DECLARED = '<?xml version="1.0" encoding="{}"?>'
GREEK = named("\u03b3\u03ac\u03c4\u03b1")

TABLE: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
    "two-bndbox": (
        objects(xml_object(NAME, BOX, tail=SECOND)),
        either(works(boxes(TRAIN + 1)), refused(BAD)),
    ),
    "three-bndbox": (
        objects(xml_object(NAME, BOX, tail=SECOND * 2)),
        either(works(boxes(TRAIN + 2)), refused(BAD)),
    ),
    "two-bndbox-everywhere": (
        everywhere(lambda t: t.replace("</bndbox>", f"</bndbox>{SECOND}")),
        either(works(boxes(2 * TRAIN)), refused(".xml")),
    ),
    "two-names": (
        objects(xml_object(NAME, BOX).replace("</name>", "</name><name>cat</name>")),
        refused(BAD),
    ),
    "two-xmin": (
        objects(xml_object(NAME, BOX).replace("</xmin>", "</xmin><xmin>9</xmin>")),
        refused(BAD),
    ),
    "two-sizes": (
        text(
            toy_xml(3).replace(
                "<object>", "<size><width>9</width><height>9</height></size><object>"
            )
        ),
        either(refused(BAD), ALL),
    ),
    "part-with-bndbox": (
        objects(xml_object(NAME, BOX, tail=f"<part><name>head</name>{SECOND}</part>")),
        ALL,
    ),
    "object-in-object": (
        objects(xml_object(NAME, BOX, tail=xml_object("cat", (2, 2, 20, 20)))),
        either(refused(BAD), works(boxes(TRAIN + 1)), works(boxes(TRAIN), says=(f"{BAD}.xml",))),
    ),
    "namespace": (text(toy_xml(3).replace("<annotation>", '<annotation xmlns="urn:voc">')), ALL),
    "prefixed-namespace": (
        text(
            toy_xml(3)
            .replace("</", "</v:")
            .replace("<annotation>", '<annotation xmlns:v="urn:voc">')
            .replace("<", "<v:")
            .replace("<v:/v:", "</v:")
        ),
        either(ALL, refused(BAD)),
    ),
    "upper-case-tags": (
        text(toy_xml(3).replace("object", "Object").replace("bndbox", "BndBox")),
        either(refused(BAD), ALL, works(boxes(TRAIN - 1), says=(f"{BAD}.xml",))),
    ),
    "other-root": (text(toy_xml(3).replace("annotation>", "root>")), either(refused(BAD), ALL)),
    "coco-in-xml": (text('{"images": []}'), refused(BAD)),
    "html": (
        text("<html><body>404</body></html>"),
        either(refused(BAD), works(says=(f"{BAD}.xml",))),
    ),
    "yolo-text": (text("0 0.5 0.5 0.2 0.2\n"), refused(BAD)),
    "no-name": (objects(xml_object(NAME, BOX).replace(f"<name>{NAME}</name>", "")), refused(BAD)),
    "empty-name": (named(""), refused(BAD)),
    "blank-name": (named("  \n "), refused(BAD)),
    "name-with-spaces-around": (named(f"  {NAME}\n"), works(boxes(TRAIN), classes(*CLASSES))),
    "no-bndbox": (objects(f"<object><name>{NAME}</name></object>"), refused(BAD)),
    "polygon-only": (
        objects(f"<object><name>{NAME}</name><polygon><x1>1</x1><y1>1</y1></polygon></object>"),
        refused(BAD),
    ),
    "rotated-box": (
        objects(
            f"<object><name>{NAME}</name><robndbox><cx>9</cx><cy>9</cy><w>8</w><h>8</h>"
            "<angle>1</angle></robndbox></object>"
        ),
        refused(BAD),
    ),
    "no-xmax": (objects(xml_object(NAME, BOX).replace(f"<xmax>{X1}</xmax>", "")), refused(BAD)),
    "empty-file": (text(""), refused(BAD)),
    "zeros": (text(bytes(200)), refused(BAD)),
    "not-xml": (text("dog 3 4 20 30"), refused(BAD)),
    "cut": (text(toy_xml(3)[:80]), refused(BAD)),
    "two-roots": (text(toy_xml(3) * 2), refused(BAD)),
    "unescaped-ampersand": (named("salt & pepper"), refused(BAD)),
    "escaped-ampersand": (
        named("salt &amp; pepper"),
        works(boxes(TRAIN), classes("cat", "dog", "salt & pepper")),
    ),
    "entity-bomb": (text(_laughs()), refused(BAD)),
    "external-entity": (_external, refused(BAD)),
    "deep-nesting": (
        text("<a>" * 100_000 + "</a>" * 100_000),
        either(refused(BAD), works(says=(f"{BAD}.xml",))),
    ),
    "utf-16-declared": (text((DECLARED.format("utf-16") + toy_xml(3)).encode("utf-16")), ALL),
    "latin-1-declared": (
        text(
            (DECLARED.format("iso-8859-1") + xml_text(xml_object("bl\u00e5b\u00e6r", BOX))).encode(
                "latin-1"
            )
        ),
        works(boxes(TRAIN), classes("bl\u00e5b\u00e6r", "cat", "dog")),
    ),
    "latin-1-undeclared": (
        text(xml_text(xml_object("bl\u00e5b\u00e6r", BOX)).encode("latin-1")),
        refused(BAD),
    ),
    "wrong-declared-encoding": (
        text((DECLARED.format("utf-16") + toy_xml(3)).encode()),
        either(refused(BAD), ALL),
    ),
    "unknown-encoding": (text((DECLARED.format("klingon") + toy_xml(3)).encode()), refused(BAD)),
    "multibyte-encoding": (
        text((DECLARED.format("gbk") + xml_text(xml_object("\u732b", BOX))).encode("gbk")),
        either(works(boxes(TRAIN), classes("cat", "dog", "\u732b")), refused(BAD)),
    ),
    "bom": (text(b"\xef\xbb\xbf" + toy_xml(3).encode()), ALL),
    "control-character": (named("d\x01og"), refused(BAD)),
    "greek-name": (GREEK, works(boxes(TRAIN), classes("cat", "dog", "\u03b3\u03ac\u03c4\u03b1"))),
    "nan": (box("nan", Y0 + 1, X1, Y1), refused(BAD)),
    "inf": (box(X0 + 1, Y0 + 1, "inf", Y1), refused(BAD)),
    "hex": (box("0x05", Y0 + 1, X1, Y1), refused(BAD)),
    "comma-decimal": (box("3,5", Y0 + 1, X1, Y1), refused(BAD)),
    "underscore": (box("1_0", Y0 + 1, X1, Y1), either(refused(BAD), works(says=(f"{BAD}.xml",)))),
    "words": (box("left", "top", "right", "bottom"), refused(BAD)),
    "empty-side": (box("", Y0 + 1, X1, Y1), refused(BAD)),
    "decimals": (box(X0 + 1.5, Y0 + 1.25, X1, Y1), ALL),
    "inverted": (box(X1, Y1, X0, Y0), WARNED),
    "inverted-in-x": (box(X1, Y0 + 1, X0, Y1), WARNED),
    "no-area": (box(X0 + 1, Y0 + 1, X0, Y0), WARNED),
    "wholly-right-of-image": (box(70, 5, 90, 20), WARNED),
    "wholly-below-image": (box(5, 60, 20, 80), WARNED),
    "wholly-left-of-image": (box(-30, 5, -5, 20), WARNED),
    "partly-outside": (box(40, 20, 90, 40), SAID),
    "far-outside": (box(2, 2, 5000, 4000), SAID),
    "negative-corner": (box(-10, -10, 20, 20), SAID),
    "zero-based": (box(0, 0, 20, 20), either(ALL, SAID)),
    "huge-numbers": (box(1e30, 1e30, 2e30, 2e30), WARNED),
    "overflowing-numbers": (
        box(0, 0, "1" + "0" * 400, 20),
        either(refused(BAD), works(says=(f"{BAD}.xml",))),
    ),
    "xywh-as-xyxy": (box(40, 30, 16, 12), WARNED),
    "normalised": (box(0.1, 0.1, 0.5, 0.5), either(WARNED, SAID)),
    "no-objects": (objects(), works(samples(TRAIN - 1))),
    "no-objects-anywhere": (
        everywhere(lambda t: t[: t.index("<object>")] + "</annotation>"),
        refused("object|class"),
    ),
    "difficult-yes": (difficult("yes"), refused(BAD)),
    "difficult-2": (difficult("2"), either(refused(BAD), ALL)),
    "difficult-empty": (difficult(""), either(ALL, refused(BAD))),
    "difficult-float": (difficult("1.0"), either(refused(BAD), ALL)),
    "difficult-true": (difficult("true"), either(refused(BAD), ALL)),
    "class-in-other-case": (named("Dog"), works(boxes(TRAIN), says=("Dog", "differ|case|alike"))),
    "class-with-inner-space": (
        named("d og"),
        works(boxes(TRAIN), says=("d og", "differ|space|alike")),
    ),
    "class-with-underscore": (named("dog_"), works(boxes(TRAIN))),
    "same-box-twice": (
        objects(xml_object(NAME, BOX), xml_object(NAME, BOX)),
        either(works(boxes(TRAIN + 1)), works(boxes(TRAIN), says=(f"{BAD}.xml",)), refused(BAD)),
    ),
    "directory": (replaced(Path.mkdir), refused(BAD)),
    "fifo": (replaced(os.mkfifo), refused(BAD)),
    "dangling-link": (replaced(lambda path: path.symlink_to("no.xml")), refused(BAD)),
    "link-to-zero-device": (replaced(lambda path: path.symlink_to("/dev/zero")), refused(BAD)),
}


def _case(name: str, build: Build, tool: str, expect: tuple[Expectation, ...], *more: str) -> Case:
    return Case(name, KIND, build, tool, (*CONFIG, *more), expect)


GIVEN_CLASSES = ("ADAPRUNER.VOC_CLASSES", "['cat','dog']")

CASES = [
    *(
        _case(f"xml-{name}", build, "prune_net.py", expect)
        for name, (build, expect) in TABLE.items()
    ),
    _case(
        "xml-class-not-listed", named("fox"), "prune_net.py", refused(BAD, "fox"), *GIVEN_CLASSES
    ),
    _case(
        "xml-class-other-case-than-listed",
        named("Dog"),
        "prune_net.py",
        refused(BAD, "Dog"),
        *GIVEN_CLASSES,
    ),
    _case(
        "xml-class-listed-twice",
        voc,
        "prune_net.py",
        refused("VOC_CLASSES", "dog"),
        "ADAPRUNER.VOC_CLASSES",
        "['cat','dog','dog']",
    ),
    _case(
        "xml-class-listed-without-images",
        voc,
        "prune_net.py",
        works(boxes(TRAIN), classes("cat", "dog", "fox")),
        "ADAPRUNER.VOC_CLASSES",
        "['cat','dog','fox']",
    ),
    _case(
        "xml-check-lists-outside",
        box(70, 5, 90, 20),
        "check_data.py",
        either(listed(BAD), works(says=(f"{BAD}.xml",))),
    ),
    _case("xml-check-lists-cut", text(toy_xml(3)[:80]), "check_data.py", listed(BAD)),
    _case("xml-external-entity-reads-nothing", _external, "train_pruned.py", refused(BAD)),
    _case("xml-plain-run-cut", text(toy_xml(3)[:80]), "train_pruned.py", refused(BAD)),
    _case(
        "xml-compare-nan",
        box("nan", 1, 20, 20),
        "compare.py",
        refused(BAD),
        "--num-seeds",
        "1",
    ),
]
