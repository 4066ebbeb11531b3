"""The kept images of a selection as exports know them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from ..export.records import Record, Records
from ..images import check_images
from ..samples import image_id_of
from ..selection import Selection
from .config import load_config
from .data import load_data
from .folder import FileImages


def kept_records(
    selection: Selection, config_file: str = "", overrides: Sequence[str] = ()
) -> Records:
    """What ``selection`` keeps of the training set that a configuration names.

    Args:
        selection: of that training set.
        config_file: a yaml; empty takes the defaults.
        overrides: KEY VALUE pairs.

    Raises:
        DataError: a configuration or data that cannot be used, data other than the selection was
            made from, or images that are no files.
    """
    cfg = load_config(config_file, overrides)
    cfg.DATA.MEMORY_MB = 0  # nothing is decoded for good: an export takes the files
    images = load_data(cfg).train
    selection = images.checked_selection(selection)
    kept = images.with_keys(selection.kept_keys)
    if not isinstance(kept.images, FileImages):
        raise DataError(
            f"the images of {kept.name} are no files of their own; of them --format csv alone can "
            "be written"
        )
    facts = check_images(kept.images.paths)
    rows = zip(kept.keys, kept.images.paths, kept.labels.tolist(), strict=True)
    return Records(
        records=[
            Record(
                key=key,
                path=path,
                name=image_id_of(key).replace("\\", "/"),
                width=facts[path].width,
                height=facts[path].height,
                label=label,
            )
            for key, path, label in rows
        ],
        class_names=tuple(kept.class_names),
    )
