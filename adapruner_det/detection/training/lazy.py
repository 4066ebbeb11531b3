"""LazyConfig: a Python file's model, optimizer, schedule and data, trained by this project.

Its plain values (data sets, batch size, iterations, output folder) become those of a CfgNode, so
that all else reads one kind of configuration. The objects are built from the file when needed.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.config import CfgNode, LazyCall, LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.solver import LRMultiplier
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from ...errors import DataError, did_you_mean
from ...overrides import require_type
from ...settings import leaves, set_value
from ..data.loader import Mapper, NamingMapper

#: What of a file is built as it says; of the rest ``cfg`` has the values.
BUILT = ("model", "optimizer", "lr_multiplier")

#: Of the keypoints that an image has at least.
KEYPOINTS = "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE"

#: Key of ``cfg`` → the field of a file that has its value, and what stands for one that the file
#: lacks; it must not lack those with ``...``.
FIELDS: dict[str, tuple[str, Any]] = {
    "OUTPUT_DIR": ("train.output_dir", ...),
    "SEED": ("train.seed", -1),
    "MODEL.DEVICE": ("train.device", ...),
    "MODEL.WEIGHTS": ("train.init_checkpoint", ...),
    "SOLVER.MAX_ITER": ("train.max_iter", ...),
    "SOLVER.AMP.ENABLED": ("train.amp.enabled", ...),
    "SOLVER.CHECKPOINT_PERIOD": ("train.checkpointer.period", ...),
    "TEST.EVAL_PERIOD": ("train.eval_period", ...),
    "SOLVER.IMS_PER_BATCH": ("dataloader.train.total_batch_size", ...),
    "DATALOADER.NUM_WORKERS": ("dataloader.train.num_workers", 0),
    "DATALOADER.ASPECT_RATIO_GROUPING": ("dataloader.train.aspect_ratio_grouping", True),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": ("dataloader.train.dataset.filter_empty", True),
    KEYPOINTS: ("dataloader.train.dataset.min_keypoints", 0),
}

#: Key of ``cfg``, or what is taken for one → the field of a file that stands in its place.
ALIKE = {
    **{key: field for key, (field, _) in FIELDS.items()},
    "SOLVER.BASE_LR": "optimizer.lr",
    "DATASETS.TRAIN": "dataloader.train.dataset.names",
    "DATASETS.TEST": "dataloader.test.dataset.names",
    "KEEP_RATIO": "ADAPRUNER.KEEP_RATIO",
}


def is_lazy(cfg: CfgNode) -> bool:
    """Whether ``cfg`` stands for a LazyConfig file."""
    return bool(cfg.ADAPRUNER.LAZY_CONFIG)


@contextmanager
def named_as_in(config_file: str) -> Iterator[None]:
    """Let a DataError name the fields of ``config_file`` that a user can set, if that is a .py.

    Messages are written for who has a yaml, with the keys of ``cfg``.
    """
    try:
        yield
    except DataError as error:
        if config_file.endswith(".py"):
            error.args = (_KEYS.sub(lambda key: ALIKE[key[0]], str(error)),)
        raise


# Keys that are no part of a longer word, nor in quotes, as what the user wrote is.
_KEYS = re.compile(rf"(?<![\w.'])(?:{'|'.join(map(re.escape, ALIKE))})(?!\w|\.\w)")


def merge_lazy_config(cfg: CfgNode, config_file: str, overrides: Sequence[str] = ()) -> None:
    """Take over into ``cfg`` what a LazyConfig file says.

    The file has Detectron2's ``model``, ``dataloader.train``, ``optimizer``, ``lr_multiplier`` and
    ``train``; it may have ``dataloader.test`` and ``ADAPRUNER``, a dict of what cfg.ADAPRUNER has.

    Args:
        cfg: Detectron2's defaults with ours.
        config_file: the .py.
        overrides: "key=value" each.

    Raises:
        DataError: a value of another type, or an override of a field that nothing reads.
        KeyError, AttributeError: a field that is missing, or that ADAPRUNER does not have.
    """
    _require_read(config_file, overrides)
    lazy = _load(config_file, tuple(overrides))
    for part in BUILT:
        if part not in lazy:
            raise KeyError(f"it has no {part!r}")
    if "ADAPRUNER" in lazy:
        cfg.merge_from_other_cfg(CfgNode({"ADAPRUNER": OmegaConf.to_container(lazy.ADAPRUNER)}))
    cfg.ADAPRUNER.LAZY_CONFIG = config_file
    cfg.ADAPRUNER.LAZY_DIGEST = _digest(config_file)
    cfg.ADAPRUNER.LAZY_OVERRIDES = list(overrides)

    defaults = dict(leaves(cfg))
    for key, (field, default) in FIELDS.items():
        value = _found(lazy, field, default)
        require_type(field, value, defaults[key])
        set_value(cfg, key, value)
    cfg.DATASETS.TRAIN = _names(lazy.dataloader.train.dataset.names)
    cfg.DATASETS.TEST = ()
    if "test" in lazy.dataloader:
        cfg.DATASETS.TEST = _names(lazy.dataloader.test.dataset.names)
    cfg.DATALOADER.SAMPLER_TRAIN = _sampler(lazy.dataloader.train)
    cfg.MODEL.KEYPOINT_ON = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE > 0
    if cfg.MODEL.KEYPOINT_ON:  # of a head of another kind it is not known
        points = OmegaConf.select(lazy, "model.roi_heads.keypoint_head.num_keypoints", default=0)
        cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = points
    cfg.SOLVER.STEPS = ()


def _found(lazy: DictConfig, field: str, default: Any) -> Any:
    value = OmegaConf.select(lazy, field)
    if value is None and default is ...:
        raise KeyError(f"it has no {field!r}")
    if isinstance(value, float) and value.is_integer():
        return int(value)  # of 9e4 iterations
    return default if value is None else value


def _require_read(config_file: str, overrides: Sequence[str]) -> None:
    """Raise a DataError for an override of a field that nothing reads, or that is not in the file.

    A call may take arguments that it is not given there; ``+key=value`` is meant to be new.
    """
    file: Any = OmegaConf.to_container(_load(config_file, ()))
    read = {field for field, _ in FIELDS.values()}
    for field in (word.partition("=")[0] for word in overrides):
        if field in read or field.startswith(("+", "ADAPRUNER.", "dataloader.evaluator")):
            continue
        if not _has(file, field.split(".")):
            alike = ALIKE.get(field)
            names = [name for name, _ in leaves(file)]
            meant = f"did you mean {alike}? " if alike else did_you_mean(field, names)
            raise DataError(
                f"{config_file} has no {field!r}; {meant}what is to be new in it has a + before "
                f"it: +{field}=..."
            )
        if field.startswith("train.") and not any(own.startswith(f"{field}.") for own in read):
            known = ", ".join(sorted(own for own in read if own.startswith("train.")))
            raise DataError(f"{field} has no effect here, leave it out; read are {known}")


def _has(value: Any, parts: Sequence[str]) -> bool:
    """Whether ``value`` has something under the names ``parts``, or may, as a call or a list."""
    if not parts or not isinstance(value, dict):
        return True
    if parts[0] in value:
        return _has(value[parts[0]], parts[1:])
    return "_target_" in value and _takes(value["_target_"], parts[0])


def _takes(target: Any, name: str) -> bool:
    """Whether ``target``, or what a text says where to find, may be called with ``name=``."""
    try:
        target = locate(target) if isinstance(target, str) else target
        parameters = inspect.signature(target).parameters
    except (ImportError, TypeError, ValueError):  # what is written in C may not say
        return True
    kinds = {parameter.kind for parameter in parameters.values()}
    return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def register_from_file(cfg: CfgNode) -> None:
    """Let this process know the data sets that a LazyConfig file registers: run it, once."""
    if is_lazy(cfg):
        _read(cfg)


def training_mapper(cfg: CfgNode) -> Mapper:
    """The mapper of a training: of a LazyConfig that of ``dataloader.train``."""
    if not is_lazy(cfg):
        return DatasetMapper(cfg, True)
    return instantiate(_read(cfg).dataloader.train.mapper)


def evaluation_mapper(cfg: CfgNode) -> Mapper:
    """The mapper of an evaluation: of a LazyConfig that of ``dataloader.test``.

    Raises:
        DataError: a LazyConfig without one.
    """
    if not is_lazy(cfg):
        return DatasetMapper(cfg, False)
    mapper = OmegaConf.select(_read(cfg), "dataloader.test.mapper")
    if mapper is None:
        raise DataError(
            f"{cfg.ADAPRUNER.LAZY_CONFIG} has no dataloader.test.mapper, which says how images are "
            "read where nothing is trained on them; add one"
        )
    return instantiate(mapper)


if TYPE_CHECKING:
    from detectron2.engine import DefaultTrainer as Mixed  # what a mixin is mixed into
else:
    Mixed = object


class LazyMixin(Mixed):
    """A DefaultTrainer that builds what a LazyConfig file says where ``cfg`` stands for one."""

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        if not is_lazy(cfg):
            return super().build_model(cfg)
        return instantiate(_read(cfg).model).to(cfg.MODEL.DEVICE)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        if not is_lazy(cfg):
            return super().build_optimizer(cfg, model)
        optimizer = _read(cfg).optimizer
        optimizer.params.model = model
        return instantiate(optimizer)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> Any:
        if not is_lazy(cfg):
            return super().build_lr_scheduler(cfg, optimizer)
        return LRMultiplier(optimizer, instantiate(_read(cfg).lr_multiplier), cfg.SOLVER.MAX_ITER)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict[str, Any]]]:
        if not is_lazy(cfg):
            return super().build_train_loader(cfg)
        train = _read(cfg).dataloader.train
        train.dataset.names = list(cfg.DATASETS.TRAIN)
        train.mapper = LazyCall(NamingMapper)(mapper=train.mapper)
        return instantiate(train)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        if not is_lazy(cfg):
            return super().build_test_loader(cfg, dataset_name)
        test = _read(cfg).dataloader.test
        test.dataset.names = dataset_name
        test.mapper = LazyCall(NamingMapper)(mapper=test.mapper)
        return instantiate(test)


def _digest(config_file: str) -> str:
    """SHA-256 of a file, and of what it takes from others that it imports. Hexadecimal."""
    lazy = _load(config_file, ())
    parts = [OmegaConf.to_container(lazy[name]) for name in (*BUILT, "dataloader")]
    text = Path(config_file).read_bytes() + repr(_plain(parts)).encode()
    return hashlib.sha256(text).hexdigest()


def _plain(value: Any) -> Any:
    """``value`` with names in place of functions, classes and objects, which have addresses."""
    if isinstance(value, dict):
        return [(_plain(name), _plain(own)) for name, own in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    if isinstance(value, partial):
        return [_plain(part) for part in (value.func, value.args, value.keywords)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    # A file that is imported as `from .name` is a module of another name in each process.
    module = re.sub(r"^detectron2\._cfg_loader\w*\.", "", str(named.__module__))
    return f"{module}.{named.__qualname__}"


def _read(cfg: CfgNode) -> DictConfig:
    return _load(cfg.ADAPRUNER.LAZY_CONFIG, tuple(cfg.ADAPRUNER.LAZY_OVERRIDES))


def _load(config_file: str, overrides: tuple[str, ...]) -> DictConfig:
    """The file with the overrides applied. It is run once in a process: it may register data."""
    path = os.path.abspath(config_file)
    text = Path(path).read_bytes()
    if path not in _loaded or _loaded[path][0] != text:
        _loaded[path] = text, LazyConfig.load(config_file)
    return LazyConfig.apply_overrides(copy.deepcopy(_loaded[path][1]), list(overrides))


#: Path → the text that was run, and what came of it.
_loaded: dict[str, tuple[bytes, DictConfig]] = {}


def _names(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _sampler(data: DictConfig) -> str:
    """The name of the class of ``dataloader.train.sampler``; Detectron2's default without one."""
    if data.get("sampler") is None:
        return "TrainingSampler"
    target = data.sampler._target_
    return (target if isinstance(target, str) else target.__name__).rsplit(".", 1)[-1]
