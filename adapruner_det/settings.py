"""What both tasks ask of a configuration: ranges, a digest of the whole, the mask it describes."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import os
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from fvcore.common.config import BASE_KEY, CfgNode

from .core import (
    ENDS,
    AdaPruner,
    Balance,
    ClassSets,
    Exchange,
    Inclusion,
    Neighbours,
    Schedule,
    Terms,
)
from .errors import DataError, one_line
from .neighbours import can_compare, look_alikes, thumbnails
from .samples import Samples, digest

#: Keys that say where a run reads and writes, how often, or how fast, and change nothing of what
#: comes out: what is read is told by the fingerprint of the data.
WITHOUT_EFFECT = (
    "OUTPUT_DIR",
    "SOLVER.CHECKPOINT_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "DATA.ROOT",
    "DATA.WORKERS",
    "DATA.MEMORY_MB",
    "ADAPRUNER.VOC_FOLDERS",
    "ADAPRUNER.COCO_SETS",
)

#: The same, as overrides of a LazyConfig call them.
LAZY_WITHOUT_EFFECT = (
    *("train.output_dir", "train.checkpointer.period"),
    *("dataloader.train.num_workers", "dataloader.test.num_workers"),
    *("ADAPRUNER.VOC_FOLDERS", "ADAPRUNER.COCO_SETS"),
)

#: What may decide which samples go.
OBJECTIVES = ("paper", "inclusion")

#: The end to drop that is found out on held-out samples, how many it takes at least (two to each
#: tenth, of which it holds out some), and all that DROP may be.
AUTO, AUTO_NEEDS = "auto", 20
DROPS = ("", *ENDS, AUTO)

#: What yacs, fvcore and yaml raise for files, keys and values that do not fit.
INVALID = (
    *(KeyError, ValueError, AssertionError, TypeError, AttributeError, OSError),
    *(yaml.YAMLError, RecursionError, MemoryError, SyntaxError),
)

#: A yaml that is larger, or would be once its aliases are written out, is no configuration.
MAX_BYTES, MAX_NODES = 2**20, 10_000


class Range(NamedTuple):
    """An interval of numbers.

    Attributes:
        low: the least value.
        high: the greatest value.
        above: whether ``low`` itself is outside.
        below: whether ``high`` itself is outside.
        unset: whether None may stand for no number.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    unset: bool = False

    def __contains__(self, value: Any) -> bool:
        is_above = value > self.low if self.above else value >= self.low
        is_below = value < self.high if self.below else value <= self.high
        return bool(is_above and is_below)

    def __str__(self) -> str:
        low = f"above {_text(self.low)}" if self.above else f"{_text(self.low)} or more"
        high = f"{'below' if self.below else 'at most'} {_text(self.high)}"
        if self.high == math.inf:
            return "a number" if self.low == -math.inf else low
        if self.low == -math.inf:
            return high
        if self.above or self.below:
            return f"{low} and {high}"
        return f"{_text(self.low)} to {_text(self.high)}"


#: Of what both tasks have in the node ADAPRUNER: dotted key → where its number must lie, and the
#: words that it may be.
PRUNER_RANGES = {
    "ADAPRUNER.KEEP_RATIO": Range(0, 1, above=True),
    "ADAPRUNER.WARMUP_EPOCHS": Range(0),
    "ADAPRUNER.ALPHA_START": Range(0, 1000, above=True),
    "ADAPRUNER.ALPHA_END": Range(0, 1000, above=True),
    "ADAPRUNER.PAPER_SCALE": Range(0, above=True),
    "ADAPRUNER.CLASS_BAND": Range(0, 1, below=True),
}
PRUNER_CHOICES = {
    "ADAPRUNER.CONTROLLER": ("dual", "paper"),
    "ADAPRUNER.NORMALIZE": ("median", "none"),
    "ADAPRUNER.OBJECTIVE": OBJECTIVES,
    "ADAPRUNER.DROP": DROPS,
    "ADAPRUNER.ON_BAD_SAMPLE": ("stop", "skip"),
}


