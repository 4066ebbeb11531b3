"""One call for all formats."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from ..selection import Selection
from .coco import write_coco
from .fiftyone import write_fiftyone
from .folder import Folder, Images, new_folder
from .records import Records
from .tables import write_csv, write_list
from .voc import write_voc
from .yolo import write_yolo

#: Those that need to know the kept samples and their images.
_WRITERS: dict[str, Callable[[Records, Folder, Images], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "fiftyone": write_fiftyone,
    "list": write_list,
}
FORMATS = ("voc", "coco", "yolo", "list", "csv", "fiftyone")
IMAGES = ("none", "link", "copy")
#: What an image's class alone can be written as.
_FOR_CLASSIFICATION = ("yolo", "list", "csv", "fiftyone")


def needs_records(name: str) -> bool:
    """Whether a format is of the samples' images and annotations, not of the selection alone."""
    return name != "csv"


def default_images(name: str) -> Images:
    """What is done with the images where nothing is said: only YOLO's labels lie beside them."""
    return "link" if name == "yolo" else "none"


def export(
    selection: Selection,
    records: Records | None,
    name: str,
    output: str | Path,
    *,
    images: Images | None = None,
    overwrite: bool = False,
) -> Path:
    """Write what ``selection`` keeps, in one format, as the whole folder ``output``.

    Args:
        selection: what is kept.
        records: its kept samples; a CSV needs none.
        name: of the format, one of :data:`FORMATS`.
        output: the folder, which another export may have made.
        images: ``none`` leaves them where they are, ``link`` and ``copy`` put them into the folder.
        overwrite: move what else is at ``output`` out of the way.

    Returns:
        The folder.

    Raises:
        DataError: a format that cannot hold the data, a folder that is not free, names that cannot
            be written, or a disk that takes no more. Nothing is left then.
    """
    images = images or default_images(name)
    _check(selection, records, name, images)
    about = {
        "format": name,
        "method": selection.method,
        "keep_ratio": selection.keep_ratio,
        "seed": selection.seed,
        "datasets": dict(selection.datasets),
        "num_kept": selection.num_kept,
    }
    sources = [] if records is None else [*records.files, *(r.path for r in records.records)]
    sources += [] if records is None else [r.voc_file for r in records.records if r.voc_file]
    with new_folder(output, about, sources, overwrite) as folder:
        if name == "csv":
            write_csv(selection, folder)
        elif records is not None and name == "voc":
            write_voc(records, folder, images, selection.keep_ratio)
        elif records is not None:
            _WRITERS[name](records, folder, images)
    return Path(os.path.realpath(output))


def _check(selection: Selection, records: Records | None, name: str, images: Images) -> None:
    if name not in FORMATS or images not in IMAGES:
        raise ValueError(f"there is no format {name!r}, or nothing to do with images as {images!r}")
    if not needs_records(name):
        if images != "none":
            raise DataError(f"the format {name} has no images; leave --images out")
        return
    if records is None:
        raise ValueError(f"the format {name} needs the records of the kept samples")
    if {record.key for record in records.records} != selection.kept_keys:
        raise ValueError("the records are not those of the kept samples")
    if records.is_classification and name not in _FOR_CLASSIFICATION:
        raise DataError(
            f"the format {name} is of boxes, which {', '.join(records.dataset_names)} does not "
            f"have; use one of {', '.join(_FOR_CLASSIFICATION)}"
        )
