"""From a tool's arguments to a configuration that has been checked."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from ..command import beside, with_output
from ..enough import too_few_steps
from ..errors import DataError, one_line
from ..files import (
    CONFIG_FILE,
    SELECTION_FILES,
    lies_in,
    locked,
    require_writable,
    set_aside,
    sweep,
)
from ..overrides import checked_overrides
from ..settings import check_yaml, is_of_classifier
from .config import add_adapruner_config, resolve_device
from .data.checks import (
    CheckedSet,
    checked_set,
    require_annotations,
    require_room_for_classes,
)
from .data.evaluators import require_evaluator, require_upright, warn_where_nothing_counts
from .data.keypoints import require_keypoints
from .data.loader import check_sampler, require_shared
from .data.masks import require_masks
from .data.own_sets import register_from_config
from .data.samples import SampleIndex, require_datasets, require_same_classes, warn_of_empty
from .ranges import check_ranges
from .training.checkpoints import check_weights, newest_whole, require_same_run
from .training.fit import fit_to_data
from .training.lazy import is_lazy, merge_lazy_config, register_from_file, training_mapper
from .training.processes import is_first, require_startable, start_processes
from .training.trainer import EvaluatingTrainer, build_pruner

logger = logging.getLogger(__name__)

#: What a run leaves in its folder and a new one there must not take for its own.
RUN_FILES = (
    "model_*.pth",
    "last_checkpoint",
    *SELECTION_FILES,
    "metrics.json",
    "*_coco_format.json",
)

#: Detectron2's architectures that find no objects of a class.
_WITHOUT_INSTANCES = ("ProposalNetwork", "SemanticSegmentor")


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Detectron2's defaults, ours, the yaml, then ``KEY VALUE`` overrides.

    A .py is read as a LazyConfig, with ``key=value`` overrides. A yaml can hold values alone.

    It also registers the data sets that ``ADAPRUNER.VOC_FOLDERS`` and ``COCO_SETS`` name.

    Raises:
        DataError: a file or a key that is not there, or a value of the wrong type or range.
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
                check_yaml(config_file)
                _require_detector(config_file)
                cfg.merge_from_file(config_file, allow_unsafe=False)
            cfg.merge_from_list(checked_overrides(cfg, overrides))
            _require_no_file_to_run(cfg)
    except (Exception, SystemExit) as error:  # what a .py raises is its own
        if isinstance(error, DataError):
            raise
        if lazy and isinstance(error, ModuleNotFoundError):
            raise DataError(
                f"{config_file} imports {error.name}, which is not found: install it, put its "
                "folder in PYTHONPATH, or import a file beside it as `from .name import ...`"
            ) from error
        raise DataError(
            f"the configuration {config_file or '(none)'} with {list(overrides)} is not valid: "
            f"{type(error).__name__}: {one_line(error)}; overrides are "
            + ("KEY=VALUE" if lazy else "pairs of KEY VALUE")
            + " with keys that Detectron2 or ADAPRUNER has"
        ) from error
    check_ranges(cfg)
    register_from_config(cfg)
    return cfg


def _require_detector(config_file: str) -> None:
    """Raise a DataError for the yaml of a classifier, which has keys of its own."""
    if is_of_classifier(config_file):
        raise DataError(
            f"{config_file} has DATA: it is of a classifier, and this is for detectors; "
            "prune-cls and train-cls take it"
        )


def _require_no_file_to_run(cfg: CfgNode) -> None:
    """Raise a DataError where a yaml, as a run of a LazyConfig writes it down, names the file: its
    values are not all of it, and reading a yaml runs nothing."""
    if file := cfg.ADAPRUNER.LAZY_CONFIG:
        raise DataError(f"the configuration is that of a run of {file}: give --config-file {file}")


def check_pruning_inputs(
    cfg: CfgNode,
    *,
    trust_pickle: bool = False,
    processes: int = 1,
    say: Callable[[str], Any] = logger.info,
) -> SampleIndex:
    """Everything that can be known to be wrong before a pruning run writes its first file.

    What ``cfg`` leaves to the data is set in it (:func:`fit.fit_to_data`).

    Args:
        cfg: the configuration.
        trust_pickle: whether MODEL.WEIGHTS may be a ``.pkl``.
        processes: that share a batch.
        say: takes each line that tells what was set.

    Raises:
        DataError: with what is wrong and its cure.
    """
    check_sampler(cfg)
    index = check_training_inputs(cfg, trust_pickle=trust_pickle, processes=processes, say=say)
    build_pruner(cfg, index, look=False)
    if line := few_steps(cfg, cfg.SOLVER.MAX_ITER * cfg.ADAPRUNER.KEEP_RATIO):
        say(f"warning: {line}")
    return index


def few_steps(cfg: CfgNode, steps: float) -> str:
    """What :func:`.enough.too_few_steps` says of a training from random weights; else nothing."""
    return "" if cfg.MODEL.WEIGHTS else too_few_steps(round(steps))


def long_warmup(cfg: CfgNode) -> str:
    """What to say of a learning rate that still rises when the run ends; else nothing.

    Of a LazyConfig nothing is known, whose schedule is an object.
    """
    warmup, steps = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER
    if is_lazy(cfg) or warmup < steps:
        return ""
    return (
        f"the learning rate rises for SOLVER.WARMUP_ITERS {warmup} steps, and SOLVER.MAX_ITER "
        f"{steps} ends the run before it is SOLVER.BASE_LR; train longer, or set WARMUP_ITERS to "
        f"{steps // 10}"
    )


def check_training_inputs(
    cfg: CfgNode,
    *,
    trust_pickle: bool = False,
    processes: int = 1,
    say: Callable[[str], Any] = logger.info,
) -> SampleIndex:
    """As :func:`check_pruning_inputs`, for training without a mask."""
    resolve_device(cfg)
    check_weights(cfg, trust_pickle)
    found = check_datasets(cfg)
    index = SampleIndex.from_sets(cfg, found)
    for name in cfg.DATASETS.TRAIN:
        warn_of_empty(cfg, name, found[name].dicts)
    for line in fit_to_data(cfg, index.dicts, processes):
        say(line)
    if line := long_warmup(cfg):
        say(f"warning: {line}")
    if not cfg.SOLVER.REFERENCE_WORLD_SIZE:  # by which Detectron2 makes another batch
        require_shared(cfg.SOLVER.IMS_PER_BATCH, processes)
    model = _trial_run(cfg)
    require_room_for_classes(model, index.dicts, index.samples.class_names)
    if not is_lazy(cfg):  # whose mapper may know of objects from elsewhere
        require_annotations(model, index.dicts)
    return index


def check_datasets(cfg: CfgNode, train: bool = True) -> dict[str, CheckedSet]:
    """The data sets of ``cfg`` by name, each of which can be read and evaluated in full.

    Args:
        cfg: the configuration.
        train: whether the training sets are needed too.

    Raises:
        DataError: one that cannot, or sets whose classes differ.
    """
    part = "TRAIN" if train else "TEST"
    if not cfg.DATASETS[part]:
        raise DataError(
            f"DATASETS.{part} names no data set; give a --config-file that does, or "
            f"DATASETS.{part} \"('name',)\""
        )
    names = [*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST]
    if len(set(cfg.DATASETS[part])) != len(cfg.DATASETS[part]):
        raise DataError(f"DATASETS.{part} names a data set twice: {', '.join(cfg.DATASETS[part])}")
    require_datasets(names)
    sets = {name: checked_set(name, cfg.ADAPRUNER.ON_BAD_SAMPLE) for name in names}
    if empty := [name for name, found in sets.items() if not found.dicts]:
        raise DataError(
            f"the data set {empty[0]!r} has no image that can be used; leave it out of "
            f"DATASETS.{'TEST' if empty[0] in cfg.DATASETS.TEST else 'TRAIN'}"
        )
    for name in cfg.DATASETS.TEST:
        if require_evaluator(name) != "coco" and not gives_instances(cfg):
            raise DataError(
                f"{cfg.MODEL.META_ARCHITECTURE} gives no instances, of which the AP on {name} is; "
                "leave it out of DATASETS.TEST, or give a test set of the evaluator type 'coco'"
            )
        require_upright(name, sets[name].dicts)
        warn_where_nothing_counts(name, sets[name].dicts)
    for name, found in sets.items():
        require_masks(cfg, name, found.dicts)
        require_keypoints(cfg, name, found.dicts)
    require_same_classes(names)
    return sets


def gives_instances(cfg: CfgNode) -> bool:
    """Whether what the detector of ``cfg`` finds are objects with a class, not proposals or pixels
    alone. Of a LazyConfig, which names no architecture, it is taken to be so."""
    return is_lazy(cfg) or cfg.MODEL.META_ARCHITECTURE not in _WITHOUT_INSTANCES


def _trial_run(cfg: CfgNode) -> nn.Module:
    """The detector that ``cfg`` describes, on the CPU, made only to see that a run can begin.

    Raises:
        DataError: what the parts of a trainer say of settings that do not fit.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    with torch.random.fork_rng():
        model = _made("the model", "MODEL", lambda: EvaluatingTrainer.build_model(cfg))
        optimizer = _made(
            "the optimizer", "SOLVER", lambda: EvaluatingTrainer.build_optimizer(cfg, model)
        )
        _made(
            "the schedule",
            "SOLVER.LR_SCHEDULER_NAME, STEPS, WARMUP_METHOD",
            lambda: EvaluatingTrainer.build_lr_scheduler(cfg, optimizer),
        )
        _made("the mapper", "INPUT", lambda: training_mapper(cfg))
    return model