#: What :func:`build_pruner` reads of the node ADAPRUNER, besides KEEP_RATIO.
PRUNER_OPTIONS = (
    *("OBJECTIVE", "DROP", "CLASS_BAND", "WARMUP_EPOCHS", "ALPHA_START", "ALPHA_END"),
    *("CONTROLLER", "PAPER_SCALE", "NORMALIZE", "NORMALIZE_BY_OBJECTS"),
    *("CLASSIFICATION_LOSS", "SELECTION_LOSS", "COMPRESSION_LOSS"),
)

#: What seeds PyTorch and NumPy take.
SEEDS = Range(0, 2**63 - 1)


def check_settings(
    cfg: Mapping[str, Any], ranges: Mapping[str, Range], choices: Mapping[str, Sequence[str]]
) -> None:
    """Raise a DataError for the first value that cannot be meant.

    Args:
        cfg: every number in it must be finite.
        ranges: dotted key → where its number, or each number of its list, must lie. A key that is
            here has nothing but numbers.
        choices: dotted key → the words it may be.
    """
    for key, value in leaves(cfg):
        wanted = ranges.get(key)
        unset = value is None and wanted and wanted.unset
        if wanted and not unset and not all(map(_is_number, _parts(value))):
            raise DataError(f"{key} is {value!r}; it must be a number, {wanted}")
        for number in _numbers(value):
            if isinstance(number, numbers.Integral):
                if abs(int(number)) >= 2**63:
                    raise DataError(f"{key} has more than 64 bits; it must be below 2^63")
            elif not math.isfinite(number):
                raise DataError(f"{key} is {value}; it must be finite")
            if wanted and number not in wanted:
                raise DataError(f"{key} is {value}; it must be {wanted}")
        if key in choices and value not in choices[key]:
            raise DataError(f"{key} is {value!r}; it must be one of {', '.join(choices[key])}")


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is set in ``cfg``."""
    for name, value in cfg.items():
        if isinstance(value, dict):  # yacs's own node is none of fvcore's
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Set the dotted ``key`` of ``cfg``."""
    *path, name = key.split(".")
    for part in path:
        cfg = cfg[part]
    cfg[name] = value


def config_digest(cfg: CfgNode) -> str:
    """SHA-256 of the configuration, without what has no effect on the result. Hexadecimal.

    It is of plain values, so that a configuration that was written as yaml and read again, where a
    tuple may have become a list, is the same.
    """
    return hashlib.sha256(settings_text(cfg).encode()).hexdigest()


def settings_text(cfg: CfgNode) -> str:
    """What has an effect on the result, as JSON: dotted key → value."""
    values = {key: _told(key, value) for key, value in leaves(cfg) if key not in WITHOUT_EFFECT}
    return json.dumps(values, sort_keys=True, default=str)


def differences(there: str, here: str, most: int = 3) -> str:
    """How the settings of an earlier run differ from this one's, in brackets after a space.

    Args:
        there: what :func:`settings_text` gave for the earlier run; empty where it is not known.
        here: the same of this run.
        most: so many are named.

    Returns:
        The text, which is empty where nothing is known to differ.
    """
    old, new = json.loads(there or here), json.loads(here)
    keys = [key for key in sorted({*old, *new}) if old.get(key, ...) != new.get(key, ...)]
    lines = [f"{key} is {_shown(old, key)} there and {_shown(new, key)} here" for key in keys]
    if len(lines) > most:
        lines[most:] = [f"and {len(lines) - most} more"]
    return f" ({', '.join(lines)})" if lines else ""


def _shown(values: Mapping[str, Any], key: str) -> str:
    return reprlib.repr(values[key]) if key in values else "not set"


def _told(key: str, value: Any) -> Any:
    """What of a setting has an effect: of a GPU not its number, of a download nothing, of a file
    not where it lies, for LAZY_DIGEST is of what it holds."""
    if key in ("DEVICE", "MODEL.DEVICE"):
        return str(value).partition(":")[0]
    if key == "ADAPRUNER.LAZY_CONFIG":
        return ""  # as of a yaml
    if key == "ADAPRUNER.LAZY_OVERRIDES":
        told = (*LAZY_WITHOUT_EFFECT, "train.device")  # the last by MODEL.DEVICE
        return [word for word in value if word.lstrip("+").partition("=")[0] not in told]
    return False if key == "DATA.DOWNLOAD" else value  # as by default, whose digest it has


