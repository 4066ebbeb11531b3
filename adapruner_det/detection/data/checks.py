"""One look at everything that a run will read, before it writes its first file.

Shape letters: N samples.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import BoxMode
from torch import nn

from ...errors import DataError
from ...image_check import check_images
from ...images import ImageFacts
from ...samples import alike_names, sample_key
from ...values import is_number
from .faults import UNUSABLE, BoxCounts, Fault, SampleReader, raise_faults
from .identity import key_of, with_sizes
from .voc_folder import VOCFolder, folder_behind

logger = logging.getLogger(__name__)

Reader = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class CheckedSet:
    """A data set that can be trained on.

    Attributes:
        dicts: Detectron2's dict of each usable sample, with height, width and ``file_digest``,
            without the boxes that cannot be trained on.
        excluded: key → why it is not among them.
    """

    dicts: list[dict[str, Any]]
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UsablePart(SampleReader):
    """A data set without its faulty samples and unusable boxes, as DatasetCatalog calls it.

    Attributes:
        name: of the data set.
        reader: reads it with them.
        excluded: key → why a sample is left out.
    """

    name: str
    reader: Reader
    excluded: Mapping[str, str]

    def read(self) -> tuple[list[dict[str, Any]], list[Fault]]:
        """The samples that stay, and those that have become faulty since."""
        dicts, faults = _read(self.name, self.reader)
        dicts = with_sizes([d for d in dicts if key_of(self.name, d) not in self.excluded])
        boxes = BoxCounts()  # the check has said what they are
        return (
            [boxes.sort_out(d, d["file_name"]) for d in dicts],
            [f for f in faults if fault_key(self.name, f) not in self.excluded],
        )


def whole_reader(name: str) -> Reader:
    """What reads the whole of a registered data set, of which a part alone may be usable.

    Where that is Detectron2's reader of a VOC folder, it is this project's.
    """
    reader: Reader = DatasetCatalog[name]
    while isinstance(reader, UsablePart):
        reader = reader.reader
    return folder_behind(name, reader) or reader


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from looking for garbage among the many objects of a data set, which all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collector_paused()
def checked_set(name: str, on_bad_sample: str = "stop") -> CheckedSet:
    """Read a registered data set and look at all its samples and their image files.

    Where samples or boxes are left out, DatasetCatalog has the data set without them from then on,
    and of Detectron2's own VOC sets it has what has been checked.

    Args:
        name: of the data set.
        on_bad_sample: ``stop`` raises for a faulty sample, ``skip`` leaves it out and says so.

    Raises:
        DataError: a data set that cannot be read, or the first faulty sample.
    """
    dicts, faults = find_faults(name)
    reader = DatasetCatalog[name]
    excluded = dict(reader.excluded) if isinstance(reader, UsablePart) else {}
    if faults and on_bad_sample == "skip":
        excluded |= {fault_key(name, f): f.problem for f in faults}
        logger.warning(
            "%s: %d of %d sample(s) are faulty and left out, the first: %s",
            name,
            len(faults),
            len(faults) + len(dicts),
            faults[0].problem,
        )
    else:
        raise_faults(faults)
    dicts, boxes = usable_boxes(name, dicts)
    if faults or boxes.counts.keys() & set(UNUSABLE):
        leave_out(name, excluded)
    elif (folder := folder_behind(name, reader)) not in (None, reader):
        DatasetCatalog.remove(name)  # Detectron2's own reader takes no list with blank lines, say
        DatasetCatalog.register(name, folder)
    warn_of_similar_classes(name)
    return CheckedSet(dicts, excluded)


def usable_boxes(
    name: str, dicts: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], BoxCounts]:
    """Samples of the data set ``name`` without the boxes that cannot be trained on.

    What is wrong with their boxes is said, and counted in what stands beside them.
    """
    boxes = BoxCounts()
    found = [boxes.sort_out(d, d["file_name"]) for d in dicts]
    if not isinstance(whole_reader(name), VOCFolder):
        boxes.warn(name)  # a VOC folder says it as it is read, by the files of its annotations
    return found, boxes


def fault_key(name: str, fault: Fault) -> str:
    """The key of a faulty sample of the data set ``name``."""
    return sample_key(name, fault.image_id)


def find_faults(name: str) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The usable samples of a registered data set, their sizes filled in, and the faulty ones.

    Raises:
        DataError: a data set that cannot be read at all.
    """
    dicts, faults = _read(name, DatasetCatalog[name])
    sound = []
    annotated = any("annotations" in sample for sample in dicts)
    for place, sample in enumerate(dicts):
        problem = _sample_problem(sample, place)
        if annotated and "annotations" not in sample:
            problem = problem or (
                f"image {sample['image_id']!r} ({sample['file_name']}) has no annotations, as "
                "others have: give an image without objects an empty list"
            )
        if problem:
            faults.append(Fault(str(sample.get("image_id", f"sample {place}")), problem))
        else:
            sound.append(sample)
    _require_distinct(name, sound)
    facts = check_images([str(d["file_name"]) for d in sound], f"checking images of {name}")
    _say_notes(name, facts)
    usable = []
    for sample in sound:
        found = facts[str(sample["file_name"])]
        problem = _image_problem(sample, found)
        if problem:
            faults.append(Fault(str(sample["image_id"]), f"{sample['file_name']} {problem}"))
        else:
            size = {"height": found.height, "width": found.width}
            usable.append({**sample, **size, "file_digest": found.digest})
    return usable, faults


