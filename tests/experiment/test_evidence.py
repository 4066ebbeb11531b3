import json
import logging
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment import evidence as module
from adapruner_det.experiment.evidence import TaskEvidence, offers, record, thumbnails
from adapruner_det.experiment.task import Run
from adapruner_det.methods.recorder import Recorder
from tests.experiment.toy import EPOCHS, Half, N, calls, make_toy

WANTED = ("features", "loss", "margin", "predictions")


@pytest.fixture
def task(tmp_path):
    return make_toy(tmp_path)


def evidence_of(task, folder, names=WANTED, **arguments):
    return TaskEvidence(
        task, 0, folder / "select", places=dict.fromkeys(names, folder / "record"), **arguments
    )


def test_one_recorded_training_gives_all_that_is_wanted(task, tmp_path):
    run = record(task, 0, tmp_path / "record", WANTED)
    direct = Recorder(N, ["margin"])
    assert task.train(0, tmp_path / "direct" / "run", guide=direct).value == run.value
    found = evidence_of(task, tmp_path)
    for name in ("loss", "margin"):
        assert found.signal(name).shape == (EPOCHS, N)
        np.testing.assert_array_equal(found.signal(name), direct.signal(name))
    assert found.features().shape == (N, 3) and found.features().dtype == np.float32
    np.testing.assert_array_equal(found.features(), task.features(tmp_path / "direct" / "run"))
    np.testing.assert_allclose(found.predictions().sum(1), 1, rtol=1e-6)
    assert len(calls(tmp_path)) == 2


