import base64
import io

import numpy as np
import pytest
from PIL import Image

from adapruner_det.errors import DataError
from adapruner_det.report import thumbs
from adapruner_det.report.pictures import Picture
from adapruner_det.report.thumbs import SIDE, Thumb, make_thumbs, nearest_kept, place


def picture(image, key="toy/a"):
    return Picture(key, lambda: image, *image.size)


def opened(thumb):
    return Image.open(io.BytesIO(thumb.data))


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 480), (320, 240)), ((100, 800), (40, 320)), ((300, 200), (300, 200))],
)
def test_a_thumbnail_is_webp_of_the_same_shape_and_never_larger(size, wanted):
    (thumb,) = make_thumbs([picture(noise(*size))])
    image = opened(thumb)
    assert image.format == "WEBP" and image.size == wanted and max(image.size) <= SIDE


def test_of_a_few_pixels_none_is_lost():
    original = noise(8, 8)
    (thumb,) = make_thumbs([picture(original)])
    assert np.array_equal(np.asarray(opened(thumb).convert("RGB")), np.asarray(original))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_mode_is_shown(mode):
    (thumb,) = make_thumbs([picture(noise(80, 60).convert(mode))])
    assert opened(thumb).convert("RGB").size == (80, 60)


def test_an_image_that_is_gone_is_a_warning_and_not_the_end(caplog):
    def gone():
        raise DataError("x.jpg is not there")

    found = make_thumbs([Picture("toy/a", gone, 9, 9), None, picture(noise(9, 9), "toy/c")])
    assert found[0].data == b"" and found[1] is None and found[2].data
    assert "toy/a has no picture in the report: x.jpg is not there" in caplog.text
    assert place(found, "t").sources[:2] == ["", ""]


def test_many_come_in_their_order():
    images = [Image.new("RGB", (12, 12), (i, 0, 0)) for i in range(150)]
    found = make_thumbs([picture(image) for image in images])
    assert [opened(thumb).convert("RGB").getpixel((5, 5))[0] for thumb in found] == [*range(150)]


def test_a_sample_without_a_picture_has_none_and_moves_no_other():
    images = [Image.new("RGB", (12, 12), (i, 0, 0)) for i in range(150)]
    found = make_thumbs([None if i % 3 else picture(image) for i, image in enumerate(images)])
    assert [i for i, thumb in enumerate(found) if thumb] == [*range(0, 150, 3)]
    for i in range(0, 150, 3):
        assert opened(found[i]).convert("RGB").getpixel((5, 5))[0] == i
    assert make_thumbs([None, None]) == [None, None] and make_thumbs([]) == []


def some(count, size=100):
    return [Thumb(bytes(size), np.zeros(192, np.float32)) for _ in range(count)]


def test_they_lie_in_the_page_as_long_as_they_fit():
    placed = place(some(3), "t")
    assert placed.files == {}
    start, data = placed.sources[0].split(",")
    assert start == "data:image/webp;base64" and base64.b64decode(data) == bytes(100)


def test_more_or_larger_ones_lie_beside_it(monkeypatch):
    assert not place(some(2000), "t").files
    placed = place([None, *some(2001)], "t")
    assert placed.sources[:2] == ["", "t/0001.webp"] and len(placed.files) == 2001
    assert place(some(2001), "run #1?").sources[0] == "run%20%231%3F/0000.webp"
    monkeypatch.setattr(thumbs, "MOST_BYTES", 1000)
    assert not place(some(7), "t").files  # 933 bytes as text
    assert set(place(some(8), "t").files) == {f"{i}.webp" for i in range(8)}


def described(*rows):
    """Thumbs whose descriptors begin with these numbers."""
    return [Thumb(b"x", np.array([*row, *[0.0] * 190], np.float32)) for row in rows]


def test_the_kept_sample_that_looks_most_like_a_dropped_one():
    table = described([1, 0], [0.9, 0.1], [0, 1], [1, 0])
    kept = np.array([False, True, True, False])
    assert nearest_kept(table, np.array([0, 3]), kept).tolist() == [1, 1]
    groups = np.array([5, 6, 5, 7])
    assert nearest_kept(table, np.array([0, 3]), kept, groups).tolist() == [2, -1]


def test_in_many_groups_of_any_order_each_one_finds_its_own():
    rng = np.random.default_rng(0)
    values = rng.integers(-9, 10, (300, 2))
    groups, kept = rng.integers(-40, 40, 300), rng.random(300) < 0.4
    dropped = rng.permutation(np.flatnonzero(~kept))
    found = nearest_kept(described(*values), dropped, kept, groups)
    for own, nearest in zip(dropped, found, strict=True):
        among = np.flatnonzero(kept & (groups == groups[own])).tolist()
        alike = values @ values[own]
        assert nearest == max(among, key=alike.__getitem__, default=-1)  # of equal ones the first


def test_without_thumbnails_a_group_still_tells_and_looks_do_not():
    table = [None, None, *described([0, 1])]
    kept = np.array([False, True, True])
    assert nearest_kept(table, np.array([0]), kept).tolist() == [-1]
    groups = np.array([1, 1, 2])
    assert nearest_kept([None] * 3, np.array([0]), kept, groups).tolist() == [1]
    assert nearest_kept([None] * 3, np.array([0]), np.zeros(3, bool), groups).tolist() == [-1]
