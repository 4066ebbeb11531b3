"""The check that all image files can be read, before a run begins."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from .image_cache import Stamp, keep_here, known, remember, stamp_of
from .images import ImageFacts, inspect

_WINDOW = 4096  # files that are waited for at a time; each that waits takes 2 kB


def check_images(
    paths: Sequence[str], label: str = "checking images", workers: int | None = None
) -> dict[str, ImageFacts]:
    """:func:`inspect` every file, several at a time, with a progress bar.

    What was found is kept in :func:`.image_cache.cache_file` by path, size and time of change, so
    that a second check reads no unchanged file. Where it cannot be written, which is said once,
    that holds within this process. A check that is interrupted keeps what it has found.

    Args:
        paths: the files; one that is there twice is read once.
        label: of the progress bar.
        workers: threads; by default one a core.

    Returns:
        path → what is known of it, of every path, in the order in which they are given.
    """
    stamps = {path: stamp_of(path) for path in dict.fromkeys(paths)}
    found = known(stamps)
    missing = [path for path in stamps if path not in found]
    if missing:
        found |= _inspect_all(missing, stamps, label, workers or os.cpu_count() or 1)
    return {path: found[path] for path in stamps}


def _inspect_all(
    paths: Sequence[str], stamps: dict[str, Stamp | None], label: str, workers: int
) -> dict[str, ImageFacts]:
    found: dict[str, ImageFacts] = {}
    unwritable = ""
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            desc=label, total=len(paths), unit=" images", mininterval=1, leave=False, disable=None
        ) as bar,
    ):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters stands in the facts
        for start in range(0, len(paths), _WINDOW):
            window = paths[start : start + _WINDOW]
            try:
                for path, facts in zip(window, pool.map(inspect, window), strict=True):
                    found[path] = facts
                    bar.update()
            except BaseException:  # Ctrl-C: what has not begun is not waited for
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                sound = _fit_to_keep(window, stamps, found)
                unwritable = unwritable or remember(sound)
                if unwritable:
                    bar.clear()  # for the line that a warning takes
                    keep_here(sound, unwritable)
    return found


def _fit_to_keep(
    paths: Iterable[str], stamps: dict[str, Stamp | None], found: dict[str, ImageFacts]
) -> dict[str, tuple[Stamp, ImageFacts]]:
    """Stamp and facts of what was found sound; a faulty file is looked at again each time."""
    facts = {}
    for path in paths:
        stamp = stamps[path]
        if stamp is not None and path in found and not found[path].problem:
            facts[path] = stamp, found[path]
    return facts