def build_pruner(
    options: Mapping[str, Any],
    samples: Samples,
    epochs: int,
    keep_ratio: float | None = None,
    *,
    seed: int = 0,
    offered: Collection[str] = (),
    look: bool = True,
    thumbs: np.ndarray | None = None,
    exchange: Exchange | None = None,
    length: str = "the number of epochs",
) -> AdaPruner:
    """The mask over ``samples`` that the node ADAPRUNER describes.

    Args:
        options: the node; NORMALIZE_BY_OBJECTS may be missing.
        samples: the N samples.
        epochs: of the run, the warm-up among them.
        keep_ratio: c_r; None takes KEEP_RATIO.
        seed: of the run, for an objective that draws.
        offered: the signals that the training gives besides the loss.
        look: whether near-copies are looked for where the objective knows them, which reads every
            image; a mask that is made as a check needs none.
        thumbs: (N, D) the :func:`.neighbours.thumbnails`, where they are at hand.
        exchange: the processes that share the mask.
        length: what to raise for a longer run, for the message that asks for it.

    Raises:
        DataError: a run too short for its warm-up, or values that make no mask.
    """
    _check_options(options, samples, epochs, length)
    warmup = options["WARMUP_EPOCHS"]
    ratio = options["KEEP_RATIO"] if keep_ratio is None else keep_ratio
    near = None
    if look and _knows_twins(options, samples):
        thumbs = thumbnails(samples) if thumbs is None else thumbs
        near = look_alikes(thumbs)
    terms = (options[f"{name}_LOSS"] for name in ("CLASSIFICATION", "SELECTION", "COMPRESSION"))
    try:
        return AdaPruner(
            len(samples),
            ratio,
            Schedule(warmup, epochs - warmup, options["ALPHA_START"], options["ALPHA_END"]),
            objective=_objective(options, samples, ratio, epochs, seed, offered, near),
            controller=options["CONTROLLER"],
            normalize=options["NORMALIZE"],
            # Only a detector has the option, and objects.
            sizes=samples.sizes if "NORMALIZE_BY_OBJECTS" in options else None,
            by_size=options.get("NORMALIZE_BY_OBJECTS", False),
            balance=_balance(options, samples),
            terms=Terms(*terms),
            paper_scale=options["PAPER_SCALE"],
            exchange=exchange,
        )
    except ValueError as error:
        raise DataError(f"{error} (see ADAPRUNER in the configuration)") from error


def _check_options(options: Mapping[str, Any], samples: Samples, epochs: int, length: str) -> None:
    """Raise a DataError for options that make no mask over ``samples`` in so many epochs."""
    check_settings({"ADAPRUNER": options}, PRUNER_RANGES, PRUNER_CHOICES)
    if options["DROP"] == "twins" and not _knows_twins(options, samples):
        raise DataError(
            "ADAPRUNER.DROP twins needs ADAPRUNER.OBJECTIVE inclusion, which looks for near-copies "
            f"in the images; the objective is {options['OBJECTIVE']!r}"
        )
    if options["DROP"] and options["CLASS_BAND"]:
        raise DataError(
            f"ADAPRUNER.CLASS_BAND {options['CLASS_BAND']:g} holds where the objective's own order "
            f"is cut, and ADAPRUNER.DROP is {options['DROP']!r}; set one of the two alone"
        )
    if options["DROP"] == AUTO:
        require_enough_for_auto(len(samples))
    warmup = options["WARMUP_EPOCHS"]
    if epochs <= warmup:
        raise DataError(
            f"the run makes {epochs} epochs of {len(samples)} images, of which {warmup} are "
            f"warm-up: none is left to prune in; raise {length} or lower ADAPRUNER.WARMUP_EPOCHS"
        )


