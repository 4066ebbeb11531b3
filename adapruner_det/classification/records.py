"""The kept images of a selection as exports know them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import DataError
from ..export.records import Record, Records
from ..image_check import check_images
from ..samples import image_id_of
from ..selection import Selection
from .config import load_config
from .data import load_files
from .folder import FileImages

logger = logging.getLogger(__name__)


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
    data = load_files(load_config(config_file, overrides))
    images = data.train
    selection = images.checked_selection(selection)
    kept = images.with_keys(selection.kept_keys)
    planted = selection.kept_keys & {images.keys[i] for i in data.wrong.tolist()}
    if planted:
        logger.warning(
            "%d of %d images are exported with a wrong label that DATA.WRONG_LABELS gave them, "
            "first %s.",
            len(planted),
            len(kept),
            min(planted),
        )
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
