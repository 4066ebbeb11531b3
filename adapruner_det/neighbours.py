"""Thumbnail descriptors of samples, and which samples lie nearest to which.

Shape letters: N samples, D features, k neighbours, B rows of a block, H x W pixels.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .core.neighbours import COUNTED, SCALE_RANK, TWIN_REACH, Neighbours
from .errors import DataError
from .files import write_whole
from .image_cache import cache_file
from .samples import Samples

logger = logging.getLogger(__name__)

#: The side of a thumbnail, and how many values it has.
SIDE = 8
THUMBNAIL = SIDE * SIDE * 3

#: Up to so many samples the search is exact; beyond, it is faiss's where that is installed.
EXACT_UP_TO = 50_000

#: Of unit vectors that are near-copies whatever lies around them, which is so from a cosine of
#: 0.9995: the least scale. Where there are no large groups of copies, most scales are well above.
LEAST_SCALE = 0.1

#: Of faiss: the part of its cells that a search looks into, and how many more than k it returns.
PROBED, SPARE = 1 / 16, 8

#: What the files are called that remember thumbnails, and of how many data sets there are some.
_REMEMBERED, _SETS = "thumbnails-", 8

_BLOCK = 512
_IMAGES = 64
#: Of |x|² + |y|²: more than float32 loses of x·y by rounding.
_ROUNDING = 1e-5


def thumbnails(samples: Samples) -> np.ndarray:
    """(N, 192) float32: each image as 8 x 8 area means of RGB, without their mean, of unit length.

    The cosine of two of them tells near-duplicates apart from other images. An image of one colour
    is zeros. Images are read by several threads, behind a progress bar; where their files are known
    by their bytes, those of the last few data sets are remembered beside the checks of images.

    Raises:
        ValueError: samples whose images cannot be read one by one.
        DataError: what reading an image raises.
    """
    place = _place(samples)
    if place is not None and (known := _remembered(place, len(samples))) is not None:
        return known
    rows = _read_all(samples)
    if place is not None:
        _remember(place, rows)
    return rows


def thumbnails_identity(samples: Samples) -> str:
    """What tells the thumbnails of two training sets apart. Hexadecimal.

    The bytes of the files do not: a task may read them at another size, which the first image has.
    """
    known = f"{samples.fingerprint} {samples.image(0).shape}"
    return hashlib.sha256(known.encode()).hexdigest()


def _place(samples: Samples) -> Path | None:
    """Where the thumbnails of these images are remembered; None where bytes do not tell them."""
    if samples.digest_of != "bytes":
        return None
    return cache_file().parent / f"{_REMEMBERED}{thumbnails_identity(samples)[:32]}.npy"


def _remembered(place: Path, count: int) -> np.ndarray | None:
    try:
        found: np.ndarray = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = found.shape == (count, THUMBNAIL) and found.dtype == np.float32
    return found if fits and np.isfinite(found).all() else None


def _remember(place: Path, rows: np.ndarray) -> None:
    """Keep ``rows``, and forget the oldest; a cache that takes nothing is none of the user's."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, lambda file: np.save(file, rows, allow_pickle=False))
        others = sorted(place.parent.glob(f"{_REMEMBERED}*.npy"), key=lambda p: p.stat().st_mtime)
        for old in others[:-_SETS]:
            old.unlink()
    except (OSError, DataError) as error:
        logger.debug("The thumbnails are not remembered: %s", error)


