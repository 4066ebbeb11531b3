import logging
import math
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det import Selection
from adapruner_det.detection import compare as module
from adapruner_det.detection.compare import Run, compare, log_to_file, table, verdict
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import load_config
from adapruner_det.methods.random import random_selection
from tests.detection.toy import options_of, toy_cfg, write_voc_folder


def run(part, seed, ap50, images=8, seconds=2.0):
    return Run(part, seed, images, ap50, seconds)


RUNS = [
    run("prune", 0, 1.0, 10),
    run("all", 0, 60.0, 10, 10.0),
    run("random", 0, 50.0),
    run("selected", 0, 54.0),
    run("prune", 1, 2.0, 10),
    run("all", 1, 64.0, 10, 20.0),
    run("random", 1, 52.0),
    run("selected", 1, 51.0),
]


def test_the_table_has_mean_spread_and_every_seeds_own_value():
    lines = [line.split() for line in table(RUNS).splitlines()]
    # sd of 60 and 64 over n−1: sqrt(8).
    assert ["all", "10", "62.00", "±", "2.83", "60.00", "64.00", "15"] in lines
    assert ["random", "8", "51.00", "±", "1.41", "50.00", "52.00", "2"] in lines
    assert ["selected", "8", "52.50", "±", "2.12", "54.00", "51.00", "2"] in lines
    assert not any("prune" in line for line in lines)


def test_one_seed_has_no_spread():
    assert "60.00 ± 0.00" in table(RUNS[:4])


def test_the_verdict_says_by_how_much_and_in_how_many_seeds():
    won = [*RUNS[:7], run("selected", 1, 53.0)]
    assert verdict(won) == "Selection beats random here: +2.50 AP50, ahead in 2 of 2 seeds."


def test_a_lead_that_not_every_seed_shares_is_none():
    assert verdict(RUNS).startswith("Selection cannot be told from random here: +1.50 AP50, ahead")


@pytest.mark.parametrize("ap50", [51.0, 40.0])
def test_the_verdict_says_when_selection_does_not_win(ap50):
    runs = [*RUNS[:3], run("selected", 0, ap50), *RUNS[4:7], run("selected", 1, ap50)]
    gap = ap50 - 51.0
    assert verdict(runs).startswith(f"Selection does NOT beat random here: {gap:+.2f} AP50")


@pytest.mark.parametrize(
    ("ap50", "outcome"),
    [
        ((50.1, 52.1), "beats random here: +0.10 AP50, ahead in 2 of 2"),
        ((51.0, 52.0), "cannot be told from random here: +0.50 AP50, ahead in 1 of 2"),
        ((50.0, 52.0), "does NOT beat random here: +0.00 AP50, ahead in 0 of 2"),
    ],
)
def test_a_tie_is_no_lead(ap50, outcome):
    runs = [*RUNS[:3], run("selected", 0, ap50[0]), *RUNS[4:7], run("selected", 1, ap50[1])]
    assert verdict(runs) == f"Selection {outcome} seeds."


# --- with trainings whose outcome is known --------------------------------------------------------


def worth(images):
    """The AP50 of a stubbed training on these images (im0 to im9): no two sets have the same."""
    return 100 * sum(2 ** int(image[2:]) for image in images) / 1023


class Training:
    """Stands for a trainer. Its model is the ids of the images that it was given.

    Training takes two seconds an image, everything else 1000.
    """

    clock = 0.0
    log: list = []

    def __init__(self, cfg, index=None):
        Training.clock += 1000
        self.cfg, self.drawn, self.calls = cfg, np.random.random(), []  # noqa: NPY002
        dicts = [d for name in cfg.DATASETS.TRAIN for d in DatasetCatalog.get(name)]
        self.model = sorted(d["image_id"] for d in dicts)
        Training.log.append(self)

    def register_hooks(self, hooks):
        self.calls += [type(hook).__name__ for hook in hooks]

    def resume_or_load(self, resume):
        self.calls.append(f"resume {resume}")

    def train(self):
        Training.clock += 2 * len(self.model)
        self.calls.append("train")

    @classmethod
    def test(cls, cfg, model):
        Training.clock += 1000
        assert cfg.DATASETS.TEST == ("toy_test",)
        return {"bbox": {"AP": -1.0, "AP50": worth(model), "AP75": -2.0}}


