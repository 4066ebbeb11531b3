"""Thumbnails of a report, as WebP, and where they are: in its page or in a folder beside it.

Shape letters: N samples, D values of a descriptor.
"""

from __future__ import annotations

import base64
import io
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from ..neighbours import THUMBNAIL, thumbnail
from .pictures import Picture

logger = logging.getLogger(__name__)

#: The longer side of a thumbnail in pixels; a smaller image stays as it is.
SIDE = 320

#: So many thumbnails at most lie in the page, and so many bytes of them; with the rest of it the
#: page then stays below 60 MB.
MOST_INLINE = 2_000
MOST_BYTES = 50 * 2**20

#: What is at most so large is kept without loss: of a few pixels each one counts.
_EXACT = 64
_QUALITY = 78
_METHOD = 2  # of 0 to 6: how much time the encoder takes to save some percent
_AHEAD = 64  # images that are read before they are waited for


class Thumb(NamedTuple):
    """One thumbnail.

    Attributes:
        data: a WebP file's bytes; empty where the image cannot be read.
        descriptor: (192,) float32, see :func:`..neighbours.thumbnail`.
    """

    data: bytes
    descriptor: np.ndarray


@dataclass(frozen=True)
class Placed:
    """Where the thumbnails of N samples are.

    Attributes:
        sources: (N,) of what an ``src`` is; empty where there is none.
        files: name → bytes, of those that are to lie in a folder beside the page.
    """

    sources: Sequence[str]
    files: dict[str, bytes]


def make_thumbs(pictures: Sequence[Picture | None]) -> list[Thumb | None]:
    """A thumbnail of each picture, by several threads, behind a progress bar.

    An image that cannot be read any more is said in a warning, and has an empty one.
    """
    # To hand a sample to a thread takes far longer than to see that it has no picture.
    there = [picture for picture in pictures if picture is not None]
    made = []
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        tqdm(desc="thumbnails", total=len(there), unit=" images", leave=False, disable=None) as bar,
    ):
        for start in range(0, len(there), _AHEAD):
            for thumb in pool.map(_thumb, there[start : start + _AHEAD]):
                made.append(thumb)
                bar.update()
    thumbs = iter(made)
    return [None if picture is None else next(thumbs) for picture in pictures]


def place(thumbs: Sequence[Thumb | None], folder: str) -> Placed:
    """Put thumbnails into the page, or into files where they are too many or too large.

    Args:
        thumbs: of the N samples.
        folder: what the folder of the files would be called, relative to the page.
    """
    sizes = [len(thumb.data) for thumb in thumbs if thumb and thumb.data]
    if len(sizes) <= MOST_INLINE and 4 * sum(sizes) // 3 <= MOST_BYTES:
        return Placed([_data_url(thumb) for thumb in thumbs], {})
    digits = len(str(len(thumbs)))
    names = [f"{i:0{digits}d}.webp" if t and t.data else "" for i, t in enumerate(thumbs)]
    files = {name: thumb.data for name, thumb in zip(names, thumbs, strict=True) if name and thumb}
    return Placed([f"{quote(folder)}/{name}" if name else "" for name in names], files)


def nearest_kept(
    thumbs: Sequence[Thumb | None],
    dropped: np.ndarray,
    kept: np.ndarray,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The kept sample that looks most like each sample of ``dropped``: (len(dropped),), −1 if none.

    Args:
        thumbs: of the N samples.
        dropped: indices.
        kept: (N,) bool.
        groups: (N,) numbers that twins share; only one of the same group is taken then.
    """
    if groups is None:  # all that have a thumbnail are one group
        groups = np.array([t is not None and bool(t.data) for t in thumbs])
        kept = kept & groups
    # By group, so that those of one lie together: a look through all N for each would take N².
    stays = np.flatnonzero(kept)
    stays = stays[np.argsort(groups[stays], kind="stable")]
    first = np.searchsorted(groups[stays], groups[dropped], side="left")
    last = np.searchsorted(groups[stays], groups[dropped], side="right")
    table = _descriptors(thumbs)
    theirs = table[stays]
    found = np.full(len(dropped), -1, dtype=np.int64)
    for place in np.flatnonzero(first < last).tolist():
        alike = theirs[first[place] : last[place]] @ table[dropped[place]]
        found[place] = stays[first[place] + np.argmax(alike)]
    return found


def _descriptors(thumbs: Sequence[Thumb | None]) -> np.ndarray:
    """(N, 192) float32, zeros where there is no thumbnail."""
    table = np.zeros((len(thumbs), THUMBNAIL), np.float32)
    for row, thumb in enumerate(thumbs):
        if thumb:
            table[row] = thumb.descriptor
    return table


def _thumb(picture: Picture) -> Thumb:
    try:
        image = picture.read()
    except DataError as error:
        logger.warning("%s has no picture in the report: %s", picture.key, error)
        return Thumb(b"", np.zeros(THUMBNAIL, np.float32))
    exact = max(image.size) <= _EXACT
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=_METHOD, lossless=exact)
    return Thumb(file.getvalue(), thumbnail(np.asarray(image)))


def _data_url(thumb: Thumb | None) -> str:
    if not thumb or not thumb.data:
        return ""
    return "data:image/webp;base64," + base64.b64encode(thumb.data).decode()
