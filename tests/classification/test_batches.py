import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.classification.batches import Batches, split_order, steps_per_epoch
from adapruner_det.classification.folder import load_folder
from adapruner_det.errors import DataError
from tests.classification.tiny import tiny_set, write_folder


@given(n=st.integers(2, 200), batch_size=st.integers(2, 50))
def test_every_sample_is_in_one_batch_and_none_is_alone(n, batch_size):
    order = torch.randperm(n)
    batches = split_order(order, batch_size)
    assert torch.equal(torch.cat(batches), order)
    assert steps_per_epoch(n, batch_size) == len(batches)
    assert all(2 <= len(ids) <= batch_size + 1 for ids in batches)
    assert all(len(ids) == batch_size for ids in batches[:-1])


def test_memory_and_files_give_the_same_batches(tmp_path):
    write_folder(tmp_path)
    in_memory, _ = load_folder(tmp_path, 10)
    in_files, _ = load_folder(tmp_path, 10, memory_mb=0)
    order = split_order(torch.randperm(len(in_memory)), 4)
    readers = [
        Batches(in_memory, torch.device("cpu")),
        Batches(in_files, torch.device("cpu")),
        Batches(in_files, torch.device("cpu"), workers=2),
    ]
    for want, *others in zip(*(reader.read(order) for reader in readers), strict=True):
        for ids, images in others:
            assert torch.equal(ids, want[0]) and torch.equal(images, want[1])


def test_reading_files_leaves_the_random_state_alone(tmp_path):
    write_folder(tmp_path)
    in_files, _ = load_folder(tmp_path, 10, memory_mb=0)
    before = torch.get_rng_state()
    list(Batches(in_files, torch.device("cpu")).read([torch.arange(4)]))
    assert torch.equal(before, torch.get_rng_state())


def test_ctrl_c_in_a_terminal_does_not_reach_the_workers_which_end_with_the_reader(tmp_path):
    write_folder(tmp_path)
    in_files, _ = load_folder(tmp_path, 10, memory_mb=0)
    others = {child.pid for child in multiprocessing.active_children()}  # of other tests
    reader = Batches(in_files, torch.device("cpu"), workers=1).read([torch.arange(4)] * 9)
    next(reader)  # the worker has begun to read
    (worker,) = (c for c in multiprocessing.active_children() if c.pid not in others)
    assert os.getpgid(worker.pid) == worker.pid
    reader.close()
    assert not worker.is_alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named(tmp_path, workers):
    write_folder(tmp_path)
    images, _ = load_folder(tmp_path, 10, memory_mb=0)
    Path(images.images.paths[3]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dark/009\.png is not an image"):
        list(Batches(images, torch.device("cpu"), workers).read([torch.arange(6)]))


def test_a_few_are_spread_over_the_set():
    images = tiny_set(36)
    (found,) = Batches(images, torch.device("cpu")).spread(6)
    assert torch.equal(found, images.images[[0, 7, 14, 21, 28, 35]])
    (found,) = Batches(images, torch.device("cpu")).spread(99)
    assert torch.equal(found, images.images)


def test_many_are_spread_over_the_set_some_at_a_time():
    """A set of large images would fill the memory of the device."""
    images = tiny_set(600)
    found = list(Batches(images, torch.device("cpu")).spread(50_000))
    assert max(map(len, found)) <= 256 and torch.equal(torch.cat(found), images.images)