class Pruning(Training):
    """Selects seven images in a row, from the one of its seed's number on."""

    @property
    def selection(self):
        index = SampleIndex.from_config(self.cfg)
        seed = self.cfg.SEED
        kept = np.isin(np.arange(10), (np.arange(7) + seed) % 10)
        columns = {"key": np.array(index.keys), "digest": index.digests, "kept": kept}
        return Selection(
            "stub", 0.7, seed, index.samples.datasets, columns, digest_of=index.samples.digest_of
        )


@pytest.fixture
def stubbed(toy, tmp_path, monkeypatch):
    """A configuration, and trainings that are stubbed."""
    monkeypatch.setattr(module, "EvaluatingTrainer", Training)
    monkeypatch.setattr(module, "PruningTrainer", Pruning)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: Training.clock))
    monkeypatch.setattr(Training, "log", [])
    options = ("DATASETS.TEST", ("toy_test",), "SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600,))
    return toy_cfg("yolo_darknet", tmp_path / "out", *options)


def expected_runs(cfg, seed):
    """What the stubbed trainings of a seed come to, by hand."""
    index = SampleIndex.from_config(cfg)
    drawn = random_selection(index.samples, 0.7, seed)
    everything = [f"im{i}" for i in range(10)]
    return {
        "prune": everything,
        "all": everything,
        "random": [key.removeprefix("toy/") for key in drawn.kept_keys],
        "selected": [f"im{(i + seed) % 10}" for i in range(7)],
    }


def test_each_part_is_trained_on_its_own_images_and_has_their_ap50(stubbed):
    runs, selections = compare(stubbed, [0, 3])
    found = {(r.seed, r.part): r for r in runs}
    assert len(runs) == len(found) == 8
    for seed in (0, 3):
        for part, images in expected_runs(stubbed, seed).items():
            r = found[seed, part]
            assert (r.images, r.ap50) == (len(images), pytest.approx(worth(images))), (seed, part)
    by_seed = [{f"toy/im{(i + seed) % 10}" for i in range(7)} for seed in (0, 3)]
    assert [set(selection.kept_keys) for selection in selections] == by_seed
    selected, drawn = (expected_runs(stubbed, 0)[part] for part in ("selected", "random"))
    assert set(selected) != set(drawn)


def test_the_time_is_that_of_the_training_alone(stubbed):
    runs, _ = compare(stubbed, [0])
    assert {r.part: r.seconds for r in runs} == {
        "prune": 20, "all": 20, "random": 14, "selected": 14,
    }  # fmt: skip


def test_each_training_is_new_with_the_seed_and_the_epochs_of_the_others(stubbed):
    before = stubbed.clone()
    compare(stubbed, [0, 3])
    assert stubbed == before
    assert [type(t) for t in Training.log] == [Pruning, Training, Training, Training] * 2
    parts = ["prune", "all", "random", "selected"]
    folder = stubbed.OUTPUT_DIR
    assert [t.cfg.OUTPUT_DIR for t in Training.log] == [
        f"{folder}/seed{seed}/{part}" for seed in (0, 3) for part in parts
    ]
    assert [t.cfg.SEED for t in Training.log] == [0] * 4 + [3] * 4
    assert [t.cfg.SOLVER.MAX_ITER for t in Training.log] == [1000, 1000, 700, 700] * 2
    assert [t.cfg.SOLVER.STEPS for t in Training.log] == [(600,), (600,), (420,), (420,)] * 2
    assert all(t.cfg.DATASETS.TEST == () for t in Training.log), "it would test within the time"
    assert all(t.calls == ["_Progress", "resume False", "train"] for t in Training.log)
    drawn = [t.drawn for t in Training.log]
    assert len(set(drawn[:4])) == len(set(drawn[4:])) == 1, "the generators start from the seed"
    assert drawn[0] != drawn[4]


class Pool:
    """Stands for the pool of processes: the same calls, in this process."""

    asked: list = []

    def __init__(self, processes, context, initializer, initargs):
        Pool.asked.append((processes, context.get_start_method()))
        initializer(*initargs)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        Pool.asked.append("closed")

    def map(self, call, seeds):
        return map(call, seeds)


def test_seeds_side_by_side_make_what_they_make_one_after_the_other(stubbed, monkeypatch):
    alone = compare(stubbed, [0, 3, 1])
    started = []
    monkeypatch.setattr(Pool, "asked", [])
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(module, "_start_worker", started.append)
    runs, selections = compare(stubbed, [0, 3, 1], processes=2)
    assert Pool.asked == [(2, "spawn"), "closed"] and started == [stubbed]
    assert runs == alone[0]
    assert [s.kept_keys for s in selections] == [s.kept_keys for s in alone[1]]


@contextmanager
def bare_root_logger():
    """The root logger as in a process of its own."""
    root = logging.root
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)


