import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.utils.env import seed_all_rng

from adapruner_det import PruningTrainer, Selection
from adapruner_det.cli import anchors, check_data, prune_net, suspects, train_pruned
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.held_out import HeldOutTask
from adapruner_det.detection.per_image import APART
from adapruner_det.detection.setup import check_pruning_inputs, load_config, require_elsewhere
from adapruner_det.detection.training import lazy as module
from adapruner_det.detection.training.lazy import (
    evaluation_mapper,
    is_lazy,
    named_as_in,
    register_from_file,
)
from adapruner_det.detection.training.schedule import scale_schedule
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import DataError
from adapruner_det.settings import config_digest
from tests.detection.toy import CLASSES, toy_cfg, write_voc_folder

ROOT = Path(__file__).parents[3]
FILE = str(Path(__file__).parents[1] / "fcos_toy.py")


def lazy_cfg(output, *overrides):
    """Of a run without evaluation."""
    cfg = load_config(FILE, [f"train.output_dir={output}", *overrides])
    assert cfg.DATASETS.TEST == ("toy",)
    cfg.DATASETS.TEST = ()
    return cfg


def test_plain_values_are_those_of_the_file_and_of_its_overrides(toy):
    cfg = lazy_cfg("out", "ADAPRUNER.KEEP_RATIO=0.5", "train.max_iter=20")
    assert is_lazy(cfg) and not is_lazy(toy_cfg("yolo_darknet", "out"))
    assert cfg.DATASETS.TRAIN == ("toy",)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED) == (20, 4, 1)
    assert (cfg.ADAPRUNER.KEEP_RATIO, cfg.ADAPRUNER.WARMUP_EPOCHS) == (0.5, 2)
    assert (cfg.MODEL.DEVICE, cfg.OUTPUT_DIR) == ("cpu", "out")
    assert len(check_pruning_inputs(cfg)) == 10


def test_the_keypoints_are_those_of_the_files_head():
    asked = "dataloader.train.dataset.min_keypoints=1"
    head = lazy_cfg("out", asked, "+model.roi_heads.keypoint_head.num_keypoints=3").MODEL
    assert head.KEYPOINT_ON and head.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 3
    assert lazy_cfg("out", asked).MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 0
    assert not lazy_cfg("out").MODEL.KEYPOINT_ON


def test_the_digest_tells_other_files_and_overrides_apart(tmp_path):
    digest = config_digest(lazy_cfg("out"))
    assert digest != config_digest(lazy_cfg("out", "optimizer.lr=0.1"))
    (tmp_path / "other.py").write_text(Path(FILE).read_text().replace("0.001,", "0.002,"))
    other = load_config(str(tmp_path / "other.py"), ["train.output_dir=out"])
    other.ADAPRUNER.LAZY_CONFIG = FILE
    assert digest != config_digest(other)


def test_the_digest_tells_other_values_and_devices_apart_but_not_one_gpu_from_another():
    digest = config_digest(lazy_cfg("out"))
    assert digest != config_digest(lazy_cfg("out", "train.max_iter=20"))
    assert digest != config_digest(lazy_cfg("out", "train.device=cuda"))
    on_a_gpu = [config_digest(lazy_cfg("out", f"train.device=cuda:{i}")) for i in range(2)]
    assert on_a_gpu == [config_digest(lazy_cfg("out", "train.device=cuda"))] * 2


def test_the_digest_does_not_tell_where_a_file_lies_and_a_run_writes(tmp_path):
    """As of a yaml: a run goes on from another folder, with other workers, or moved."""
    (tmp_path / "fcos_toy.py").write_text(Path(FILE).read_text())
    more = ["dataloader.train.num_workers=2", "++train.checkpointer.period=7"]
    moved = load_config(str(tmp_path / "fcos_toy.py"), ["train.output_dir=moved", *more])
    moved.DATASETS.TEST = ()
    assert config_digest(moved) == config_digest(lazy_cfg("out"))