def _read_all(samples: Samples) -> np.ndarray:
    rows = np.empty((len(samples), THUMBNAIL), dtype=np.float32)

    def fill(start: int) -> int:
        stop = min(start + _IMAGES, len(samples))
        for index in range(start, stop):
            rows[index] = thumbnail(samples.image(index))
        return stop - start

    with (
        ThreadPoolExecutor() as pool,
        tqdm(
            desc="thumbnails", total=len(samples), unit=" images", leave=False, disable=None
        ) as bar,
    ):
        # After Ctrl-C or a bad image, map cancels what has not begun.
        for done in pool.map(fill, range(0, len(samples), _IMAGES)):
            bar.update(done)
    return rows


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (192,) float32."""
    height, width = image.shape[:2]
    rows = _area_weights(height) @ image.reshape(height, -1).astype(np.float32)  # (8, W·3)
    means = np.einsum("jw,iwc->ijc", _area_weights(width), rows.reshape(SIDE, width, 3))
    centred = (means - means.mean()).ravel()
    length = np.linalg.norm(centred)
    # Rounding leaves something of an image of one colour, which means nothing.
    return centred / length if length > 1e-3 else np.zeros_like(centred)


@lru_cache(maxsize=64)
def _area_weights(size: int) -> np.ndarray:
    """(8, size): the share of each pixel in each of 8 equal parts of a side; rows sum to 1."""
    edges = np.linspace(0, size, SIDE + 1)
    pixels = np.arange(size)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(high - low, 0) * SIDE / size).astype(np.float32)


def can_compare(samples: Samples) -> bool:
    """Whether near-copies can be looked for: there are two images, which can be read one by one."""
    return samples.read_image is not None and len(samples) > 1


def look_alikes(thumbs: np.ndarray) -> Neighbours:
    """The nearest of each image, as many as tell its near-copies, however many those are.

    Args:
        thumbs: (N, D) their :func:`thumbnails`, of unit length; N is 2 or more.
    """
    index, distance = neighbours(thumbs, SCALE_RANK)
    near = Neighbours(index, distance, LEAST_SCALE)
    return Neighbours(index, distance, LEAST_SCALE, _alike(thumbs, near))


def _alike(thumbs: np.ndarray, near: Neighbours) -> np.ndarray:
    """(N,) int64: which are twins of each other, all of them, see :class:`.core.Neighbours`.

    Those are copies of one thumbnail, and a group of more twins than each counts neighbours if it
    lies within a ball whose diameter is the distance of twins.
    """
    _, first, copy = np.unique(thumbs, axis=0, return_index=True, return_inverse=True)
    alike = first[copy.reshape(-1)]  # NumPy 2.0 gives it the shape (N, 1)
    group = near.twins().group
    for number in np.flatnonzero(np.bincount(group, minlength=len(group)) > COUNTED + 1):
        members = np.flatnonzero(group == number)
        own = thumbs[members].astype(np.float64)
        radius = np.linalg.norm(own - own.mean(axis=0), axis=1).max()
        if 2.0 * radius <= TWIN_REACH * near.scale[members].min():
            alike[members] = number
    return alike


def search_for(num_samples: int) -> str:
    """How :func:`neighbours` of so many samples are found: ``exact``, or ``faiss`` (nearly all)."""
    return "faiss" if num_samples > EXACT_UP_TO and find_spec("faiss") else "exact"


def neighbours(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other samples of each sample, by Euclidean distance, nearest first.

    Of samples at the same distance the smaller index comes first. Distances are of the differences,
    so a copy has distance 0 and the outcome depends neither on threads nor on the BLAS. With more
    than :data:`EXACT_UP_TO` samples and the library faiss, candidates come from an inverted file,
    which misses some neighbours. Costs O(N²·D), with faiss about a sixteenth.

    Args:
        features: (N, D) finite.
        k: at most N − 1 are given.

    Returns:
        indices (N, k) int64 and distances (N, k) float32.
    """
    values = np.asarray(features, dtype=np.float32)
    count, k = len(values), max(0, min(k, len(values) - 1))
    indices, distances = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    if k < 1:
        return indices, distances
    if search_for(count) == "faiss":
        logger.info("the neighbours of %d samples are searched by faiss, nearly all found", count)
        found = _by_faiss(values, k)
    else:
        found = _by_product(values, k, np.arange(count))
    bar = tqdm(desc="neighbours", total=count, unit=" samples", leave=False, disable=None)
    with bar:
        for rows, row, column in found:
            indices[rows], distances[rows] = _nearest(values, rows, row, column, k)
            bar.update(len(rows))
    return indices, distances


