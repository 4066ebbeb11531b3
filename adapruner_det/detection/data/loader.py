"""The training loader of a pruning run: what it reads depends on the seed and the step alone.

Shape letters: N samples, B samples of a batch, R ranks.

Detectron2's loader cannot be resumed in mid-run, and its order and its augmentations depend on
the number of workers. Here the sample at stream position p is entry p mod N of the permutation of
epoch p div N, and its augmentation is drawn from a state seeded by p. A resumed run reads on where
the killed one stopped.
"""

from __future__ import annotations

import copy
import gc
import os
import random
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data as torchdata
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.utils import comm

from ...errors import DataError, one_line
from ...stopping import heed_the_main_process
from .samples import SampleIndex

Mapper = Callable[[dict[str, Any]], dict[str, Any]]

#: Parts of the names of augmentations that put several images into one.
MIXING = ("mosaic", "mixup", "cutmix", "copypaste", "mix_up", "cut_mix", "copy_paste")


class PruningLoader:
    """An endless iterable of batches, each a list of mapped dicts.

    To each are added ``sample_index``, and ``has_crowd``, whether it has an annotated crowd.

    Args:
        index: the samples.
        mapper: maps a Detectron2 dict to what the model takes.
        batch_size: B over all ranks.
        seed: of order and augmentation.
        group_by_aspect: batches are all landscape or all portrait, as in Detectron2, but for those
            that :func:`grouped` tells of.
        num_workers: processes that load; it does not change what is loaded.
        start: the step to begin with.
    """

    def __init__(
        self,
        index: SampleIndex,
        mapper: Mapper,
        *,
        batch_size: int,
        seed: int,
        group_by_aspect: bool = True,
        num_workers: int = 0,
        start: int = 0,
    ) -> None:
        require_shared(batch_size, comm.get_world_size())
        refuse_mixing(mapper)
        self.index, self.mapper, self.seed = index, mapper, seed
        self.batch_size, self.num_workers, self.start = batch_size, num_workers, start
        self.group_by_aspect = group_by_aspect

    def at(self, start: int, seed: int) -> PruningLoader:
        """The same loader, beginning with step ``start``."""
        other = copy.copy(self)
        other.start, other.seed = start, seed
        return other

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        loader = torchdata.DataLoader(
            _Positions(self.index, self.mapper, self.seed),
            batch_sampler=_RankBatches(self),
            num_workers=self.num_workers,
            collate_fn=list,
            worker_init_fn=heed_the_main_process,
            # Its own generator: making an iterator must not draw from the model's random state.
            generator=torch.Generator().manual_seed(self.seed),
        )
        if self.num_workers:
            gc.freeze()  # a worker's collector would write to all objects, and so copy them
        batches = iter(loader)
        gc.unfreeze()  # the workers are there; frozen here, no trainer would ever be freed
        return _unfailed(batches)

    def batches(self) -> Iterator[list[int]]:
        """Stream positions of each step's batch over all ranks, from the first step on.

        Of images of one shape, or too few for a batch, it is the stream cut up: where two epochs
        meet, such a batch may have an image twice.
        """
        num_samples, size = len(self.index), self.batch_size
        wide: list[bool] = []
        if self.group_by_aspect:
            wide = [d["width"] > d["height"] for d in self.index.dicts]
        if len(set(wide)) == 2 and num_samples >= size:
            stream = (sample_at(position, num_samples, self.seed) for position in count())
            return grouped(stream, wide, size)
        return (list(range(first, first + size)) for first in count(0, size))


def grouped(stream: Iterable[int], wide: Sequence[bool], size: int) -> Iterator[list[int]]:
    """Cut a stream into batches of one shape; of both where an image would wait for too long.

    An image waits until B of its shape are there. Where it comes again while it still waits, all
    that wait are put together, and with what comes next make up a batch; then the shapes are apart
    again. Otherwise images of a rare shape would not be seen for epochs, and cut for that. No batch
    has an image twice: one that comes again meanwhile has its turn behind the batch.

    Args:
        stream: the samples in the order in which they are read: epochs, each of all N.
        wide: of each of the N samples whether it is landscape.
        size: B, at most N.

    Yields:
        B positions in ``stream``.
    """
    arrivals = enumerate(stream)
    ahead: deque[tuple[int, int]] = deque()  # (position, sample) whose turn is before the next's
    passed: list[tuple[int, int]] = []  # likewise: what came again since all are put together
    waiting: tuple[dict[int, int], dict[int, int]] = ({}, {})  # by shape: sample → position
    together: dict[int, int] = {}
    while arrival := ahead.popleft() if ahead else next(arrivals, None):
        position, sample = arrival
        bucket = together or waiting[wide[sample]]
        if sample in bucket:
            if not together:
                both = [*waiting[0].items(), *waiting[1].items()]
                together = bucket = dict(sorted(both, key=lambda pair: pair[1]))
                for own in waiting:
                    own.clear()
            passed.append(arrival)
        else:
            bucket[sample] = position
        if len(bucket) >= size:
            in_order = [(position, sample) for sample, position in bucket.items()]
            yield [position for position, _ in in_order[:size]]
            bucket.clear()
            ahead.extendleft(reversed([*in_order[size:], *passed]))
            passed.clear()


def _unfailed(batches: Iterator[list[Any]]) -> Iterator[list[dict[str, Any]]]:
    """The batches. A sample whose mapper failed raises here, in the main process."""
    for batch in batches:
        for sample in batch:
            if isinstance(sample, _Failure):
                raise DataError(sample.message)
        yield batch


class _Failure(NamedTuple):
    """What a worker hands over in place of a sample: an exception would lose its type there."""

    message: str