def test_the_digest_tells_other_imported_files_apart(toy, tmp_path):
    """What a file imports is a part of it; where in memory its functions lie is none."""
    imported = {name: tmp_path / name / "base.py" for name in ("one", "same", "other")}
    for name, base in imported.items():
        base.parent.mkdir()
        text = Path(FILE).read_text()
        base.write_text(text.replace("0.001,", "0.002,") if name == "other" else text)
        names = "ADAPRUNER, dataloader, lr_multiplier, model, optimizer, train"
        (base.parent / "top.py").write_text(f"from .base import {names}\n")
    cfgs = {name: load_config(str(base.parent / "top.py")) for name, base in imported.items()}
    digests = {name: cfg.ADAPRUNER.LAZY_DIGEST for name, cfg in cfgs.items()}
    assert digests["one"] == digests["same"] != digests["other"]


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("ADAPRUNER.NO_SUCH_KEY=1", "NO_SUCH_KEY"),
        ("train.max_iter", "overrides are KEY=VALUE"),
        ("train.max_iter=abc", "train.max_iter is 'abc'; it must be a whole number"),
        ("train.max_iter=2.5", "train.max_iter is 2.5; it must be a whole number"),
        ("train.output_dir=3", "train.output_dir is 3; it must be a text"),
        ("train.amp.enabled=3", "train.amp.enabled is 3; it must be True or False"),
        ("train.max_iter=null", "it has no 'train.max_iter'"),
        ("train.max_itr=5", r"toy\.py has no 'train\.max_itr'; did you mean train\.max_iter\?"),
        ("trian.max_iter=5", r"did you mean train\.max_iter\?"),
        ("OUTPUT_DIR=x", r"no 'OUTPUT_DIR'; did you mean train\.output_dir\?"),
        ("KEEP_RATIO=0.5", r"did you mean ADAPRUNER\.KEEP_RATIO\?"),
        ("xyz=5", r"no 'xyz'; what is to be new in it has a \+ before it: \+xyz="),
        (
            "train.log_period=5",
            r"train\.log_period has no effect here.*train\.checkpointer\.period",
        ),
        ("train.checkpointer.max_to_keep=2", r"max_to_keep has no effect here"),
        ("dataloader.val.num_workers=1", r"has no 'dataloader\.val\.num_workers'; did you mean"),
        (
            "dataloader.train.mapper.image_formt=1",
            r"has no .*; did you mean dataloader\.t\w+\.mapper\.image_format",
        ),
        ("dataloader.train.mapper.flop=1", r"has no 'dataloader\.train\.mapper\.flop'"),
    ],
)
def test_what_a_file_or_an_override_gets_wrong_is_named(override, match):
    with pytest.raises(DataError, match=match):
        lazy_cfg("out", override)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (
            "raise SOLVER.MAX_ITER or lower SOLVER.BASE_LR.",
            "raise train.max_iter or lower optimizer.lr.",
        ),
        (
            "a.py has no 'OUTPUT_DIR'; set OUTPUT_DIR",
            "a.py has no 'OUTPUT_DIR'; set train.output_dir",
        ),
        ("MY_SEED, SEEDS, x.SEED and SEED.x", "MY_SEED, SEEDS, x.SEED and SEED.x"),
        ("SOLVER.STEPS stays", "SOLVER.STEPS stays"),
    ],
)
def test_an_error_names_the_fields_of_a_file_and_the_keys_of_a_yaml(told, named):
    for config_file, expected in (("own.py", named), ("own.yaml", told), ("", told)):
        with pytest.raises(DataError) as caught, named_as_in(config_file):
            raise DataError(told)
        assert str(caught.value) == expected


@pytest.mark.parametrize("tool", [prune_net, train_pruned, suspects, check_data, anchors])
def test_every_tool_names_the_fields_of_a_file(tool, tmp_path, capsys):
    none = [f"dataloader.{part}.dataset.names=[]" for part in ("train", "test")]
    with pytest.raises(SystemExit):
        tool.main(["--config-file", FILE, f"train.output_dir={tmp_path / 'out'}", *none])
    told = capsys.readouterr().err
    assert "dataloader.train.dataset.names" in told and "DATASETS" not in told


def test_what_a_call_takes_and_what_is_said_to_be_new_may_be_given():
    cfg = lazy_cfg("out", "model.focal_loss_gamma=3.0", "+train.note=mine", "++train.max_iter=2e1")
    assert cfg.SOLVER.MAX_ITER == 20
    assert lazy_cfg("out", "train.checkpointer={period: 3}").SOLVER.CHECKPOINT_PERIOD == 3
    assert module._read(cfg).model.focal_loss_gamma == 3.0
    assert lazy_cfg("out", "dataloader.train.sampler._target_=a.B").DATALOADER.SAMPLER_TRAIN == "B"


@pytest.mark.parametrize(
    ("target", "takes"),
    [
        (lambda size: size, False),
        (lambda size, flip=True: size, True),
        (lambda **more: more, True),
        (dict, True),  # of which nothing is known, as of what is not found
        ("no_such_module.make", True),
        ("detectron2.data.DatasetMapper", False),
    ],
)
def test_an_argument_that_a_call_does_not_take_is_known_where_it_says_what_it_takes(target, takes):
    assert module._takes(target, "flip") == takes


