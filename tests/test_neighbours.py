import errno
import logging
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adapruner_det import neighbours as module
from adapruner_det.errors import DataError
from adapruner_det.neighbours import look_alikes, neighbours, search_for, thumbnails
from adapruner_det.samples import Samples
from tests.methods.evidence import samples

# --- neighbours ----------------------------------------------------------------------------------


def slow_neighbours(rows, k):
    """Of every pair its distance; the nearest, and of equal ones the smaller index."""
    rows = np.asarray(rows, dtype=np.float32).astype(float)
    indices, distances = [], []
    for i, own in enumerate(rows):
        gaps = [np.sqrt(np.square(own - other).sum()) for other in rows]
        others = [j for j in range(len(rows)) if j != i]
        near = sorted(others, key=lambda j: (gaps[j], j))[:k]
        indices.append(near)
        distances.append([gaps[j] for j in near])
    return np.array(indices).reshape(len(rows), -1), np.array(distances).reshape(len(rows), -1)


def agree(rows, k):
    indices, distances = neighbours(rows, k)
    expected_indices, expected_distances = slow_neighbours(rows, k)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    assert indices.dtype == np.int64 and distances.dtype == np.float32


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("k", [1, 5, 79])
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1000, 1), (0, 1e-4), (-50, 1e3)])
def test_they_are_the_nearest(shift, scale, k, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    agree(np.random.default_rng(0).normal(size=(80, 6)) * scale + shift, k)


def test_far_ones_do_not_hide_what_is_near():
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[::7] *= 1e4
    agree(rows, 4)


def test_what_float32_cannot_tell_apart_is_told_apart():
    """Far off, at right angles to all others, which differ in length by less than is lost."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    rows = rng.normal(size=(200, 16))
    rows[:, 0] = 0
    rows *= (1 + 1e-4 * rng.random((200, 1))) / np.linalg.norm(rows, axis=1, keepdims=True)
    far = np.zeros((2, 16))
    far[:, 0] = 1e4, -1e4
    agree(np.concatenate([rows, far]) @ turn, 5)


def test_far_from_the_origin_there_are_no_more_candidates():
    rows = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    for shift in (0, 1000):
        ((_, row, _),) = module._by_product(rows + np.float32(shift), 5, np.arange(200))
        assert len(row) < 1.1 * 200 * 5


@given(
    arrays.arrays(np.int64, st.tuples(st.integers(2, 25), st.just(2)), elements=st.integers(0, 3)),
    st.integers(1, 6),
)
def test_of_equally_far_ones_the_smaller_index_comes_first(rows, k):
    agree(rows, k)


def test_of_many_copies_the_smaller_indices_are_taken():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 192))[rng.permutation(np.arange(600) % 4)].astype(np.float32)
    indices, distances = neighbours(rows, 6)
    assert not distances.any()
    for i in range(600):
        copies = [j for j in np.flatnonzero((rows == rows[i]).all(1)) if j != i]
        assert indices[i].tolist() == copies[:6]


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=25),
    arrays.arrays(np.int64, (5, 3), elements=st.integers(-2, 2)),
    st.integers(1, 6),
)
def test_whatever_the_numbers_of_copies_they_are_the_nearest(which, contents, k):
    agree(contents[which] / 3, k)


@pytest.mark.parametrize("block", [7, 512])
def test_copies_in_groups_of_all_sizes_have_the_neighbours_of_the_definition(block, monkeypatch):
    """Fewer than k + 1, as many and more; blank ones, which all others are nearly as far from."""
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    sizes = [1, 2, 5, 6, 7, 60]
    contents = np.repeat(unit(rng.normal(size=(len(sizes), 12))), sizes, axis=0)
    blank = np.zeros((70, 12))
    # Far off: 3 copies, each of which has two, then 12 and 12 at a distance of 5.
    border = np.zeros((27, 12))
    border[:, 2], border[:3, 1], border[3:15, 0], border[15:, 0] = 100, 4, 3, -3
    rows = np.concatenate([contents, blank, border]).astype(np.float32)
    rows = rows[rng.permutation(len(rows))]
    indices, distances = neighbours(rows, 5)
    expected_indices, expected_distances = slow_neighbours(rows, 5)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(distances, expected_distances.astype(np.float32))
    (three,) = np.nonzero(rows[:, 1] == 4)
    sides = rows[indices[three, 2:], 0]
    assert (distances[three] == [0, 0, 5, 5, 5]).all() and {*sides.ravel()} == {3, -3}


def test_many_copies_are_no_more_candidates_than_few():
    rows = unit(np.random.default_rng(0).normal(size=(400, 192)))
    rows[::2] = 0  # as near to each as any other is
    rows[::4, 0] = -0.0
    ((_, row, _),) = module._by_product(rows, 5, np.arange(400))
    assert len(row) < 1.1 * 400 * 6


def test_rows_without_features_are_all_copies():
    agree(np.zeros((4, 0)), 2)


def test_there_are_never_more_than_others():
    rows = np.random.default_rng(0).normal(size=(4, 3))
    agree(rows, 9)
    assert neighbours(rows, 9)[0].shape == (4, 3)
    assert neighbours(rows[:1], 9)[0].shape == (1, 0)


FAISS = """
import numpy as np
made = []
class IndexFlatL2:
    def __init__(self, width): self.width = width
class IndexIVFFlat:
    def __init__(self, quantizer, width, cells): self.cells = cells; made.append(self)
    def train(self, rows): pass
    def add(self, rows): self.rows = rows
    def search(self, rows, k):
        gaps = np.linalg.norm(self.rows[None] - rows[:, None], axis=2)
        near = np.argsort(gaps, axis=1)[:, :k]
        near[rows[:, 0] > 1.5, 2:] = -1  # cells with too few in them
        return np.sort(gaps, axis=1)[:, :k], near[:, ::-1]
"""


@pytest.fixture
def faiss(tmp_path, monkeypatch):
    """A library of that name, which is asked for more than 100 samples."""
    (tmp_path / "faiss.py").write_text(FAISS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    yield
    sys.modules.pop("faiss", None)


def test_many_are_searched_by_faiss_where_it_is(faiss, caplog):
    caplog.set_level(logging.INFO)
    assert (search_for(100), search_for(101)) == ("exact", "faiss")
    rows = np.random.default_rng(0).normal(size=(101, 3))
    agree(rows[:100], 4)
    assert not caplog.text
    agree(rows, 4)
    import faiss as found

    assert "101 samples are searched by faiss" in caplog.text
    assert [index.cells for index in found.made] == [40] and found.made[0].nprobe == 2


def test_without_faiss_many_are_searched_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(module, "EXACT_UP_TO", 10)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    agree(np.random.default_rng(0).normal(size=(50, 3)), 4)
    assert search_for(50) == "exact"


def test_faiss_itself_finds_nearly_all(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    rows = centres[rng.integers(0, 40, 3000)] + 0.1 * rng.normal(size=(3000, 16))
    found, _ = neighbours(rows, 5)
    monkeypatch.setattr(module, "EXACT_UP_TO", 10_000)
    expected, _ = neighbours(rows, 5)
    assert np.mean([len({*a} & {*b}) / 5 for a, b in zip(found, expected, strict=True)]) > 0.9


# --- thumbnails ----------------------------------------------------------------------------------


def slow_thumbnail(image):
    """Every pixel as 8 x 8 equal ones, so that each of 8 x 8 parts has whole pixels."""
    large = np.kron(image.astype(np.float64), np.ones((8, 8, 1)))
    height, width = image.shape[:2]
    means = np.zeros((8, 8, 3))
    for i in range(8):
        for j in range(8):
            part = large[i * height : (i + 1) * height, j * width : (j + 1) * width]
            means[i, j] = part.mean((0, 1))
    means = (means - means.mean()).ravel()
    return means / np.linalg.norm(means)


def of_images(read, count=1):
    return thumbnails(replace(samples(count), read_image=read))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_a_thumbnail_is_means_of_equal_parts(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[0, 0] = (0, 100, 200)  # not of one colour
    found = of_images(lambda index: image)
    assert found.shape == (1, 192) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], slow_thumbnail(image), atol=2e-5)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_image_of_one_colour_is_zeros(value):
    assert not of_images(lambda index: np.full((33, 21, 3), value, dtype=np.uint8)).any()


def test_each_sample_has_its_own_whatever_thread_read_it():
    readers = set()

    def read(index):
        readers.add(threading.get_ident())
        if index < 64:
            late.wait(10)  # the first block is read last
        if index == 199:
            late.set()
        return np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)

    late = threading.Event()
    found = of_images(read, 200)
    assert len(readers) > 1
    for index in range(200):
        np.testing.assert_allclose(found[index], slow_thumbnail(read(index)), atol=2e-5)


def test_a_copy_has_cosine_1_and_a_brighter_one_too():
    image = np.random.default_rng(0).integers(0, 200, (40, 30, 3), dtype=np.uint8)
    other = np.random.default_rng(1).integers(0, 200, (40, 30, 3), dtype=np.uint8)
    first, copy, brighter, other = of_images([image, image, image + 50, other].__getitem__, 4)
    assert first @ copy == pytest.approx(1, abs=1e-6)
    assert first @ brighter == pytest.approx(1, abs=1e-4)
    assert first @ other < 0.6


def test_an_image_that_cannot_be_read_ends_it():
    read = []

    def broken(index):
        read.append(index)
        if index == 3:
            raise DataError("toy/0003 is cut short")
        return np.zeros((8, 8, 3), dtype=np.uint8)

    with pytest.raises(DataError, match="toy/0003 is cut short"):
        of_images(broken, 100_000)
    assert len(read) < 50_000  # the others were not waited for
    with pytest.raises(ValueError, match="cannot be read one by one"):
        thumbnails(replace(samples(2), read_image=None))


# --- thumbnails that are remembered --------------------------------------------------------------


class Pictures:
    """Counts how often images are read."""

    def __init__(self, count=5):
        self.reads = 0
        keys = [f"toy/{i}" for i in range(count)]
        self.samples = Samples(
            keys, np.arange(count, dtype=np.uint64), {"toy": "f" * 64}, [[0]] * count,
            digest_of="bytes", read_image=self.read,
        )  # fmt: skip

    def read(self, index):
        self.reads += 1
        return np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_images_of_known_bytes_are_read_for_thumbnails_once(cache):
    pictures = Pictures()
    first = thumbnails(pictures.samples)
    again = thumbnails(pictures.samples)
    np.testing.assert_array_equal(first, again)
    assert pictures.reads == 1 + 5 + 1 and len(list(cache.iterdir())) == 1  # the first shows a size
    for change in ({"datasets": {"toy": "e" * 64}}, {"digest_of": ""}):
        thumbnails(replace(pictures.samples, **change))
    assert pictures.reads == 7 + 6 + 5


def test_files_that_are_read_at_another_size_have_thumbnails_of_their_own(cache):
    large = Pictures()
    small = replace(large.samples, read_image=lambda i: large.read(i)[:8, :8])
    assert not np.array_equal(thumbnails(large.samples), thumbnails(small))
    np.testing.assert_array_equal(thumbnails(small), thumbnails(replace(small, digest_of="")))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["torn", "other shape", "nan"])
def test_a_damaged_memory_of_thumbnails_is_made_anew(cache, damage):
    pictures = Pictures()
    first = thumbnails(pictures.samples)
    (place,) = cache.iterdir()
    if damage == "torn":
        place.write_bytes(place.read_bytes()[:-5])
    else:
        np.save(place, first[:3] if damage == "other shape" else first * np.float32("nan"))
    np.testing.assert_array_equal(thumbnails(pictures.samples), first)
    assert pictures.reads == 12
    np.testing.assert_array_equal(np.load(place), first)


def test_thumbnails_of_few_data_sets_are_remembered_and_none_where_nothing_can_be(
    cache, monkeypatch, tmp_path
):
    pictures = Pictures()
    for i in range(12):
        thumbnails(replace(pictures.samples, datasets={"toy": f"{i:064x}"}))
    assert len(list(cache.iterdir())) == 8
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "file" / "cache"))
    thumbnails(pictures.samples)


def test_a_full_disk_of_the_memory_does_not_end_a_run(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert thumbnails(Pictures().samples).shape == (5, 192)


# --- near-copies ---------------------------------------------------------------------------------


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 1e-4])
@pytest.mark.parametrize("count", [2, 5, 11, 12, 16, 60])
def test_of_however_many_copies_of_an_image_one_stays(count, noise):
    rng = np.random.default_rng(count)
    others = unit(rng.normal(size=(100, 192)))
    copies = unit(others[:1] + noise * rng.normal(size=(count, 192)))
    near = look_alikes(np.concatenate([copies, others[1:]]))
    twins = near.twins()
    assert twins.group.tolist() == [0] * count + list(range(count, count + 99))
    for order in (np.arange(count + 99), rng.permutation(count + 99)):
        stays = twins.representatives(order)
        assert stays[:count].sum() == 1 and stays[count:].all()
        assert order[:count][stays[:count]] == order[:count].min()


def test_of_still_scenes_one_frame_each_stays_and_of_a_moving_one_some():
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.normal(size=(8, 192)), 30, axis=0)
    still = unit(scenes + 1e-3 * rng.normal(size=(240, 192)))
    start, end = unit(rng.normal(size=(2, 192)))
    moving = unit(start + np.linspace(0.0, 0.5, 200)[:, None] * (end - start))
    twins = look_alikes(np.concatenate([still, moving])).twins()
    stays = twins.representatives(rng.permutation(440))
    assert stays[:240].reshape(8, 30).sum(1).tolist() == [1] * 8
    assert 5 < stays[240:].sum() < 100


@pytest.mark.parametrize("seed", range(3))
def test_without_copies_there_are_no_twins(seed):
    rows = unit(np.random.default_rng(seed).normal(size=(200, 192)))
    assert len(look_alikes(rows).twins().left) == 0


@given(st.lists(st.sampled_from([-0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=30), st.integers(1, 4))
def test_of_equal_rows_the_first_few_are_asked_about(rows, count):
    values = np.array(rows, dtype=np.float32)[:, None]
    found = module._first_copies(values, count)
    expected = [i for i, own in enumerate(rows) if rows[:i].count(own) < count]
    assert found.tolist() == expected
