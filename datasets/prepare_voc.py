#!/usr/bin/env python
"""Download Pascal VOC 2007 (trainval, test) and 2012 (trainval) to where Detectron2 looks for it.

torchvision's downloader does the work and checks the md5 sums. About 3 GB come in; during
extraction twice as much is on the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import tarfile
from pathlib import Path

from torchvision.datasets import VOCDetection

from adapruner_det.errors import DataError, reported
from adapruner_det.files import require_writable

SPLITS = {"VOC2007": ("trainval", "test"), "VOC2012": ("trainval",)}
VOC_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC"
DOWNLOADS = "VOC-download"  # stays after a failure, so that whole archives are not fetched twice


def prepare(base: str | os.PathLike) -> list[Path]:
    """Make `base`/VOC2007 and `base`/VOC2012, and return those that were made now.

    A folder appears under its name when it is complete, not before.

    Raises:
        DataError: a folder is there but lacks a split, a download fails or has another md5 sum, or
            `base` cannot be written.
    """
    base = Path(base).expanduser().absolute()
    wanted = [name for name in SPLITS if not _is_there(base / name)]
    if wanted:
        require_writable(base, "--root")
    made = []
    for name in wanted:
        try:
            _make(base / name, base / DOWNLOADS)
        except (OSError, RuntimeError, http.client.HTTPException, tarfile.TarError) as error:
            with contextlib.suppress(OSError):
                (base / DOWNLOADS).rmdir()  # where nothing has arrived
            raise DataError(
                f"{name} could not be prepared: {error}; check the network and the free space and "
                f"run this again, or put the archive from {VOC_PAGE} into {base / DOWNLOADS}"
            ) from error
        made.append(base / name)
    if made:
        shutil.rmtree(base / DOWNLOADS)
    return made


def _is_there(folder: Path) -> bool:
    """Whether a folder has what Detectron2 reads; what is there without it is left alone."""
    if not os.path.lexists(folder):
        return False
    needed = ["Annotations", "JPEGImages"]
    needed += [f"ImageSets/Main/{split}.txt" for split in SPLITS[folder.name]]
    missing = [path for path in needed if not (folder / path).exists()]
    if missing:
        raise DataError(
            f"{folder} exists but has no {' and no '.join(missing)}; complete it or remove it, "
            "then run this again"
        )
    return True


def _make(folder: Path, downloads: Path) -> None:
    shutil.rmtree(downloads / "VOCdevkit", ignore_errors=True)  # of a run that was cut off
    year = folder.name.removeprefix("VOC")
    # Both archives of 2007 unpack into the same VOCdevkit/VOC2007.
    parts = [VOCDetection(downloads, year, split, download=True) for split in SPLITS[folder.name]]
    (downloads / "VOCdevkit" / folder.name).rename(folder)
    for part in parts:  # the other year's archive may lie there, put by hand
        (downloads / part.filename).unlink()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--root",
        default=os.environ.get("DETECTRON2_DATASETS", "datasets"),
        help="where VOC2007 and VOC2012 go; default: $DETECTRON2_DATASETS, or datasets",
    )
    root = Path(parser.parse_args(argv).root).expanduser().absolute()
    with reported():
        made = prepare(root)
    for name in SPLITS:
        print(f"{root / name}: {'ready' if root / name in made else 'already there'}")


if __name__ == "__main__":
    main()
