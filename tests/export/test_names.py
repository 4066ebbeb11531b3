import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from adapruner_det.export.names import Names, image_names, safe_part, safe_parts
from adapruner_det.export.records import Record


def named(*names, dataset="toy"):
    return [Record(f"{dataset}/{i:03d}", "", name, 4, 3) for i, name in enumerate(names)]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.jpg", "a.jpg"),
        ("deep/er/a b.jpg", "deep/er/a b.jpg"),
        ("ä/ö.jpg", "ä/ö.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../a.jpg", "a.jpg"),
        ("a/../../b.jpg", "a/b.jpg"),
        ("a/./b.jpg", "a/b.jpg"),
        ("a//b.jpg", "a/b.jpg"),
        (" .. /a.jpg", "a.jpg"),
        ("", "image"),
        ("..", "image"),
        ("a\0b.jpg", "a_b.jpg"),
        ("a\nb.jpg", "a_b.jpg"),
        ("a\u2028b.jpg", "a_b.jpg"),
        ("a\udc80b.jpg", "a_b.jpg"),
        ("a\\b.jpg", "a_b.jpg"),
        (".hidden/.a.jpg", "_hidden/_a.jpg"),
        ("...", "_.."),
        (" a.jpg ", "a.jpg"),
        ("\t", "image"),
        ("a/\t.jpg", "a/_.jpg"),
    ],
)
def test_a_name_stays_below_its_folder_and_on_its_line(name, safe):
    assert "/".join(safe_parts(name)) == safe
    assert image_names(named(name))["toy/000"] == safe


def test_free_names_stay_as_they_are():
    names = ["x.jpg", "x/x.jpg", "b/x.jpg", "b/y.jpg", "b/y.x.jpg", "b/x/y"]
    assert list(image_names(named(*names)).values()) == names


def test_flat_names_have_no_folder():
    found = list(image_names(named("a/x.jpg", "b/x.jpg", "x.jpg"), flat=True).values())
    assert found == ["a_x.jpg", "b_x.jpg", "x.jpg"]


@pytest.mark.parametrize(
    "names",
    [
        ("x.jpg", "x.png"),  # one name for their labels
        ("x.jpg", "x.jpg"),
        ("x.jpg", "X.JPG"),
        ("é.jpg", unicodedata.normalize("NFD", "é.jpg")),
        ("a/x.jpg", "A/x.jpg"),
        ("a", "a/x.jpg"),
        ("a/x.jpg", "a"),
        ("a.jpg", "a.xml/x.jpg"),  # where a's label is
        ("a.txt/x.jpg", "a.jpg"),
        ("a/x", "a/x/y.png"),
        ("../x.jpg", "x.jpg"),
        ("a\nb.jpg", "a\tb.jpg"),
    ],
)
def test_of_two_that_would_be_one_the_later_is_renamed(names):
    first, second = image_names(named(*names)).values()
    assert first == "/".join(safe_parts(names[0]))
    stem, suffix = os.path.splitext(second)
    assert len(stem.rpartition("-")[2]) == 8 and suffix == os.path.splitext(names[1])[1]
    assert image_names(named(*names))["toy/001"] == second  # the same again


def test_a_name_that_another_was_given_is_taken_too():
    second = image_names(named("x.jpg", "x.png"))["toy/001"]
    found = list(image_names(named("x.jpg", "x.png", second)).values())
    assert len({*found}) == 3


def test_several_data_sets_have_a_folder_each():
    rows = [*named("x.jpg", dataset="one"), *named("x.jpg", dataset="two")]
    assert list(image_names(rows).values()) == ["one/x.jpg", "two/x.jpg"]
    assert list(image_names(rows, flat=True).values()) == ["one_x.jpg", "two_x.jpg"]


