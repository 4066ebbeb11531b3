import functools
import gc
import random
import weakref
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.detection.data.loader import (
    NamingMapper,
    PruningLoader,
    build_pruning_train_loader,
    check_sampler,
    grouped,
    refuse_mixing,
    sample_at,
    seeded,
)
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.errors import DataError
from tests.detection.toy import squares, toy_cfg


def plain_mapper(sample):
    return dict(sample)


def drawing_mapper(sample):
    """What an augmentation draws from each of the three generators."""
    draws = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002
    return {**sample, "draws": draws}


@pytest.fixture
def index(tmp_path):
    return SampleIndex.from_dicts({"toy": squares(tmp_path, 10)})


def make(index, mapper=plain_mapper, batch_size=4, seed=3, **options):
    return PruningLoader(index, mapper, batch_size=batch_size, seed=seed, **options)


def read(loader, steps):
    return list(islice(iter(loader), steps))


def ids(batches):
    return [[x["sample_index"] for x in batch] for batch in batches]


def flat(batches):
    return [i for batch in batches for i in batch]


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


# Order


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (7, 0), (7, 1), (100, 5)])
def test_each_epoch_of_the_stream_is_a_permutation(count, seed):
    epochs = [[sample_at(e * count + i, count, seed) for i in range(count)] for e in range(4)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count < 3 or len({tuple(epoch) for epoch in epochs}) == 4


def test_another_seed_reads_in_another_order():
    assert [sample_at(i, 50, 0) for i in range(50)] != [sample_at(i, 50, 1) for i in range(50)]


def test_without_grouping_the_batches_are_the_stream_cut_up(index):
    read_ids = flat(ids(read(make(index, group_by_aspect=False), 10)))
    assert read_ids == [sample_at(i, 10, 3) for i in range(40)]


def test_with_grouping_most_batches_are_landscape_or_portrait_and_no_image_is_lost(tmp_path):
    index = SampleIndex.from_dicts({"toy": squares(tmp_path, 40)})
    batches = read(make(index), 100)
    shapes = [{x["width"] > x["height"] for x in batch} for batch in batches]
    assert sum(len(shape) == 1 for shape in shapes) > 90
    assert {True, False} == set().union(*shapes)
    counts = np.bincount(flat(ids(batches)), minlength=40)
    assert counts.sum() == 400
    assert counts.max() - counts.min() <= 2


@st.composite
def mixes(draw):
    """(the shape of each sample, B) with N >= B and both shapes."""
    size = draw(st.integers(1, 12))
    num_wide, num_tall = (draw(st.integers(1, 5 * size)) for _ in range(2))
    wide = [True] * num_wide + [False] * max(num_tall, size - num_wide)
    return wide, size


def epochs_of(count, seed, num_epochs):
    return [sample_at(position, count, seed) for position in range(num_epochs * count)]


@given(mixes(), st.integers(0, 10**6))
def test_with_grouping_images_of_a_rare_shape_are_seen_as_often_as_others(mix, seed):
    wide, size = mix
    stream = epochs_of(len(wide), seed, 8)
    counts, read_so_far = np.zeros(len(wide), dtype=int), []
    for batch in grouped(iter(stream), wide, size):
        own = [stream[position] for position in batch]
        assert len(set(own)) == len(batch) == size  # no image twice
        read_so_far += batch
        counts[own] += 1
        assert counts.max() - counts.min() <= 2
        assert counts.min() > 0 or len(read_so_far) < 2 * len(wide) + size
    assert len(set(read_so_far)) == len(read_so_far)
    assert len(stream) - len(read_so_far) < len(wide) + size  # nor is one put off for long


def apart(stream, wide, size):
    """Shapes apart in any case; and the position of the first image to come while it waits."""
    waiting, batches, first = ([], []), [], len(stream)
    for position, sample in enumerate(stream):
        bucket = waiting[wide[sample]]
        if sample in (stream[other] for other in bucket):
            first = min(first, position)
        bucket.append(position)
        if len(bucket) == size:
            batches.append(bucket.copy())
            bucket.clear()
    return batches, first


@given(mixes(), st.integers(0, 10**6))
def test_shapes_are_apart_until_an_image_comes_that_still_waits(mix, seed):
    wide, size = mix
    stream = epochs_of(len(wide), seed, 4)
    expected, first = apart(stream, wide, size)
    before = [batch for batch in expected if batch[-1] < first]
    assert list(islice(grouped(iter(stream), wide, size), len(before))) == before


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_and_always_where_both_come_out_even(size, num_wide, num_tall, seed):
    wide = [True] * num_wide * size + [False] * num_tall * size
    stream = epochs_of(len(wide), seed, 4)
    assert list(grouped(iter(stream), wide, size)) == apart(stream, wide, size)[0]


@pytest.mark.parametrize("count", [10, 3])
def test_images_of_one_shape_are_the_stream_cut_up_and_so_are_too_few_for_a_batch(tmp_path, count):
    dicts = squares(tmp_path, count)
    if count > 4:
        dicts = [{**own, "width": 64, "height": 48} for own in dicts]
    read_ids = flat(ids(read(make(SampleIndex.from_dicts({"toy": dicts})), 10)))
    assert read_ids == [sample_at(i, count, 3) for i in range(40)]


@pytest.mark.parametrize("start", [1, 7, 20])
def test_with_a_rare_shape_a_loader_that_starts_later_reads_on_identically(tmp_path, start):
    dicts = squares(tmp_path, 30)
    dicts = [{**own, "width": 64 if i else 48, "height": 56} for i, own in enumerate(dicts)]
    loader = make(SampleIndex.from_dicts({"toy": dicts}))
    whole = ids(read(loader, 25))
    assert flat(whole[:15]).count(0) >= 1
    assert ids(read(loader.at(start, 3), 25 - start)) == whole[start:]


def test_batches_hold_what_the_mapper_made_and_the_index_of_the_sample(index):
    for sample in read(make(index), 3)[2]:
        key = index.keys[sample["sample_index"]]
        assert key == f"toy/{sample['image_id']}"


def test_the_index_is_attached_even_when_the_mapper_makes_a_new_dict(index):
    batches = read(make(index, lambda sample: {"image_id": sample["image_id"]}), 2)
    for sample in flat(batches):
        assert index.keys[sample["sample_index"]] == f"toy/{sample['image_id']}"


@pytest.mark.parametrize("kind", ["Detectron2's", "one that takes annotations away"])
def test_images_with_crowds_are_marked_whatever_the_mapper_leaves_of_them(tmp_path, kind):
    dicts = squares(tmp_path, 8)
    for own in dicts[:3]:
        own["annotations"].append({**own["annotations"][0], "iscrowd": 1})
    del dicts[7]["annotations"]

    def emptying(sample):
        sample.pop("annotations", []).clear()
        return sample

    mapper = mapper_with() if kind == "Detectron2's" else emptying
    index = SampleIndex.from_dicts({"toy": dicts})
    for sample in flat(read(make(index, mapper), 4)):
        assert sample["has_crowd"] == (sample["image_id"] in ("im0", "im1", "im2"))


def test_a_mapper_may_change_its_dict_without_changing_the_samples(index):
    def spoil(sample):
        sample.pop("annotations").clear()
        return sample

    read(make(index, spoil), 6)
    assert all(len(sample["annotations"]) == 1 for sample in index.dicts)


def test_a_mapper_that_returns_none_is_refused_by_key(index):
    with pytest.raises(DataError, match=r"None for toy/im\d"):
        read(make(index, lambda sample: None), 1)


def test_without_grouping_the_dicts_need_no_size(index):
    for sample in index.dicts:
        del sample["width"]
    assert len(read(make(index, group_by_aspect=False), 3)) == 3


# What is read depends on seed and step alone


def test_the_number_of_workers_changes_neither_order_nor_augmentation(toy):
    def batches(workers):
        cfg = toy_cfg("faster_rcnn_fpn", "unused", "DATALOADER.NUM_WORKERS", workers)
        return read(build_pruning_train_loader(cfg), 6)

    alone, shared = batches(0), batches(2)
    assert ids(alone) == ids(shared)
    for a, b in zip(flat(alone), flat(shared), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
    assert {a["image"].shape[1:].numel() for a in flat(alone)} > {64 * 85}  # sizes are drawn


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_starts_later_reads_on_identically(index, workers):
    whole = read(make(index, drawing_mapper), 9)
    for start in (0, 1, 5):
        rest = make(index, drawing_mapper, num_workers=workers).at(start, 3)
        assert read(rest, 9 - start) == whole[start:]


def test_at_takes_the_seed_of_the_run_that_it_continues(index):
    assert ids(read(make(index, seed=8).at(2, 3), 3)) == ids(read(make(index, seed=3), 5))[2:]


def test_each_visit_is_augmented_anew(index):
    draws = [x["draws"] for x in flat(read(make(index, drawing_mapper), 20))]
    assert len(set(draws)) == len(draws) == 80
    assert len({d[0] for d in draws}) == len({d[1] for d in draws}) == len({d[2] for d in draws})


def test_another_seed_augments_otherwise(index):
    first, other = (read(make(index, drawing_mapper, seed=s), 3) for s in (0, 1))
    assert not {x["draws"] for x in flat(first)} & {x["draws"] for x in flat(other)}


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_random_states_of_the_process_alone(index, workers):
    before = states()
    read(make(index, drawing_mapper, num_workers=workers), 5)
    assert states() == before


def test_what_reads_with_workers_can_be_freed(index):
    class Trainer:
        """In a cycle, as a trainer and its hooks are."""

    trainer = Trainer()
    trainer.own, seen = trainer, weakref.ref(trainer)
    read(make(index, num_workers=1), 1)
    del trainer
    gc.collect()
    assert seen() is None


def test_an_error_while_mapping_leaves_them_alone_too():
    before = states()
    with pytest.raises(KeyError), seeded(0, 0):
        random.random()
        torch.rand(3)
        raise KeyError
    assert states() == before


# Several processes


@pytest.mark.parametrize("grouped", [True, False])
def test_ranks_share_each_batch_without_overlap(index, monkeypatch, grouped):
    whole = ids(read(make(index, group_by_aspect=grouped), 12))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(ids(read(make(index, group_by_aspect=grouped), 12)))
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first) == len(second) == 2
        assert sorted(first + second) == sorted(batch)


def test_a_batch_that_processes_cannot_share_evenly_is_refused(index, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    with pytest.raises(DataError, match="IMS_PER_BATCH is 4, which 3 processes"):
        make(index)


# What is refused


class Mosaic(T.Augmentation):
    def get_transform(self, image):
        return T.NoOpTransform()


class MyMixUpMapper:
    def __call__(self, sample):
        return sample


def cutmix_mapper(sample):
    return sample


def mapper_with(*augmentations):
    return DatasetMapper(is_train=True, augmentations=list(augmentations), image_format="BGR")


@pytest.mark.parametrize(
    ("mapper", "name"),
    [
        (mapper_with(T.RandomFlip(), Mosaic()), "Mosaic"),
        (mapper_with(T.RandomApply(Mosaic())), "Mosaic"),
        (mapper_with(T.AugmentationList([T.RandomFlip(), Mosaic()])), "Mosaic"),
        (MyMixUpMapper(), "MyMixUpMapper"),
        (cutmix_mapper, "cutmix_mapper"),
        (functools.partial(cutmix_mapper), "cutmix_mapper"),
    ],
)
def test_an_augmentation_that_mixes_images_is_refused_by_name(index, mapper, name):
    with pytest.raises(DataError, match=f"augmentation {name} mixes images.*leave it out"):
        refuse_mixing(mapper)
    with pytest.raises(DataError, match=name):
        make(index, mapper)


def test_detectron2s_own_augmentations_are_welcome():
    refuse_mixing(
        mapper_with(
            T.ResizeShortestEdge(64),
            T.RandomApply(T.RandomFlip()),
            T.RandomCrop("relative_range", (0.9, 0.9)),
            T.RandomContrast(0.5, 2),
        )
    )
    refuse_mixing(plain_mapper)


def test_a_sampler_that_repeats_images_is_refused(toy):
    cfg = toy_cfg("yolo_darknet", "x", "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")
    with pytest.raises(DataError, match="'RepeatFactorTrainingSampler'.*TrainingSampler"):
        check_sampler(cfg)
    with pytest.raises(DataError, match="RepeatFactorTrainingSampler"):
        build_pruning_train_loader(cfg)


# From a configuration


def test_a_loader_from_a_configuration_maps_as_detectron2_does(toy):
    cfg = toy_cfg("faster_rcnn_fpn", "unused")
    loader = build_pruning_train_loader(cfg)
    assert (loader.batch_size, loader.seed, loader.num_workers) == (4, 1, 0)
    assert isinstance(loader.mapper, DatasetMapper)
    sample = read(loader, 1)[0][0]
    assert {"image", "instances", "sample_index", "height", "width"} <= sample.keys()


def test_a_mapper_of_ones_own_is_used(toy):
    loader = build_pruning_train_loader(toy_cfg("yolo_darknet", "unused"), mapper=drawing_mapper)
    assert "draws" in read(loader, 1)[0][0]


def test_a_run_without_a_seed_draws_one(toy):
    cfg = toy_cfg("yolo_darknet", "unused", "SEED", -1)
    assert build_pruning_train_loader(cfg).seed >= 0


def test_a_data_set_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="no data set named 'toy'"):
        build_pruning_train_loader(toy_cfg("yolo_darknet", "unused"))


# Errors of a mapper


def failing_mapper(sample):
    if sample["image_id"] == "im4":
        raise KeyError("gamma\nbeta")
    return dict(sample)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_mapper_raises_comes_as_one_line_with_key_and_file(index, workers):
    with pytest.raises(DataError) as caught:
        read(make(index, failing_mapper, num_workers=workers), 10)
    file = index.dicts[index.keys.index("toy/im4")]["file_name"]
    line = str(caught.value)
    assert line.startswith(f"the sample toy/im4 ({file}) cannot be mapped: KeyError: ")
    assert "gamma" in line and "\n" not in line and "Traceback" not in line


def none_mapper(sample):
    return None if sample["image_id"] == "im4" else dict(sample)


def test_a_mapper_that_returns_none_in_a_worker_is_named_too(index):
    with pytest.raises(DataError, match="the mapper returned None for toy/im4"):
        read(make(index, none_mapper, num_workers=1), 10)


def test_the_mapper_of_other_loaders_names_the_image(index):
    mapper = NamingMapper(failing_mapper)
    sound, bad = (dict(index.dicts[index.keys.index(key)]) for key in ("toy/im3", "toy/im4"))
    assert mapper(sound)["image_id"] == "im3"
    with pytest.raises(DataError, match=r"^the sample im4 \(.*im4\.png\) cannot be mapped: KeyEr"):
        mapper(bad)
    with pytest.raises(DataError, match="Mosaic"):  # and does not hide what is inside it
        refuse_mixing(NamingMapper(mapper_with(Mosaic())))


def test_a_mapper_may_empty_its_dict_and_is_named_all_the_same():
    def emptying(sample):
        sample.clear()
        raise ValueError("lost")

    with pytest.raises(DataError, match=r"the sample im7 \(im7.png\) cannot be mapped"):
        NamingMapper(emptying)({"image_id": "im7", "file_name": "im7.png"})