def _made(what: str, keys: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; a DataError with the keys that describe it for whatever it raises."""
    try:
        return make()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{what} that the configuration describes ({keys}) cannot be made: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error


def run(
    args: argparse.Namespace,
    cfg: CfgNode,
    main: Callable[..., Any],
    *rest: Any,
    identity: dict[str, Any] | None = None,
) -> None:
    """Start ``main(cfg, args, *rest)`` in all processes of the run, which owns its folder.

    Args:
        args: those of Detectron2's ``default_argument_parser``.
        cfg: the configuration, checked.
        main: what each process does. What it returns is lost.
        rest: further arguments of ``main``.
        identity: of the run, see :func:`run_state.run_identity`; None writes no checkpoints.

    Raises:
        DataError: processes that cannot be started, a folder that cannot be written to or is
            another run's, or, with --resume, a checkpoint of another run.
    """
    require_startable(args)
    resolve_device(cfg)
    # The first process holds the folder for all.
    held = run_folder(cfg, identity, args.resume) if is_first(args) else nullcontext()
    with held:
        start_processes(args, _start, cfg, args, main, rest)


@contextmanager
def run_folder(
    cfg: CfgNode, identity: dict[str, Any] | None = None, resume: bool = False
) -> Iterator[None]:
    """Hold ``cfg.OUTPUT_DIR``; the files of an earlier run there are set aside, or resumed from.

    Raises:
        DataError: as :func:`run`.
    """
    folder = cfg.OUTPUT_DIR
    newest = newest_whole(folder) if resume and identity else None
    if newest and identity and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        require_same_run(newest, identity)
    if identity and not newest:
        _refuse_own_files(cfg)
    require_writable(folder)
    with locked(folder):
        sweep(folder)
        if identity and not newest:
            set_aside(folder, RUN_FILES, along=[CONFIG_FILE])
        yield


def _refuse_own_files(cfg: CfgNode) -> None:
    """A new run sets its folder's checkpoints aside, so it cannot start from one of them."""
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and lies_in(weights, cfg.OUTPUT_DIR):
        raise DataError(
            f"MODEL.WEIGHTS {weights} lies in OUTPUT_DIR {cfg.OUTPUT_DIR}, whose checkpoints a new "
            "run sets aside: set another OUTPUT_DIR"
        )


def require_elsewhere(selection: str, cfg: CfgNode) -> None:
    """Raise a DataError where a selection lies in the folder of the run that takes it."""
    if lies_in(selection, cfg.OUTPUT_DIR):
        other = with_output([], beside(cfg.OUTPUT_DIR), is_lazy(cfg))
        raise DataError(
            f"{selection} lies in OUTPUT_DIR {cfg.OUTPUT_DIR}, the folder of the run that made it: "
            f"set another one, such as {' '.join(other)}"
        )


def _start(
    cfg: CfgNode, args: argparse.Namespace, main: Callable[..., Any], rest: tuple[Any, ...]
) -> None:
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="adapruner_det")
    register_from_file(cfg)  # a spawned process has a catalogue of its own
    register_from_config(cfg)
    if comm.get_world_size() > 1:
        named = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
        for name in sorted(named & {*DatasetCatalog.list()}):
            checked_set(name, cfg.ADAPRUNER.ON_BAD_SAMPLE)  # which may leave samples out of it
    resolve_device(cfg)
    cfg.freeze()
    # It warns, as Detectron2 lists versions, of what resolve_device has said.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    default_setup(cfg, args)
    main(cfg, args, *rest)