def test_a_record_is_written_without_a_second_one_in_memory(tmp_path):
    parts = list(np.random.default_rng(0).normal(size=(20, 1000, 50)).astype(np.float32))
    parts[:2] = map(np.asfortranarray, parts[:2])
    tracemalloc.start()
    module._save_stacked(tmp_path, "margin", parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sum(part.nbytes for part in parts) / 4
    np.save(tmp_path / "whole.npy", np.stack(parts))
    assert (tmp_path / "margin.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    with pytest.raises(ValueError, match="the epochs of margin are not alike"):
        module._save_stacked(tmp_path, "margin", [*parts, parts[0][:, 0]])


def test_what_is_not_wanted_is_not_kept(task, tmp_path):
    record(task, 0, tmp_path / "record", ["margin"])
    assert [path.name for path in (tmp_path / "record").glob("*.npy")] == ["margin.npy"]


def test_predictions_that_are_no_array_are_asked_of_the_model(task, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(task, "predictions", lambda folder: asked.append(folder) or [["a box"]])
    record(task, 0, tmp_path / "record", ["predictions"])
    assert evidence_of(task, tmp_path).predictions() == [["a box"]]
    assert asked == [tmp_path / "record" / "run"] * 2


def test_a_method_reads_what_it_said_it_needs(task, tmp_path):
    record(task, 0, tmp_path / "record", WANTED)
    found = evidence_of(task, tmp_path, ["loss"])
    for read in (lambda: found.signal("margin"), found.features, found.predictions):
        with pytest.raises(ValueError, match="not registered to need it"):
            read()
    with pytest.raises(ValueError, match="no features of 'pixels'"):
        found.features("pixels")


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")]
)
def test_what_is_gone_or_damaged_is_one_line(task, tmp_path, damage):
    record(task, 0, tmp_path / "record", ["loss"])
    damage(tmp_path / "record" / "loss.npy")
    with pytest.raises(DataError, match=r"loss\.npy cannot be read: .*; remove the folder"):
        evidence_of(task, tmp_path).signal("loss")


def test_a_finished_training_without_its_record_is_refused(task, tmp_path, monkeypatch):
    run = task.train(0, tmp_path / "x" / "run")
    monkeypatch.setattr(task, "train", lambda *_, **__: run)
    with pytest.raises(DataError, match="without its record"):
        record(task, 0, tmp_path / "record", ["loss"])


def test_each_training_of_a_method_has_a_folder_and_goes_on_there(task, tmp_path):
    for _ in range(2):
        found = evidence_of(task, tmp_path)
        first, second = Half(), Half()
        found.train(first)
        found.train(second)
        assert first.total.sum() == second.total.sum() > 0
    assert sorted(path.name for path in (tmp_path / "select").iterdir()) == ["run", "run-2"]
    assert [call["from"] for call in calls(tmp_path)] == [0, 0, EPOCHS, EPOCHS]


def test_options_are_those_of_the_task_but_for_the_overrides(task, tmp_path):
    found = evidence_of(task, tmp_path, options={"WARMUP_EPOCHS": 0})
    assert found.options == {**task.options, "WARMUP_EPOCHS": 0}
    assert task.options["WARMUP_EPOCHS"] == 1
    assert (found.seed, found.epochs, found.samples) == (0, EPOCHS, task.samples)


def test_it_offers_the_loss_whatever_the_task_gives(task, tmp_path):
    assert offers(task) == {"loss", "margin", "features", "predictions", "thumbnails"}
    assert evidence_of(task, tmp_path).offers == offers(task)


def test_thumbnails_are_read_from_where_they_are_kept(task, tmp_path):
    module.save_thumbnails(task.samples, tmp_path / "thumbnails")
    found = TaskEvidence(
        task, 0, tmp_path / "select", places={"thumbnails": tmp_path / "thumbnails"}
    )
    np.testing.assert_array_equal(found.features("thumbnails"), thumbnails(task.samples))
    assert found.features("thumbnails").shape == (N, 192)


class Listed:
    """A task that notes what it was trained and evaluated on."""

    def __init__(self, task):
        self.samples, self.options, self.epochs = task.samples, task.options, task.epochs
        self.signals, self.offers, self.trained = task.signals, task.offers, []
        self.identity = "a" * 64

    def train(self, seed, folder, *, kept, test, resume):
        folder.mkdir(parents=True, exist_ok=True)
        self.trained.append((seed, kept.kept_keys, test.kept_keys, resume))
        logging.getLogger("adapruner_det").info("trained")
        return Run("accuracy", 50.0 + seed, kept.num_kept, 1, 1.0, 3.0, seed)


def test_a_trial_trains_on_one_part_and_is_evaluated_on_the_other_once(task, tmp_path, caplog):
    listed = Listed(task)
    evidence = TaskEvidence(listed, 0, tmp_path / "select")
    kept, held = np.arange(N) < 20, np.arange(N) >= 50
    caplog.handler.setLevel(logging.INFO)
    with caplog.at_level(logging.INFO):
        assert evidence.respond(kept, held, 4) == (54.0, 3.0)
    assert "trained" not in caplog.text
    (found,) = listed.trained
    keys = task.samples.keys
    assert found == (4, frozenset(keys[:20]), frozenset(keys[50:]), False)
    again = TaskEvidence(listed, 0, tmp_path / "select")
    assert again.respond(kept, held, 4) == (54.0, 3.0) and len(listed.trained) == 1
    for other in ((~held, held, 4), (kept, ~kept, 4), (kept, held, 5)):
        again.respond(*other)
    assert len(listed.trained) == 4
    listed.identity = "b" * 64  # of another configuration, or of other data
    assert again.respond(kept, held, 4) == (54.0, 3.0) and len(listed.trained) == 5
    assert all(path.suffix == ".json" for path in (tmp_path / "select" / "trials").iterdir())


def test_trials_of_an_earlier_process_count_in_the_seconds_once(task, tmp_path):
    kept, held = np.arange(N) < 20, np.arange(N) >= 50
    first = TaskEvidence(Listed(task), 0, tmp_path / "select")
    for _ in range(2):
        first.respond(kept, held, 4)
    assert first.seconds_before == 0.0
    (file,) = (tmp_path / "select" / "trials").iterdir()
    wall = json.loads(file.read_text())["wall"]
    again = TaskEvidence(Listed(task), 0, tmp_path / "select")
    for _ in range(2):
        again.respond(kept, held, 4)
    assert again.seconds_before == wall > 0


def test_a_trial_without_a_value_is_said_and_not_kept(task, tmp_path):
    class Diverges(Listed):
        def train(self, *arguments, **named):
            return replace(super().train(*arguments, **named), value=float("nan"))

    kept, held = np.arange(N) < 20, np.arange(N) >= 50
    value, _ = TaskEvidence(Diverges(task), 0, tmp_path / "select").respond(kept, held, 4)
    assert np.isnan(value)
    assert not list((tmp_path / "select" / "trials").glob("*.json"))
    assert TaskEvidence(Listed(task), 0, tmp_path / "select").respond(kept, held, 4)[0] == 54.0


def test_a_trial_that_was_stopped_goes_on(task, tmp_path):
    class Stops(Listed):
        def train(self, *arguments, **named):
            run = super().train(*arguments, **named)
            if len(self.trained) == 1:
                raise KeyboardInterrupt
            return run

    listed = Stops(task)
    evidence = TaskEvidence(listed, 0, tmp_path / "select")
    kept = np.arange(N) < 20
    with pytest.raises(KeyboardInterrupt):
        evidence.respond(kept, ~kept, 1)
    evidence.respond(kept, ~kept, 1)
    assert [resume for *_, resume in listed.trained] == [False, True]