class _RankBatches(torchdata.Sampler[list[int]]):
    """This rank's part of each batch: every R-th position."""

    def __init__(self, loader: PruningLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = comm.get_rank(), comm.get_world_size()
        for batch in islice(self._loader.batches(), self._loader.start, None):
            yield batch[rank::world]


class _Positions(torchdata.Dataset[Any]):
    """Stream position → mapped sample."""

    def __init__(self, index: SampleIndex, mapper: Mapper, seed: int) -> None:
        self._index, self._mapper, self._seed = index, mapper, seed

    def __getitem__(self, position: int) -> dict[str, Any] | _Failure:
        sample = sample_at(position, len(self._index), self._seed)
        given = self._index.dicts[sample]
        # A mapper leaves crowds out, and may change what it is given.
        has_crowd = any(a.get("iscrowd") for a in given.get("annotations", ()))
        try:
            with seeded(self._seed, position):
                mapped = self._mapper(given)
        except Exception as error:
            return _Failure(describe(self._index.keys[sample], given["file_name"], error))
        if mapped is None:
            return _Failure(
                f"the mapper returned None for {self._index.keys[sample]}: a pruning run must "
                "see every sample; drop it from the data set instead"
            )
        mapped.update(sample_index=sample, has_crowd=has_crowd)
        return mapped


def describe(key: str, file: str, error: Exception) -> str:
    """One line for what a mapper raised and where, with the sample's key and file."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"the sample {key} ({file}) cannot be mapped: {type(error).__name__}: {one_line(error)} "
        f"({os.path.basename(place.filename)}, line {place.lineno})"
    )


class NamingMapper:
    """A mapper for Detectron2's loaders, which :class:`PruningLoader` has no need of.

    Its errors name the image, as a DataError in place of what was raised; and a worker leaves it to
    the main process when to end, for which Detectron2's loaders take no ``worker_init_fn``.

    Args:
        mapper: of Detectron2 or of the user's own.
    """

    def __init__(self, mapper: Mapper) -> None:
        self.func = mapper
        self._heeds = False

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        worker = torchdata.get_worker_info()
        if worker is not None and not self._heeds:
            self._heeds = True
            heed_the_main_process(worker.id)
        key, file = str(sample.get("image_id")), str(sample.get("file_name"))
        try:
            return self.func(sample)
        except Exception as error:
            raise DataError(describe(key, file, error)) from error


def single_images(
    dicts: Sequence[dict[str, Any]], mapper: Mapper, workers: int
) -> Iterable[list[dict[str, Any]]]:
    """Batches of one image each, in the order of ``dicts``; errors of ``mapper`` name the image."""
    loader: Iterable[list[dict[str, Any]]] = build_detection_test_loader(
        dicts, mapper=NamingMapper(mapper), num_workers=workers
    )
    return loader


@lru_cache(maxsize=4)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def sample_at(position: int, num_samples: int, seed: int) -> int:
    """The index of the sample at a stream position: each epoch is a permutation of all N."""
    epoch, offset = divmod(position, num_samples)
    return int(_permutation(num_samples, seed, epoch)[offset])


@contextmanager
def seeded(seed: int, position: int) -> Iterator[None]:
    """Draw from states seeded by (seed, position); the process's own states stay untouched."""
    # Augmentations draw from numpy's global state.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    value = int(np.random.SeedSequence((seed, position)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def require_shared(batch_size: int, processes: int) -> None:
    """Raise a DataError for a batch that so many processes cannot share evenly."""
    if batch_size % processes:
        raise DataError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}, which {processes} processes cannot share "
            "evenly: make it a multiple"
        )


def refuse_mixing(mapper: Mapper) -> None:
    """Raise a DataError where a mapper puts several images into one: a loss has one owner."""
    names = [getattr(part, "__name__", type(part).__name__) for part in _parts(mapper)]
    mixing = [n for n in names if any(word in n.lower() for word in MIXING)]
    if mixing:
        raise DataError(
            f"the augmentation {mixing[0]} mixes images, so a loss belongs to no single one; "
            "leave it out while pruning (train_pruned.py may use it)"
        )


def _parts(part: Any) -> Iterator[Any]:
    """A mapper or an augmentation, and those inside it, as Detectron2 and functools nest them."""
    if isinstance(part, (list, tuple)):
        for inner in part:
            yield from _parts(inner)
        return
    yield part
    for name in ("augmentations", "augs", "aug", "func"):
        if hasattr(part, name):
            yield from _parts(getattr(part, name))


def check_sampler(cfg: CfgNode) -> None:
    """Raise a DataError where ``cfg`` asks for a sampler that visits some samples more often."""
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise DataError(
            f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN!r}; a pruning run visits "
            "all samples alike: use 'TrainingSampler'"
        )


def build_pruning_train_loader(
    cfg: CfgNode, mapper: Mapper | None = None, index: SampleIndex | None = None
) -> PruningLoader:
    """The loader of a pruning run; in place of ``build_detection_train_loader``.

    Args:
        cfg: Detectron2's configuration; ``SEED`` below 0 draws a seed.
        mapper: as for Detectron2; by default its ``DatasetMapper(cfg, is_train=True)``.
        index: the samples; by default those of ``cfg.DATASETS.TRAIN``.

    Raises:
        DataError: data that is not there, a sampler other than TrainingSampler, or a mapper that
            mixes images.
    """
    check_sampler(cfg)
    if index is None:
        index = SampleIndex.from_config(cfg)
    return PruningLoader(
        index,
        mapper if mapper is not None else DatasetMapper(cfg, is_train=True),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
