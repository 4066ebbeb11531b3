import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from adapruner_det.analysis import figures
from adapruner_det.analysis import study as module
from adapruner_det.analysis.figures import draw, save
from adapruner_det.analysis.study import study
from tests.analysis.test_study import blobs


@pytest.fixture(autouse=True)
def flat(monkeypatch):
    monkeypatch.setattr(module, "tsne", lambda features, seed: features[:, :2])


def some(classes=3, n=60, names=(), **options):
    features, labels, kept = blobs(n, classes)
    return study(features, labels, kept, class_names=names, **options), kept


def panels(figure):
    return figure.get_axes()


def grey(colour):
    return np.dot(to_rgb(colour[:3]), (0.299, 0.587, 0.114))


@pytest.mark.parametrize(
    ("options", "count"), [({"control": False}, 3), ({}, 4), ({"other": np.ones((60, 4))}, 5)]
)
def test_a_panel_for_each_part_and_one_for_the_dropped(options, count):
    if "other" in options:
        options = {"other": blobs()[0] * 2}
    found, kept = some(**options)
    axes = panels(draw(found))
    titles = [own.get_title(loc="left") for own in axes]
    assert (
        len(axes) == count
        and [t[:3] for t in titles] == ["(a)", "(b)", "(c)", "(d)", "(e)"][:count]
    )
    assert f"{(~kept).sum()} dropped" in titles[1] and f"{kept.sum()} kept" in titles[2]


def test_every_class_is_seen_however_small_its_points_are(monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "_size", lambda count: 0.6)
    classes = len(figures.MARKERS)
    labels = np.arange(40 * classes) % classes
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (len(labels), 2)) + labels[:, None]
    found = study(points, labels, np.ones(len(labels), dtype=bool), control=False)
    figure = draw(found)
    first = panels(figure)[0]
    for text in list(first.texts):
        text.remove()
    image = np.asarray(Image.open(save(figure, tmp_path / "a.png")).convert("L"), dtype=float)
    for own in range(classes):
        x, y = first.transData.transform((own, own)) * 150 / figure.dpi
        near = image[int(len(image) - y) - 15 : int(len(image) - y) + 15, int(x) - 15 : int(x) + 15]
        assert (255 - near).sum() > 1000, figures.MARKERS[own]


def test_axes_say_what_they_are_and_that_they_have_no_unit():
    for own in panels(draw(some()[0])):
        assert own.get_xlabel() == "t-SNE dimension 1 (no unit)"
        assert own.get_ylabel() == "t-SNE dimension 2 (no unit)"
        assert own.get_aspect() == 1


def test_every_point_is_drawn_once_where_it_is():
    found, kept = some()
    first, second, third, _ = panels(draw(found))
    for own, points in ((first, found.embeddings["all"][0]), (third, found.embeddings["kept"][0])):
        drawn = np.concatenate([c.get_offsets() for c in own.collections])
        assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))
    stays, goes = (np.asarray(c.get_offsets()) for c in second.collections)
    points = found.embeddings["all"][0]
    assert np.array_equal(stays, points[kept]) and np.array_equal(goes, points[~kept])


def test_classes_differ_in_grey_and_in_marker_and_are_named():
    names = ["zero", "<b>one</b>", "$two$"]
    first = panels(draw(some(names=names)[0]))[0]
    shades = [grey(c.get_facecolor()[0]) for c in first.collections]
    assert np.diff(sorted(shades)).min() > 0.1 and max(shades) < 0.85
    outlines = [c.get_paths()[0].vertices.shape for c in first.collections]
    assert len(set(outlines)) == 3 or len({str(c.get_paths()[0]) for c in first.collections}) == 3
    assert [t.get_text() for t in first.texts] == names
    assert not any(t.get_parse_math() for t in first.texts)


def test_dropped_points_are_black_on_grey():
    second = panels(draw(some()[0]))[1]
    stays, goes = second.collections
    assert grey(stays.get_facecolor()[0]) > 0.7 and grey(goes.get_edgecolor()[0]) == 0


def test_many_classes_have_no_names_that_would_cover_each_other():
    assert len(panels(draw(some(40, 400)[0]))[0].texts) == 0


def test_a_class_without_a_name_has_its_number():
    assert [t.get_text() for t in panels(draw(some(names=["a"])[0]))[0].texts] == [
        "a", "class 1", "class 2"
    ]  # fmt: skip


def test_files_are_what_their_names_say_and_the_same_again(tmp_path):
    found, _ = some()
    for name in ("a.png", "a.svg"):
        save(draw(found), tmp_path / name)
        before = (tmp_path / name).read_bytes()
        save(draw(found), tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    image = Image.open(tmp_path / "a.png")
    assert image.format == "PNG" and min(image.size) > 1000
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_the_points_of_an_svg_are_images_so_that_it_does_not_grow_with_them(tmp_path):
    save(draw(some(3, 3000)[0]), tmp_path / "many.svg")
    text = (tmp_path / "many.svg").read_bytes()
    assert text.count(b"<image") >= 3 and text.count(b"<use") < 1500  # letters alone