def _by_product(
    values: np.ndarray, k: int, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each block of ``rows``: the rows, and candidates as pairs (place in the block, index).

    Among the candidates of a row are its k nearest, whatever float32 has lost on the way. Of many
    copies those with the smallest indices alone can be: without the others, a thousand blank images
    are not a thousand candidates of every row that they tie for.
    """
    x = torch.empty(values.shape)
    # About the mean numbers lose least when they cancel; it is subtracted in float64.
    mean = values.mean(axis=0, dtype=np.float64)
    np.subtract(values, mean, out=x.numpy(), casting="same_kind")
    square = x.square().sum(1)
    lost = _ROUNDING * square
    columns = _first_copies(values, k + 1)  # one more than k, as a row is no neighbour of its own
    firsts = torch.from_numpy(columns)
    y = x if len(firsts) == len(x) else x[firsts]
    y_square, y_lost = square[firsts], lost[firsts]
    for block in np.array_split(rows, -(-len(rows) // _BLOCK)):
        own = torch.from_numpy(block)
        # |y|² − 2x·y is the squared distance but for what a row has in common; at least that.
        least = torch.addmm((y_square - y_lost)[None], x[own], y.T, alpha=-2)
        _, row, column = np.intersect1d(block, columns, assume_unique=True, return_indices=True)
        least[row, column] = torch.inf
        nearest, place = least.topk(k, dim=1, largest=False)
        most = (nearest + 2 * y_lost[place]).amax(1) + 2 * lost[own]
        found, place = torch.nonzero(least <= most[:, None], as_tuple=True)
        yield block, found.numpy(), columns[place.numpy()]


def _first_copies(values: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` smallest indices of each set of equal rows, or all it has; rising, int64."""
    if not values.shape[1]:
        return np.arange(min(count, len(values)))
    rows = values + np.float32(0)  # −0 becomes 0, so that equal rows have equal bytes
    # Bytes are sorted 20 times as fast as np.unique sorts rows of numbers.
    content = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    order = np.argsort(content, kind="stable")
    begins = np.append(True, content[order][1:] != content[order][:-1])
    places = np.arange(len(rows))
    rank = places - np.maximum.accumulate(np.where(begins, places, 0))  # among its copies
    return np.sort(order[rank < count])


def _by_faiss(values: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What :func:`_by_product` gives, of an inverted file; rows that it knows too few of last."""
    import faiss

    cells = round(4 * len(values) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(values.shape[1]), values.shape[1], cells)
    index.train(values)
    index.add(values)
    index.nprobe = max(1, round(cells * PROBED))
    short = []
    for block in np.array_split(np.arange(len(values)), -(-len(values) // _BLOCK)):
        _, near = index.search(values[block], k + 1 + SPARE)
        near = np.where(near == block[:, None], -1, near)  # −1 is what faiss gives for nothing
        enough = (near >= 0).sum(1) >= k
        short.append(block[~enough])
        row, place = np.nonzero(near[enough] >= 0)
        yield block[enough], row, near[enough][row, place]
    if rest := np.concatenate(short).tolist():
        yield from _by_product(values, k, np.array(rest))


def _nearest(
    values: np.ndarray, rows: np.ndarray, row: np.ndarray, column: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) indices and distances of the k nearest candidates; each row has at least k."""
    square = np.empty(len(row))
    for part in np.array_split(np.arange(len(row)), -(-len(row) // 16_384)):
        difference = values[rows[row[part]]].astype(np.float64) - values[column[part]]
        square[part] = np.square(difference).sum(1)
    order = np.lexsort((column, square, row))
    first = np.searchsorted(row[order], np.arange(len(rows)))
    taken = order[first[:, None] + np.arange(k)]
    return column[taken], np.sqrt(square[taken])
