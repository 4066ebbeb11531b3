"""What sub-commands share: what a run says of itself, overrides after options, logs."""

import argparse
import logging
import sys
from contextlib import nullcontext

import pytest
from tqdm.contrib.logging import logging_redirect_tqdm

from adapruner_det.cli.arguments import command_of_run, log_to, plain_parser, split_overrides
from adapruner_det.experiment import progress

OWN = ["ADAPRUNER.KEEP_RATIO", "0.9", "DATASETS.TRAIN", "('a b',)"]


def said(*words, config="c.yaml", overrides=OWN):
    return command_of_run("prune_net.py", [*words, *overrides], config, overrides)


def test_it_is_the_words_as_they_were_given():
    assert said("--config-file", "my c.yaml", "--num-gpus", "2") == (
        "adapruner prune-net --config-file 'my c.yaml' --num-gpus 2 "
        "ADAPRUNER.KEEP_RATIO 0.9 DATASETS.TRAIN '('\"'\"'a b'\"'\"',)'"
    )


@pytest.mark.parametrize("word", ["--resume", "--res", "--r", "--no-report", "--no-r"])
def test_one_command_says_the_same_however_the_run_came_to_its_end(word):
    assert said("--config-file", "c.yaml", word) == said("--config-file", "c.yaml")
    assert said(word, "--config-file", "c.yaml") == said("--config-file", "c.yaml")


@pytest.mark.parametrize(
    "pair",
    [
        ["OUTPUT_DIR", "elsewhere"],
        ["DATALOADER.NUM_WORKERS", "4"],
        ["ADAPRUNER.VOC_FOLDERS", "['a=/there:train']"],
    ],
)
def test_where_it_reads_and_writes_is_left_out(pair):
    assert said(overrides=[*OWN[:2], *pair, *OWN[2:]]) == said()


def test_what_changes_the_outcome_is_not():
    assert said(overrides=[*OWN, "SEED", "1"]) != said()
    assert said("--config-file", "d.yaml") != said("--config-file", "c.yaml")
    # Values that only look like what is left out.
    own = ["MODEL.X", "OUTPUT_DIR", "MODEL.Y", "--resume"]
    assert said(overrides=own).endswith(" MODEL.X OUTPUT_DIR MODEL.Y --resume")


def test_of_a_lazy_config_too():
    own = ["train.max_iter=3", "train.output_dir=out", "ADAPRUNER.COCO_SETS=[]"]
    own += ["dataloader.train.num_workers=2", "train.checkpointer.period=9"]
    found = said("--config-file", "c.py", config="c.py", overrides=own)
    assert found == "adapruner prune-net --config-file c.py train.max_iter=3"


def test_without_words_they_are_those_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tools/prune_cls.py", "--without", "warmup", "SEED", "1"])
    found = command_of_run("prune_cls.py", None, "c.yaml", ["SEED", "1"])
    assert found == "adapruner prune-cls --without warmup SEED 1"


@pytest.mark.parametrize(
    ("text", "own", "overrides"),
    [
        ("", "", ""),
        ("--seeds 0 1", "--seeds 0 1", ""),
        ("--seeds 0 1 SEED 3", "--seeds 0 1", "SEED 3"),
        ("--methods random A.B_C 3 x", "--methods random", "A.B_C 3 x"),
        ("--methods random adapruner[A=0]", "--methods random adapruner[A=0]", ""),
        ("--folder OUT --seeds 1", "--folder OUT --seeds 1", ""),
        ("--seeds 1 train.max_iter=7", "--seeds 1", "train.max_iter=7"),
        ("--methods random a[B=0] A.B_C=0.7 x=2", "--methods random a[B=0]", "A.B_C=0.7 x=2"),
        ("--seeds 1 ++train.x=a=b", "--seeds 1", "++train.x=a=b"),
        ("--seeds 1 -- a b", "--seeds 1", "a b"),
        ("--transfer-opts A.B=1 c.d=2 A.B 3", "--transfer-opts A.B=1 c.d=2", "A.B 3"),
        ("--transfer-opts A=1 --seeds 1 c.d=2", "--transfer-opts A=1 --seeds 1", "c.d=2"),
    ],
)
def test_options_of_several_words_leave_the_overrides(text, own, overrides):
    assert split_overrides(text.split()) == (own.split(), overrides.split())


def test_an_option_that_the_overrides_took_is_said_to_stand_before_them(capsys):
    parser = plain_parser("export", "Write.")
    parser.add_argument("--output", required=True)
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["SEED", "1", "--output", "x"])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.endswith("required: --output; options stand before KEY VALUE\n")


def test_each_cell_that_is_done_is_said_where_no_bar_tells(tmp_path, monkeypatch, capsys):
    for has_bar in (False, True):
        monkeypatch.setattr(logging, "root", logging.Logger("of this test"))
        monkeypatch.setattr(logging, "captureWarnings", lambda on: None)
        monkeypatch.setattr(sys.stderr, "isatty", lambda has=has_bar: has)
        log_to(tmp_path / "log.txt")
        for name in (progress.__name__, "detectron2"):
            logging.root.handle(logging.makeLogRecord({"name": name, "levelno": 20, "msg": name}))
        err = capsys.readouterr().err
        assert (progress.__name__ in err) == (not has_bar) and "detectron2" not in err


@pytest.mark.parametrize("beside_a_bar", [False, True])
def test_logs_go_to_a_file_and_warnings_to_the_terminal_too(
    beside_a_bar, tmp_path, monkeypatch, capsys
):
    root = logging.Logger("of this test")
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging, "captureWarnings", lambda on: None)
    log_to(tmp_path / "log.txt")
    with logging_redirect_tqdm() if beside_a_bar else nullcontext():
        root.info("one")
        root.warning("two")
    err = capsys.readouterr().err
    assert "two" in err and "one" not in err
    text = (tmp_path / "log.txt").read_text()
    assert "INFO: one" in text and "WARNING: two" in text
