"""The judge can tell right from wrong: each of its reasons is met by a tool that deserves it."""

import runpy
import sys
import time
from pathlib import Path

import pytest

from benchmarks.bad_inputs.case import Base, Case, Outcome, Refused, Works, either, refused, works
from benchmarks.bad_inputs.corpus import corpus
from benchmarks.bad_inputs.judge import Seen, run_all, snapshot, verdict, written

LINE = "error: the file im03.png is empty; replace it\n"


def case(*expect, name="one", build=lambda folder: None, tool="tool.py", args=(), base=""):
    return Case(name, "kind", build, str(tool), args, expect, base)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(2, "", LINE), ""),
        (Seen(2, "", "a warning\n" + LINE), ""),
        (Seen(0, "", LINE), "silent"),
        (Seen(1, "", LINE), "wrong code"),
        (Seen(-11, "", LINE), "ended by signal 11"),
        (Seen(2, "", "Traceback (most recent call last)\n" + LINE), "traceback"),
        (Seen(2, "", LINE, log="Traceback (most recent call last)"), "traceback"),
        (Seen(2, "", LINE + LINE), "wrong text: 2 lines"),
        (Seen(2, "", LINE + "more\n"), "wrong text: a line behind"),
        (Seen(2, "", "FutureWarning: old\n" + LINE), "wrong text: a library's warning"),
        (Seen(2, "", "error: a file is empty\n"), "wrong text: without ['im03']"),
        (Seen(2, "", f"error: im03 {'x' * 2000}\n"), "wrong text: a line of"),
        (Seen(2, "", LINE, written=["out/config.yaml"]), "wrote files: out/config.yaml"),
        (Seen(-9, "", "", hung=True), "hung"),
        (Seen(99, "", "KeyError: 3\n"), "the corpus itself"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_file_and_leaves_nothing(seen, reason):
    status, why = verdict(case(*refused("im03")), seen)
    assert status == ("failed" if reason else "one clear line")
    assert why.startswith(reason)


def test_a_good_end_must_say_its_words_and_pass_its_checks():
    expected = case(Works(says=("im03|im04",)))
    assert verdict(expected, Seen(0, "", "left out IM04")) == ("right", "")
    assert verdict(expected, Seen(0, "", "", log="left out im03")) == ("right", "")
    assert verdict(expected, Seen(0, "all well", ""))[1].startswith("silent")
    wrong = Seen(0, "im03", "", failed_checks={0: ["9 boxes, not 10"]})
    assert verdict(expected, wrong) == ("failed", "wrong outcome: 9 boxes, not 10")
    assert verdict(expected, Seen(2, "", LINE))[1].startswith("wrong code 2")


def test_any_one_of_several_expectations_is_enough():
    both = case(*either(refused("im03"), works(says=("im03",))))
    assert verdict(both, Seen(2, "", LINE))[0] == "one clear line"
    assert verdict(both, Seen(0, "im03 left out", ""))[0] == "right"
    assert verdict(both, Seen(0, "", "")) == (
        "failed",
        "silent: exit 0 without an error; or silent: nothing says ['im03']",
    )


def test_what_is_listed_and_what_argparse_says_count_where_asked_for():
    listing = case(Refused(listed=("im02", "im06")))
    assert verdict(listing, Seen(2, "im02\nim06\n", LINE))[0] == "one clear line"
    assert verdict(listing, Seen(2, "im02\n", LINE))[1] == "silent: nothing lists ['im06']"
    usage = "usage: tool.py\ntool.py: error: --selection is required\n"
    assert verdict(case(Refused(("selection",), usage=True)), Seen(2, "", usage))[0] != "failed"
    assert verdict(case(Refused(("selection",))), Seen(2, "", usage))[0] == "failed"


def test_new_changed_and_lost_files_are_seen_and_locks_are_not(tmp_path):
    for name in ("same", "longer", "lost"):
        (tmp_path / name).write_text(name)
    before = snapshot(tmp_path)
    (tmp_path / "longer").write_text("longer now")
    (tmp_path / "lost").unlink()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "new").write_text("")
    (tmp_path / ".lock").write_text("")
    (tmp_path / "empty").mkdir()
    assert written(before, snapshot(tmp_path)) == ["longer", "lost (gone)", "sub/new"]