def _balance(options: Mapping[str, Any], samples: Samples) -> Balance | None:
    if not options["CLASS_BAND"]:
        return None
    num_classes = 1 + max(max(own, default=0) for own in samples.classes)
    return Balance(ClassSets.from_sets(samples.classes, num_classes), options["CLASS_BAND"])


def require_enough_for_auto(num_samples: int) -> None:
    """Raise a DataError for so few samples that no tenth of them can be held out."""
    if num_samples < AUTO_NEEDS:
        raise DataError(
            f"{num_samples} samples are too few to hold a tenth out: name the end to drop in "
            "place of 'auto'"
        )


def _objective(
    options: Mapping[str, Any],
    samples: Samples,
    keep_ratio: float,
    epochs: int,
    seed: int,
    offered: Collection[str],
    near: Neighbours | None,
) -> Inclusion | None:
    """What OBJECTIVE names; None is the paper's."""
    if options["OBJECTIVE"] == "paper":
        return None
    keys = np.array([digest(key) for key in samples.keys], dtype=np.uint64)
    found = Inclusion(
        keys,
        seed,
        keep_ratio,
        epochs,
        neighbours=near,
        gate="fault" in offered,
        parts="box_iou" in offered,
    )
    found.signals &= frozenset(offered)
    return found


def _knows_twins(options: Mapping[str, Any], samples: Samples) -> bool:
    """Whether a run learns which samples are near-copies of others."""
    return options["OBJECTIVE"] == "inclusion" and can_compare(samples)


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds, however lists are nested."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _numbers(value: Any) -> Iterator[Any]:
    return filter(_is_number, _parts(value))


def _is_number(value: Any) -> bool:
    """Whether it is one of Python's or NumPy's real numbers; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def check_yaml(config_file: str) -> None:
    """Check a yaml and those that it is based on, which are found as fvcore finds them.

    Raises:
        DataError: one that is missing, is no yaml, is based on itself, or would fill the memory.
    """
    pending: list[tuple[str, tuple[str, ...]]] = [(config_file, ())]
    while pending:
        name, above = pending.pop()
        if not Path(name).is_file():
            raise DataError(f"there is no configuration file {Path(name).absolute()}")
        place = os.path.realpath(name)
        if place in above:
            raise DataError(f"the configuration {name} is based on itself; correct its {BASE_KEY}")
        bases = _load_yaml(name).get(BASE_KEY, [])
        for base in bases if isinstance(bases, list) else [bases]:
            if not isinstance(base, str):
                raise DataError(f"{name}: {BASE_KEY} is {base!r}; it must be a path")
            base = os.path.join(os.path.dirname(name), os.path.expanduser(base))
            pending.append((base, (*above, place)))


def is_of_classifier(config_file: str) -> bool:
    """Whether a yaml that :func:`check_yaml` has passed, or what it is based on, has the node DATA,
    which classifiers alone have."""
    return "DATA" in CfgNode.load_yaml_with_base(config_file)


def _load_yaml(name: str) -> dict[Any, Any]:
    if os.path.getsize(name) > MAX_BYTES:
        raise DataError(f"{name} is larger than {MAX_BYTES:,} bytes: it is no configuration")
    try:
        text = Path(name).read_text(encoding="utf-8")
        if _nodes(yaml.compose(text, Loader=yaml.SafeLoader), {}) > MAX_NODES:
            raise DataError(f"it comes to more than {MAX_NODES:,} values")
        found = yaml.safe_load(text)
    except INVALID as error:
        raise DataError(
            f"the configuration {name} is not valid: {one_line(error)[:300]}"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"the configuration {name} holds no KEY: VALUE")
    return found


def _nodes(node: yaml.Node | None, known: dict[int, float]) -> float:
    """How many values ``node`` comes to once aliases are written out; one in itself to infinity.

    Raises:
        DataError: a key that is there twice, of which yaml would take the last.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = float("inf")
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise DataError(f"line {line} has {key.value} a second time; remove one of them")
            seen.add(key.value)
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_nodes(part, known) for part in parts)
    return known[id(node)]
