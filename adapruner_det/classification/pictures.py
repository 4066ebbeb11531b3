"""The images of a classification run as a report shows them."""

from __future__ import annotations

from ..image_check import check_images
from ..report.pictures import Picture, of_array, of_file
from .folder import FileImages
from .image_set import ImageSet


def pictures_of(images: ImageSet) -> dict[str, Picture]:
    """Key → picture, of all images of a set: the files where it has some, else what was read."""
    labels = images.labels.tolist()
    if isinstance(images.images, FileImages):
        facts = check_images(images.images.paths)
        rows = zip(images.keys, images.images.paths, labels, strict=True)
        return {
            key: of_file(key, path, facts[path].width, facts[path].height, label)
            for key, path, label in rows
        }
    samples = images.samples
    return {
        key: of_array(key, lambda i=i: samples.image(i), label)  # type: ignore[misc]
        for i, (key, label) in enumerate(zip(images.keys, labels, strict=True))
    }