def test_a_module_that_is_not_found_is_named_with_the_cure(tmp_path):
    (tmp_path / "own.py").write_text("from no_such_module import net\n")
    with pytest.raises(DataError, match=r"own\.py imports no_such_module, .* PYTHONPATH"):
        load_config(str(tmp_path / "own.py"))


def test_a_class_of_a_file_beside_it_is_known_by_one_name_in_all_processes(tmp_path, monkeypatch):
    """Detectron2 gives a file that is imported relatively a module of a name that is drawn."""
    (tmp_path / "own_net.py").write_text(
        "from detectron2.modeling.meta_arch.fcos import FCOS\n\nclass Own(FCOS): ...\n"
    )
    text = Path(FILE).read_text().replace("model = L(FCOS)(", "model = L(Own)(")
    (tmp_path / "own.py").write_text(f"from .own_net import Own\n{text}")
    digests = set()
    for _ in range(2):
        monkeypatch.setattr(module, "_loaded", {})  # as in another process
        digests.add(load_config(str(tmp_path / "own.py")).ADAPRUNER.LAZY_DIGEST)
    assert len(digests) == 1


def test_a_selection_in_the_folder_of_its_run_is_refused_with_the_key_of_a_file(tmp_path):
    cfg = lazy_cfg(tmp_path / "out")
    with pytest.raises(DataError, match=r"such as train\.output_dir=\S*/out_kept"):
        require_elsewhere(str(tmp_path / "out" / "selection.json"), cfg)


def test_a_file_without_a_part_is_refused_by_its_name(tmp_path):
    (tmp_path / "half.py").write_text("model = dict()\ndataloader = dict()\ntrain = dict()\n")
    with pytest.raises(DataError, match=r"half\.py.*it has no 'optimizer'"):
        load_config(str(tmp_path / "half.py"))


def test_a_file_that_does_not_say_how_images_are_evaluated_is_asked_for_it(toy, tmp_path):
    file = tmp_path / "untested.py"
    file.write_text(Path(FILE).read_text() + '\ndel dataloader["test"]\n')
    cfg = load_config(str(file), [f"train.output_dir={tmp_path / 'out'}"])
    for ask in (evaluation_mapper, HeldOutTask):  # before anything is trained
        with pytest.raises(DataError, match=r"untested\.py has no dataloader\.test\.mapper"):
            ask(cfg)
    assert not (tmp_path / "out").exists()


def test_a_sampler_that_visits_some_samples_more_often_is_refused(toy):
    sampler = "detectron2.data.samplers.RepeatFactorTrainingSampler"
    cfg = lazy_cfg("out", f"+dataloader.train.sampler._target_={sampler}")
    with pytest.raises(DataError, match="RepeatFactorTrainingSampler"):
        check_pruning_inputs(cfg)


def test_fcos_is_pruned_with_and_trained_on_what_was_kept(toy, tmp_path):
    cfg = lazy_cfg(tmp_path / "prune")
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=False)
    assert isinstance(trainer.model.detector, FCOS)
    assert trainer.model.source.way == APART
    augmentations = trainer._trainer.data_loader.mapper.augmentations.augs
    assert augmentations[0].short_edge_length == (48, 48)
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.8
    trainer.train()
    # The schedule of the file: at its second value, a tenth, at the end.
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    selection = Selection.load(tmp_path / "prune" / "selection.json")
    assert selection.num_kept == 7

    cfg = lazy_cfg(tmp_path / "train")
    cfg.DATASETS.TRAIN = tuple(register_kept(selection))
    scale_schedule(cfg, selection)
    plain = EvaluatingTrainer(cfg)
    DetectionCheckpointer(plain.model).load(str(tmp_path / "prune" / "model_final.pth"))
    weights = torch.load(tmp_path / "prune" / "model_final.pth", weights_only=False)["model"]
    assert all(torch.equal(v, weights[k]) for k, v in plain.model.state_dict().items())
    plain.train()
    assert plain.iter == plain.max_iter == round(15 * 0.7)
    kept = {key.rsplit("/", 1)[1] for key in selection.kept_keys}
    batches = islice(iter(EvaluatingTrainer.build_train_loader(cfg)), 8)
    assert {x["image_id"] for batch in batches for x in batch} == kept


def started(output, resume=False):
    """As Detectron2's lazyconfig_train_net.py begins, but repeatable."""
    seed_all_rng(1)
    trainer = PruningTrainer(lazy_cfg(output))
    trainer.resume_or_load(resume=resume)
    return trainer