def _read(name: str, reader: Reader) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The dicts that ``reader`` has of a registered data set, and the samples it finds faulty."""
    reader = folder_behind(name, reader) or reader
    if isinstance(reader, SampleReader):
        return reader.read()
    dicts = _called(name, reader)
    if not isinstance(dicts, (list, tuple)) or not all(isinstance(d, dict) for d in dicts):
        raise DataError(f"the data set {name!r} is no list of dicts")
    return list(dicts), []


def read_dataset(name: str) -> list[dict[str, Any]]:
    """What DatasetCatalog has of ``name``; whatever its reader meets is a DataError."""
    return _called(name, DatasetCatalog[name])


def _called(name: str, reader: Reader) -> list[dict[str, Any]]:
    try:
        return reader()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"the data set {name!r} cannot be read: {type(error).__name__}: {error}; mend its files"
        ) from error


def class_names(name: str, count: int = 0) -> list[str]:
    """The classes of a registered data set, or ``class 0`` and so on where it names none.

    Args:
        name: of the data set, which has been read.
        count: how many there are at least.
    """
    names = list(MetadataCatalog.get(name).get("thing_classes") or ())
    return [*names, *(f"class {i}" for i in range(len(names), count))]


def require_room_for_classes(
    model: nn.Module, dicts: Sequence[dict[str, Any]], names: Sequence[str]
) -> None:
    """Raise a DataError where a head of ``model`` has fewer classes than the data.

    Args:
        model: the detector.
        dicts: the N training samples.
        names: of the classes, as far as they are known.
    """
    used = 1 + max((a["category_id"] for d in dicts for a in d.get("annotations", ())), default=-1)
    for module_name, module in model.named_modules():
        room = getattr(module, "num_classes", None)
        if not isinstance(room, int) or "SemSeg" in type(module).__name__:
            continue
        if room < used:
            raise DataError(
                f"the data has {used} classes ({', '.join(names[:used][:8])}), but NUM_CLASSES of "
                f"{type(module).__name__} ({module_name or 'the model'}) is {room}: set "
                f"MODEL.ROI_HEADS.NUM_CLASSES, MODEL.RETINANET.NUM_CLASSES or "
                f"MODEL.YOLO.NUM_CLASSES to {used}"
            )


def require_annotations(model: nn.Module, dicts: Sequence[dict[str, Any]]) -> None:
    """Raise a DataError for a sample that says nothing of objects where ``model`` learns of them.

    Args:
        model: the detector.
        dicts: the N training samples, as Detectron2's own mapper will take them.
    """
    if not any(isinstance(module, (RPN, DenseDetector)) for module in model.modules()):
        return  # as one of semantic segmentation alone
    bare = next((sample for sample in dicts if "annotations" not in sample), None)
    if bare is not None:
        raise DataError(
            f"image {bare['image_id']!r} ({bare['file_name']}) has no 'annotations', of which "
            f"{type(model).__name__} learns: give each image a list of its objects, which may be "
            "empty"
        )


def _sample_problem(sample: dict[str, Any], place: int) -> str:
    """What is wrong with a dict as such; empty if nothing. It names the sample."""
    missing = [key for key in ("file_name", "image_id") if _is_missing(sample.get(key))]
    if missing:
        return f"sample {place} has no {' and no '.join(missing)}: every sample needs both"
    image_id = sample["image_id"]
    if not isinstance(image_id, str) and not is_number(image_id):
        return f"sample {place} has the image_id {image_id!r}: it must be a number or text"
    who = f"image {image_id!r} ({sample['file_name']})"
    for side in ("height", "width"):
        if sample.get(side) is not None and not is_number(sample[side]):
            return f"{who} has the {side} {sample[side]!r}: it must be a number of pixels"
    annotations = sample.get("annotations", ())
    if not isinstance(annotations, (list, tuple)):
        return f"{who} has annotations that are no list"
    for number, annotation in enumerate(annotations):
        if problem := _annotation_problem(annotation, number):
            return f"{who} has {problem}"
    return ""


def _annotation_problem(annotation: Any, number: int) -> str:
    """What is wrong with an annotation as such; empty if nothing. It follows "the image has"."""
    if not isinstance(annotation, dict):
        return f"the annotation {annotation!r}: it must be a dict"
    what = f"annotation {annotation['id']}" if "id" in annotation else f"annotation {number}"
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if box is None:
        return f"no bbox in {what}"
    if mode not in _MODES:
        return f"the bbox_mode {mode!r} in {what}: set which of Detectron2's BoxMode it is"
    if mode in _RELATIVE:
        return f"the bbox_mode {BoxMode(mode).name} in {what}: Detectron2 takes pixels alone"
    if not _is_box(box, mode):
        return f"the bbox {box!r} in {what}: it must be 4 numbers"
    if mode != BoxMode.XYXY_ABS and not isinstance(box, (list, tuple)):
        return (
            f"an array for the bbox in {what}: Detectron2 converts a list alone; add .tolist() to "
            "it"
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"the iscrowd {annotation['iscrowd']!r} in {what}: it must be 0 or 1"
    if not _is_whole(annotation.get("category_id")) or annotation["category_id"] < 0:
        return f"the category_id {annotation.get('category_id')!r} in {what}"
    return ""


_MODES = tuple(BoxMode)
_RELATIVE = (BoxMode.XYXY_REL, BoxMode.XYWH_REL)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _is_box(box: Any, mode: Any) -> bool:
    """Whether it is 4 numbers, or the 5 of a rotated box; they may be NaN."""
    if isinstance(box, (str, bytes)) or not hasattr(box, "__len__"):
        return False
    if len(box) != (5 if mode == BoxMode.XYWHA_ABS else 4):
        return False
    return all(is_number(own, finite=False) for own in box)


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _image_problem(sample: dict[str, Any], facts: ImageFacts) -> str:
    """What is wrong with a sample's image, without its name; empty if nothing."""
    if facts.problem:
        return facts.problem
    stated = sample.get("height") or facts.height, sample.get("width") or facts.width
    if tuple(map(int, stated)) != (facts.height, facts.width):
        turned = tuple(map(int, stated)) == (facts.width, facts.height)
        hint = ", with its sides in turn, as an EXIF orientation does" if turned else ""
        return (
            f"is {facts.width}×{facts.height} pixels, but annotated as "
            f"{int(stated[1])}×{int(stated[0])}{hint}: its boxes are of another picture"
        )
    return ""