def test_long_names_are_cut_and_still_differ():
    names = [f"{'é' * 150}{i}.jpg" for i in range(3)]
    found = list(image_names(named(*names)).values())
    assert len({*found}) == 3
    assert all(len(name.encode()) < 240 and name.endswith(".jpg") for name in found)
    flat = image_names(named("/".join(["a" * 100] * 5) + "/x.jpg"), flat=True)["toy/000"]
    assert len(flat.encode()) < 240 and flat.endswith(".jpg")


text = st.text(st.characters(exclude_categories=()), max_size=8)
nasty = st.sampled_from(["..", ".", "", "/", "a", "A", "a.b", "\0", "\n", " "])
names = st.lists(st.one_of(nasty, text), min_size=1, max_size=4).map("/".join)


@given(st.lists(names, min_size=1, max_size=8), st.booleans())
@example(["a", "a/a", "a/a/a", "A", "a.b", "a.c"], False)
@example(["é", "e\u0301", "É"], True)
@example(["a.b/a", "a.b/a.b"], True)
@example(["a.jpg", "a.png", "a.txt"], False)
def test_no_name_escapes_hides_or_meets_another(given_names, flat):
    found = list(image_names(named(*given_names), flat=flat).values())
    assert len(found) == len(given_names)
    seen = {}
    for name in found:
        parts = name.split("/")
        assert all(part and part.isprintable() and part[0] != "." for part in parts)
        assert all(part == part.strip() and "\\" not in part for part in parts)
        assert not flat or len(parts) == 1
        name.encode()
        folded = unicodedata.normalize("NFC", name).casefold()
        stem = os.path.splitext(folded)[0]
        # Itself, and what its labels are called; so no two are one without their suffixes.
        for own in {folded, f"{stem}.txt", f"{stem}.xml"}:
            assert seen.setdefault(own, name) == name
    everything = {*found}
    for name in found:
        parents = {name.rsplit("/", n)[0] for n in range(1, name.count("/") + 1)}
        assert not parents & everything


def test_a_part_is_never_empty():
    assert safe_part("") == "_" and safe_part("/") == "_" and safe_part(".") == "_"


def with_images(folder, **formats):
    """A record for each name; its image is of that format, whatever its suffix."""
    rows = []
    for i, (name, kind) in enumerate(formats.items()):
        path = str(folder / str(i))
        Image.new("RGB", (4, 3)).save(path, format=kind)
        rows.append(Record(f"toy/{i:03d}", path, name, 4, 3))
    return rows


def test_a_suffix_that_readers_do_not_know_becomes_that_of_the_content(tmp_path, caplog):
    formats = {
        "a.jfif": "JPEG", "b.jpe": "PNG", "none": "PNG", "photo.2024": "WEBP", "c.JPG": "PNG",
        "d.tiff": "TIFF", "e.apng": "TIFF", "a.jpg": "PNG",
    }  # fmt: skip
    names = image_names(
        with_images(tmp_path, **formats), suffixes=(".jpg", ".png", ".webp", ".tif")
    )
    found = list(names.values())
    assert found[:7] == ["a.jpg", "b.png", "none.png", "photo.2024.webp", "c.JPG", "d.tif", "e.tif"]
    assert found[7].startswith("a-") and not caplog.records


def test_an_image_that_readers_do_not_know_is_said_with_the_count(tmp_path, caplog):
    rows = with_images(tmp_path, **{"a.png": "PNG", "b.gif": "GIF", "c": "PPM", "d.ppm": "PPM"})
    rows.append(Record("toy/gone", str(tmp_path / "gone"), "gone.gif", 4, 3))
    names = image_names(rows, suffixes=(".png",))
    assert list(names.values()) == ["a.png", "b.gif", "c.ppm", "d.ppm", "gone.gif"]
    (said,) = (r.getMessage() for r in caplog.records)
    assert said.startswith("4 image(s) are of a format") and "the first toy/001: they" in said


def test_the_same_key_twice_is_a_mistake():
    names = Names()
    first = [names.add(["a.jpg"], "toy/a") for _ in range(9)]
    assert len({*first}) == 9
    with pytest.raises(ValueError, match="toy/a"):
        names.add(["a.jpg"], "toy/a")
