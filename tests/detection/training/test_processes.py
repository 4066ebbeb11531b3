"""Two processes on a CPU, started by torchrun and by Detectron2's launch."""

import argparse
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from adapruner_det import Selection
from adapruner_det.detection import compat
from adapruner_det.detection.training import processes
from adapruner_det.detection.training.processes import (
    is_first,
    require_startable,
    say_once,
    start_processes,
    warn_once,
)
from adapruner_det.errors import DataError
from tests.detection.toy import options_of, write_voc_folder

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

# Detectron2's batch norms and drawn sizes are those of one process. Without them, as here, two
# processes with half of a batch each do what one does with all of it.
SAME_IN_EVERY_PROCESS = [
    "MODEL.YOLO.NORM", "",
    "MODEL.DARKNET.NORM", "",
    "MODEL.YOLO.MULTISCALE", [],
    "SOLVER.BASE_LR", 1e-5,
]  # fmt: skip


def prune(folder, name, *start, gpus="1"):
    """Run tools/prune_net.py on ten images for 15 steps of 4. Returns its output folder."""
    opts = [
        *options_of("yolo_darknet", folder / name),
        *SAME_IN_EVERY_PROCESS,
        "ADAPRUNER.VOC_FOLDERS", [f"own_train={folder}/own:train"],
        "DATASETS.TRAIN", ("own_train",),
    ]  # fmt: skip
    done = subprocess.run(
        [*start, "tools/prune_net.py", "--num-gpus", gpus, *map(str, opts)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count(" steps on the kept part are few") == 1, done.stdout
    return folder / name


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    write_voc_folder(folder / "own", train=10)
    return prune(folder, "one", sys.executable)


def assert_same_run(mine, expected):
    one, two = (Selection.load(folder / "selection.json") for folder in (expected, mine))
    assert two.kept_keys == one.kept_keys
    assert two.num_kept == 7
    assert two.columns["times_seen"].tolist() == one.columns["times_seen"].tolist()
    for name in ("logit", "last_loss", "mean_loss"):
        np.testing.assert_allclose(two.columns[name], one.columns[name], rtol=1e-3, atol=1e-4)
    weights = [torch.load(f / "model_final.pth")["model"] for f in (expected, mine)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rank", "said"), [("0", "a line\n"), ("1", "")])
def test_of_torchruns_processes_the_first_alone_speaks(monkeypatch, capsys, rank, said):
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("RANK", rank)
    say_once(arguments(1), "a line")
    say_once(arguments(1), "a line", sys.stderr)
    assert capsys.readouterr() == (said, said)


@pytest.mark.parametrize(("rank", "warned"), [("0", True), ("1", False)])
def test_of_torchruns_processes_the_first_alone_warns(monkeypatch, caplog, request, rank, warned):
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("RANK", rank)
    package = logging.getLogger("adapruner_det")
    request.addfinalizer(partial(package.setLevel, package.level))
    warn_once(arguments(1))
    logger = logging.getLogger("adapruner_det.detection.data.checks")
    logger.warning("of the data")
    assert ("of the data" in caplog.text) is warned
    logger.error("of the run")
    assert "of the run" in caplog.text


@pytest.mark.slow
def test_two_processes_of_torchrun_make_the_selection_that_one_makes(one_process):
    assert_same_run(prune(one_process.parent, "torchrun", *TORCHRUN), one_process)


@pytest.mark.slow
@pytest.mark.skipif(not compat.LAUNCHES_ON_CPU, reason="launch of this Detectron2 needs GPUs")
def test_two_processes_of_launch_make_the_selection_that_one_makes(one_process):
    assert_same_run(prune(one_process.parent, "launch", sys.executable, gpus="2"), one_process)


def arguments(num_gpus, num_machines=1, machine_rank=0):
    return argparse.Namespace(
        num_gpus=num_gpus,
        num_machines=num_machines,
        machine_rank=machine_rank,
        dist_url="auto",
        config_file="",
    )


def test_one_process_calls_the_target():
    calls = []
    start_processes(arguments(1), lambda *rest: calls.append(rest), 1, 2)
    assert calls == [(1, 2)]


def test_several_processes_that_launch_cannot_start_are_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(compat, "LAUNCHES_ON_CPU", False)
    with pytest.raises(DataError, match="starts 2 processes on GPUs only.*torchrun --nproc"):
        require_startable(arguments(2))
    with pytest.raises(DataError, match="2 processes .*--nnodes 2 --nproc_per_node 1 tools"):
        require_startable(arguments(1, num_machines=2))
    for fine in (arguments(0), arguments(1)):
        require_startable(fine)
    monkeypatch.setattr(compat, "LAUNCHES_ON_CPU", True)
    require_startable(arguments(2))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (arguments(-1), "describe no run"),
        (arguments(1, num_machines=0), "describe no run"),
        (arguments(1, machine_rank=1), "--machine-rank 1 describe no run"),
        (arguments(0, num_machines=2), "no process on any of 2 machines"),
        (arguments(3), "--num-gpus is 3, and this machine has 2"),
    ],
)
def test_numbers_that_describe_no_run_are_refused(monkeypatch, given, match):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DataError, match=match):
        require_startable(given)
    require_startable(arguments(2, num_machines=2, machine_rank=1))
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)  # which has its own
    require_startable(given)


def test_launch_starts_as_many_processes_as_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(processes, "launch", lambda *a, **k: calls.append((a, k)))
    args = argparse.Namespace(num_gpus=4, num_machines=2, machine_rank=1, dist_url="tcp://there")
    start_processes(args, print, "x", 2)
    options = {"num_machines": 2, "machine_rank": 1, "dist_url": "tcp://there", "args": ("x", 2)}
    assert calls == [((print, 4), options)]


def test_the_first_is_that_of_the_first_machine_or_of_torchrun(monkeypatch):
    args = argparse.Namespace(machine_rank=0)
    assert is_first(args) and not is_first(argparse.Namespace(machine_rank=1))
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    for rank, first in (("0", True), ("1", False), ("10", False)):
        monkeypatch.setenv("RANK", rank)
        assert is_first(args) == first


@pytest.fixture
def torchrun(monkeypatch, tmp_path):
    """One process as torchrun starts it; the sizes of the groups of a machine that were made."""
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    init = dist.init_process_group
    store = f"file://{tmp_path}/store"

    def alone(backend):
        init(backend, init_method=store, rank=0, world_size=1)

    monkeypatch.setattr(dist, "init_process_group", alone)
    sizes = []
    monkeypatch.setattr(compat, "create_local_process_group", sizes.append)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(processes, "launch", lambda *_, **__: pytest.fail("it is started already"))
    return sizes


def test_under_torchrun_the_target_is_called_once_within_a_group(torchrun):
    calls = []
    start_processes(
        arguments(8), lambda *rest: calls.append((rest, dist.get_backend(), dist.get_rank())), 1, 2
    )
    assert calls == [((1, 2), "gloo", 0)]
    assert torchrun == [3]
    assert not dist.is_initialized()


def test_the_group_is_left_when_the_target_fails(torchrun):
    with pytest.raises(KeyError):
        start_processes(arguments(1), {}.__getitem__, "gone")
    assert not dist.is_initialized()