def test_a_stopped_run_of_a_file_goes_on_where_it_stopped(toy, tmp_path):
    whole = started(tmp_path / "whole")
    whole.train()
    TrainerBase.train(started(tmp_path / "parts"), 0, 8)
    again = started(tmp_path / "parts", resume=True)
    assert again.start_iter == 8
    again.train()
    assert again.selection.num_kept == 7
    assert again.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    # Two runs of FCOS in one process differ in their last bits, stopped or not.
    for name in ("logit", "mean_loss", "last_loss"):
        found, expected = (run.selection.columns[name] for run in (again, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_tools_take_a_py_file(tmp_path):
    write_voc_folder(tmp_path / "own", train=10, test=3)
    overrides = [
        f"ADAPRUNER.VOC_FOLDERS=['own_train={tmp_path}/own:train','own_test={tmp_path}/own:test']",
        f"ADAPRUNER.VOC_CLASSES=[{','.join(CLASSES)}]",
        "dataloader.train.dataset.names=own_train",
        "dataloader.test.dataset.names=own_test",
    ]

    def tool(name, output, *args):
        done = subprocess.run(
            [sys.executable, f"tools/{name}", "--config-file", FILE, *args, *overrides]
            + [f"train.output_dir={tmp_path / output}"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    tool("prune_net.py", "prune")
    said = tool("train_pruned.py", "train", "--selection", f"{tmp_path}/prune/selection.json")
    assert "AP50" in said
    assert (tmp_path / "train" / "model_final.pth").exists()


# A file that registers data


REGISTERING = """
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.detection.toy import squares
{source}
count = globals().get("count", 0) + 1
open({log!r}, "a").write("run\\n")
dicts = squares({folder!r}, 10)
for number in (5, 6):
    dicts[number]["annotations"][0]["category_id"] = 1
DatasetCatalog.register("own", lambda: dicts)
MetadataCatalog.get("own").set(evaluator_type="coco")
for part in ("train", "test"):
    dataloader[part]["dataset"]["names"] = "own"
"""


@pytest.fixture
def registering(tmp_path):
    """A LazyConfig that registers a data set without class names, and where it logs its runs."""
    source = Path(FILE).read_text()
    log = tmp_path / "runs.txt"
    text = REGISTERING.format(source=source, log=str(log), folder=str(tmp_path / "images"))
    (tmp_path / "own.py").write_text(text)
    return tmp_path / "own.py", log


def test_a_file_that_registers_its_data_is_run_once_and_needs_no_class_names(registering, tmp_path):
    file, log = registering
    cfg = load_config(str(file), [f"train.output_dir={tmp_path / 'out'}", "train.max_iter=8"])
    cfg.DATASETS.TEST = ()
    index = check_pruning_inputs(cfg)
    assert list(index.samples.class_names) == ["class 0", "class 1"]
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.selection.class_names == ("class 0", "class 1")
    load_config(str(file), ["train.max_iter=9"])
    assert log.read_text() == "run\n"
    (name,) = register_kept(trainer.selection)
    assert len(DatasetCatalog.get(name)) == 7


def test_another_process_knows_the_sets_that_the_file_registers(registering, monkeypatch):
    file, log = registering
    cfg = load_config(str(file))
    register_from_file(cfg)
    assert log.read_text() == "run\n"
    monkeypatch.setattr(module, "_loaded", {})  # as in one that is spawned
    DatasetCatalog.remove("own")
    MetadataCatalog.remove("own")
    register_from_file(cfg)
    assert len(DatasetCatalog.get("own")) == 10
    register_from_file(toy_cfg("yolo_darknet", "out"))  # which has none


def test_a_file_that_was_changed_is_run_again(registering):
    file, log = registering
    load_config(str(file))
    DatasetCatalog.remove("own")
    MetadataCatalog.remove("own")
    file.write_text(file.read_text().replace('"max_iter": 15', '"max_iter": 21'))
    assert load_config(str(file)).SOLVER.MAX_ITER == 21
    assert log.read_text() == "run\nrun\n"


def test_overrides_of_one_reading_do_not_reach_another(toy):
    assert lazy_cfg("out", "train.max_iter=20").SOLVER.MAX_ITER == 20
    assert lazy_cfg("out").SOLVER.MAX_ITER == 15


def test_a_head_with_fewer_classes_than_the_data_is_refused_before_the_run(toy):
    toy[3]["annotations"][0]["category_id"] = 2
    with pytest.raises(DataError, match="the data has 3 classes .* but NUM_CLASSES of FCOS"):
        check_pruning_inputs(lazy_cfg("out"))
    assert len(check_pruning_inputs(lazy_cfg("out", "model.num_classes=3"))) == 10


def test_toy_is_registered_by_its_fixture_only():
    with pytest.raises(DataError, match="no data set named 'toy'"):
        check_pruning_inputs(lazy_cfg("out"))
