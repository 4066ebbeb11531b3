"""From a tool's arguments to a configuration that has been checked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from yaml import YAMLError

from ..errors import DataError
from ..selection import check_keep_ratio
from .catalog import SampleIndex, require_datasets
from .config import add_adapruner_config, resolve_device
from .evaluation import require_evaluator
from .lazy import merge_lazy_config
from .loader import check_sampler
from .processes import start_processes
from .trainer import build_pruner
from .voc_folder import load_voc_folder, register_from_config

#: What yacs and fvcore raise for keys, values and files that do not fit.
_CONFIG_ERRORS = (KeyError, ValueError, AssertionError, TypeError, AttributeError)


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Detectron2's defaults, ours, the yaml, then ``KEY VALUE`` overrides.

    A .py is read as a LazyConfig, with ``key=value`` overrides.

    It also registers the folders that ``ADAPRUNER.VOC_FOLDERS`` names.

    Raises:
        DataError: a file or a key that is not there, or a value of the wrong type.
    """
    cfg = get_cfg()
    add_adapruner_config(cfg)
    if config_file and not os.path.isfile(config_file):
        raise DataError(f"there is no configuration file {os.path.abspath(config_file)}")
    lazy = config_file.endswith(".py")
    try:
        if lazy:
            merge_lazy_config(cfg, config_file, overrides)
        else:
            if config_file:
                cfg.merge_from_file(config_file)
            cfg.merge_from_list(list(overrides))
    except Exception as error:
        if not (lazy or isinstance(error, (*_CONFIG_ERRORS, YAMLError, OSError))):
            raise  # what a .py raises is its own
        raise DataError(
            f"the configuration {config_file or '(none)'} with {list(overrides)} is not valid: "
            f"{error}; overrides are "
            + ("KEY=VALUE" if lazy else "pairs of KEY VALUE")
            + " with keys that Detectron2 or ADAPRUNER has"
        ) from error
    register_from_config(cfg)
    return cfg


def check_pruning_inputs(cfg: CfgNode) -> SampleIndex:
    """Everything that can be known to be wrong before a pruning run writes its first file.

    Raises:
        DataError: with what is wrong and its cure.
    """
    check_keep_ratio(cfg.ADAPRUNER.KEEP_RATIO)
    check_sampler(cfg)
    check_datasets(cfg)
    index = SampleIndex.from_config(cfg)
    try:
        build_pruner(cfg, index)
    except ValueError as error:
        raise DataError(f"{error} (see ADAPRUNER in the configuration)") from error
    return index


def check_datasets(cfg: CfgNode, train: bool = True) -> None:
    """Raise a DataError unless the data sets of ``cfg`` are there and can be read and evaluated.

    Args:
        cfg: the configuration.
        train: whether the training sets are needed too.
    """
    part = "TRAIN" if train else "TEST"
    if not cfg.DATASETS[part]:
        raise DataError(
            f"DATASETS.{part} names no data set; give a --config-file that does, or "
            f"DATASETS.{part} \"('name',)\""
        )
    names = [*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST]
    require_datasets(names)
    for name in cfg.DATASETS.TEST:
        require_evaluator(name)
    for name in names:
        _read(name)


def _read(name: str) -> None:
    meta = MetadataCatalog.get(name)
    if meta.get("evaluator_type") == "pascal_voc":
        # Detectron2's own reader names neither a broken file nor a missing image.
        load_voc_folder(meta.dirname, meta.split, meta.thing_classes)
    try:
        DatasetCatalog.get(name)
    except DataError:
        raise
    except Exception as error:  # whatever the reader of a data set meets in its files
        raise DataError(
            f"the data set {name!r} cannot be read: {type(error).__name__}: {error}; mend its files"
        ) from error


def run(args: argparse.Namespace, cfg: CfgNode, main: Callable[..., Any], *rest: Any) -> None:
    """Start ``main(cfg, args, *rest)`` in all processes of the run.

    The arguments are those of Detectron2's ``default_argument_parser``. What ``main`` returns is
    lost.
    """
    start_processes(args, _start, cfg, args, main, rest)


def _start(
    cfg: CfgNode, args: argparse.Namespace, main: Callable[..., Any], rest: tuple[Any, ...]
) -> None:
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="adapruner_det")
    register_from_config(cfg)  # a spawned process has a catalogue of its own
    resolve_device(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    main(cfg, args, *rest)