def test_a_worker_has_one_thread_a_log_and_the_data_sets(tmp_path):
    write_voc_folder(tmp_path / "voc", train=2)
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("side_train",))
    cfg.ADAPRUNER.VOC_FOLDERS = [f"side_train={tmp_path}/voc:train"]
    torch.set_num_threads(2)
    with bare_root_logger():
        module._start_worker(cfg)
        logging.getLogger("fvcore").info("of a worker")
    assert torch.get_num_threads() == 1
    assert len(DatasetCatalog.get("side_train")) == 2
    assert MetadataCatalog.get("side_train").thing_classes == ["blue", "green"]
    assert "of a worker" in (tmp_path / "out" / "log.txt").read_text()


def test_all_goes_to_the_log_and_only_warnings_to_the_terminal(tmp_path, capsys):
    with bare_root_logger():
        log_to_file(str(tmp_path / "new" / "out"))
        logging.getLogger("fvcore").info("a step")
        logging.getLogger("adapruner_det.x").warning("beware")
        warnings.warn("of a library", stacklevel=1)
    text = (tmp_path / "new" / "out" / "log.txt").read_text()
    assert "fvcore] INFO: a step" in text and "adapruner_det.x] WARNING: beware" in text
    assert "of a library" in text
    shown = capsys.readouterr().err
    assert "beware" in shown and "a step" not in shown


# --- with trainings that are small ----------------------------------------------------------------


@pytest.mark.slow
def test_every_part_is_trained_for_the_same_epochs_on_its_images_and_tested(tmp_path, monkeypatch):
    write_voc_folder(tmp_path / "voc", train=10, test=4)
    folders = [f"cmp_train={tmp_path}/voc:train", f"cmp_test={tmp_path}/voc:test"]
    options = options_of("yolo_darknet", tmp_path / "out")
    options += ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("cmp_train",)]
    cfg = load_config("", [*options, "DATASETS.TEST", ("cmp_test",)])
    before = cfg.clone()
    runs, selections = compare(cfg, [0, 3])
    assert cfg == before
    assert [(r.part, r.seed, r.images) for r in runs] == [
        (part, seed, images)
        for seed in (0, 3)
        for part, images in (("prune", 10), ("all", 10), ("random", 7), ("selected", 7))
    ]
    assert all(0 <= r.ap50 <= 100 or math.isnan(r.ap50) for r in runs)
    for seed, selection in zip((0, 3), selections, strict=True):
        folder = tmp_path / "out" / f"seed{seed}"
        assert Selection.load(folder / "prune" / "selection.json").kept_keys == selection.kept_keys
        assert selection.seed == seed
        steps = {}
        for part in ("prune", "all", "random", "selected"):
            state = torch.load(folder / part / "model_final.pth", weights_only=True)
            steps[part] = state["iteration"] + 1
        assert steps == {"prune": 15, "all": 15, "random": 10, "selected": 10}