def _require_distinct(name: str, dicts: Sequence[dict[str, Any]]) -> None:
    counts = Counter(key_of(name, d) for d in dicts)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"the sample {twice[0]} is there twice ({len(twice)} are); image_id must be unique in "
            "a data set"
        )


def _say_notes(name: str, facts: Mapping[str, ImageFacts]) -> None:
    noted = defaultdict(list)
    for path, found in facts.items():
        if found.note:
            noted[found.note].append(path)
    for note, paths in noted.items():
        logger.warning("%s: %d image(s), the first %s, %s", name, len(paths), paths[0], note)


def warn_of_similar_classes(name: str) -> None:
    """Say which class names differ by case or spaces alone."""
    for names in alike_names(class_names(name)):
        logger.warning(
            "%s: the classes %s differ by case or spaces alone; correct the annotations if they "
            "are one class",
            name,
            " and ".join(map(repr, names)),
        )


def leave_out(name: str, excluded: Mapping[str, str]) -> None:
    """Have DatasetCatalog give ``name`` without some samples, and without unusable boxes.

    Args:
        name: of a registered data set.
        excluded: key → why, of all samples that are left out.
    """
    whole = whole_reader(name)
    metadata = vars(MetadataCatalog.get(name))
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, UsablePart(name, whole, excluded))
    set_apart_from_files(metadata)


def set_apart_from_files(metadata: dict[str, Any]) -> None:
    """Make the metadata of a data set those of a part of it, which is evaluated from its dicts.

    The files of the whole have more than the part, which an evaluator would count as missed.
    """
    metadata.pop("json_file", None)
    if metadata.get("evaluator_type") == "pascal_voc":
        metadata["evaluator_type"] = "voc_folder"