@pytest.fixture
def tool(tmp_path):
    """A script that does what its argument says."""
    path = tmp_path / "tool.py"
    path.write_text(
        "import os, sys, time\n"
        "word = sys.argv[1]\n"
        "if word == 'hang': time.sleep(60)\n"
        "if word == 'raise': raise KeyError('bbox')\n"
        "if word == 'write': open('new', 'w').close()\n"
        "if word == 'refuse' or word == 'write':\n"
        "    sys.stderr.write('error: ' + open('input').read())\n"
        "    sys.exit(2)\n"
        "print('home', os.environ['HOME'], 'in', os.getcwd())\n"
    )
    return path


def test_cases_run_in_folders_of_their_own_and_one_that_hangs_is_killed(tool, tmp_path):
    def build(folder):
        (folder / "input").write_text("im03 is empty\n")

    here = Works(checks=(lambda folder: "" if Path.cwd() == folder else "elsewhere",))
    wanted = {
        "refuse": (Refused(("im03",)), "one clear line", ""),
        "write": (Refused(("im03",)), "failed", "wrote files: new"),
        "raise": (Refused(("im03",)), "failed", "traceback: KeyError: 'bbox'"),
        "hang": (Refused(("im03",)), "failed", "hung"),
        "work": (here, "right", ""),
    }
    cases = [
        case(expect, name=word, build=build, tool=tool, args=(word,))
        for word, (expect, _, _) in wanted.items()
    ]
    start, path, argv = time.monotonic(), list(sys.path), list(sys.argv)
    outcomes = run_all(cases, {}, tmp_path / "work", processes=4, timeout=1)
    assert time.monotonic() - start < 10
    assert {o.case.name: (o.status, o.reason) for o in outcomes} == {
        word: (status, reason) for word, (_, status, reason) in wanted.items()
    }
    assert (sys.path, sys.argv) == (path, argv)


def test_a_case_starts_from_its_run_and_fails_with_it(tool, tmp_path):
    def left(folder):
        (folder / "made").write_text("by the run")

    there = Works(checks=(lambda folder: "" if (folder / "made").is_file() else "not copied",))
    cases = [
        case(there, name="good", tool=tool, args=("work",), base="whole"),
        case(there, name="bad", tool=tool, args=("work",), base="broken"),
    ]
    bases = {
        "whole": Base(left, ((str(tool), ("work",)),)),
        "broken": Base(left, ((str(tool), ("raise",)),)),
    }
    good, bad = run_all(cases, bases, tmp_path / "work", processes=2, timeout=5)
    assert good.status == "right", good.reason
    assert bad.status == "failed"
    assert "'broken'" in bad.reason


def test_the_corpus_is_large_and_covers_every_tool():
    cases, bases = corpus()
    assert len(cases) >= 250
    assert all(case.base in bases for case in cases if case.base)
    tools = {case.tool for case in cases}
    assert tools >= {
        "prune_net.py",
        "train_pruned.py",
        "compare.py",
        "check_data.py",
        "prune_cls.py",
        "transfer_cls.py",
    }


def test_the_page_counts_each_kind_and_names_what_failed(tmp_path):
    # The folder has the name of the script.
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/bad_inputs.py"))
    made = [("a", "images", "right"), ("b", "cuts", "failed"), ("c", "images", "one clear line"),
            ("d", "images", "right")]  # fmt: skip
    outcomes = [
        Outcome(
            Case(name, kind, None, "us.py" if name == "b" else "cut.py", (), ()), status, "slow"
        )
        for name, kind, status in made
    ]
    script["write"].__globals__["RESULTS"] = tmp_path / "page.md"
    script["write"](outcomes, 12.4)
    text = (tmp_path / "page.md").read_text()
    assert "4 cases in 12 s" in text and "By tool: cut.py 3, us.py 1." in text
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:2] == "| "]
    assert lines == [
        ["kind", "tried", "right", "one clear line", "failed"],
        ["images", "3", "2", "1", "0"],
        ["cuts", "1", "0", "0", "1"],
        ["all", "4", "2", "1", "1"],
    ]
    assert text.endswith("Failed:\n\n- b: slow\n")
    script["write"]([own for own in outcomes if own.status != "failed"], 12.4)
    assert (tmp_path / "page.md").read_text().endswith("\nNone failed.\n")
