"""Runs cases, each in a forked process, and says of each whether what happened is right.

The parent has imported PyTorch and Detectron2 once; a child only runs the tool, so a refusal takes
a tenth of a second. A child has a folder, a home and a cache of its own.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import logging
import os
import re
import resource
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .case import Base, Case, Outcome, Refused, Works

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
TRACEBACK = "Traceback (most recent call last)"
LONGEST_LINE = 1500
#: Files that any run may leave behind: the lock of its folder, and what Python compiles.
HARMLESS = (".lock", "*.pyc")
MEMORY = 12 << 30  # a decompression bomb ends its child, not the machine
NOT_BUILT = 99
#: Rows of a summary that name whichever samples and classes there are.
SUMMARY = ("hardest dropped", "easiest dropped", "kept by class", "class spread", "least kept")

Snapshot = dict[str, list[int]]


@dataclass(frozen=True)
class Seen:
    """What a case left behind.

    Attributes:
        code: the exit code; minus the signal's number for a process that one ended.
        stdout, stderr, log: text.
        written: files that are new or changed.
        failed_checks: expectation's place → what its checks found wrong.
        hung: whether it had to be killed.
    """

    code: int
    stdout: str
    stderr: str
    log: str = ""
    written: Sequence[str] = ()
    failed_checks: dict[int, list[str]] | None = None
    hung: bool = False


def verdict(case: Case, seen: Seen) -> tuple[str, str]:
    """(status, reason) of a case, by the first of its expectations that holds."""
    if seen.hung:
        return "failed", "hung"
    if seen.code == NOT_BUILT:
        return "failed", f"the corpus itself: {_last_line(seen.stderr)}"
    if TRACEBACK in seen.stdout + seen.stderr + seen.log:
        return "failed", f"traceback: {_last_line(seen.stderr)[:200]}"
    if seen.code < 0:
        return "failed", f"ended by signal {-seen.code}"
    reasons = []
    for place, expected in enumerate(case.expect):
        if isinstance(expected, Refused):
            reason, status = _not_refused(expected, seen, place), "one clear line"
        else:
            reason, status = _not_worked(expected, seen, place), "right"
        if not reason:
            return status, ""
        reasons.append(reason)
    return "failed", "; or ".join(dict.fromkeys(reasons))


def _not_refused(expected: Refused, seen: Seen, place: int) -> str:
    if seen.code == 0:
        return "silent: exit 0 without an error"
    if seen.code != expected.code:
        return f"wrong code {seen.code}: {_last_line(seen.stderr)[:200]}"
    lines = _lines(seen.stderr)
    errors = [line for line in lines if line.startswith("error: ")]
    if expected.usage and not errors:
        errors = [line for line in lines if re.match(r"\S+: error: ", line)]
    if len(errors) != 1:
        return f"wrong text: {len(errors)} lines with 'error: '"
    if lines[-1] != errors[0]:
        return f"wrong text: a line behind the error: {lines[-1][:100]}"
    warned = [line for line in lines if re.search(r"\b\w*Warning: ", line)]
    if warned:
        return f"wrong text: a library's warning: {warned[0][:100]}"
    missing = _missing(expected.words, errors[0])
    if missing:
        return f"wrong text: without {missing}: {errors[0][:300]}"
    unlisted = _missing(expected.listed, seen.stdout + seen.stderr)
    if unlisted:
        return f"silent: nothing lists {unlisted}"
    if len(errors[0]) > LONGEST_LINE:
        return f"wrong text: a line of {len(errors[0])} characters"
    if seen.written and not expected.may_write:
        return f"wrote files: {', '.join(seen.written[:4])}"
    return _wrong(seen, place)


def _not_worked(expected: Works, seen: Seen, place: int) -> str:
    if seen.code != expected.code:
        return f"wrong code {seen.code}: {_last_line(seen.stderr)[:300]}"
    if wrong := _wrong(seen, place):
        return wrong
    told = [line for line in _lines(seen.stdout) if not line.startswith(SUMMARY)]
    text = "\n".join([*told, seen.stderr, seen.log])
    missing = _missing(expected.says, " ".join(text.split()))
    return f"silent: nothing says {missing}" if missing else ""


def _wrong(seen: Seen, place: int) -> str:
    problems = (seen.failed_checks or {}).get(place, [])
    return f"wrong outcome: {'; '.join(problems)}" if problems else ""


def _missing(words: Sequence[str], text: str) -> list[str]:
    return [word for word in words if not _holds(text, word)]


def _holds(text: str, word: str) -> bool:
    if word.startswith("re:"):
        return re.search(word[3:], text, re.IGNORECASE) is not None
    return any(part.lower() in text.lower() for part in word.split("|"))


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def _last_line(text: str) -> str:
    return (_lines(text) or ["(nothing on stderr)"])[-1]


def snapshot(folder: Path) -> Snapshot:
    """Every path below ``folder`` but folders: relative path → size and time of change."""
    found: Snapshot = {}
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = [status.st_size, status.st_mtime_ns]
    return found


def written(before: Snapshot, after: Snapshot) -> list[str]:
    """Paths that are new, changed or gone."""
    changed = [path for path, facts in after.items() if before.get(path) != facts]
    changed += [f"{path} (gone)" for path in before if path not in after]
    return sorted(
        p for p in changed if not any(fnmatch.fnmatch(os.path.basename(p), h) for h in HARMLESS)
    )


def run_all(
    cases: Sequence[Case],
    bases: dict[str, Base],
    work: Path,
    processes: int,
    timeout: float,
    keep: bool = False,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcome of every case, in the order of ``cases``."""
    needed = {case.base for case in cases if case.base}
    problems = _make_bases({name: bases[name] for name in sorted(needed)}, work, timeout)
    outcomes: dict[str, Outcome] = {}
    for case in cases:
        if problems.get(case.base):
            outcomes[case.name] = Outcome(case, "failed", problems[case.base])
            told(outcomes[case.name])
    waiting = [case for case in cases if case.name not in outcomes][::-1]
    running: dict[int, tuple[Case, float]] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            case = waiting.pop()
            running[fork(lambda root, c=case: _child(c, work, root), work / case.name)] = (
                case,
                time.monotonic(),
            )
        pid, state = _ended(running, timeout)
        case, start = running.pop(pid)
        seen = _collect(work / case.name, state)
        outcome = Outcome(case, *verdict(case, seen), seconds=time.monotonic() - start)
        outcomes[case.name] = outcome
        told(outcome)
        clean(work / case.name, keep)
    return [outcomes[case.name] for case in cases]


def _ended(running: dict[int, tuple[Case, float]], timeout: float) -> tuple[int, int | None]:
    """Wait for one of the children: its pid and wait status, None for one that was killed."""
    while True:
        for pid, (_, start) in running.items():
            found, state = os.waitpid(pid, os.WNOHANG)
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it may have left running
                return pid, state
            if time.monotonic() - start > timeout:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return pid, None
        time.sleep(0.01)


def fork(work: Callable[[Path], int], root: Path, fresh: bool = True) -> int:
    """Run ``work(root)`` in a child in a process group of its own, its output in files. The pid.

    The child is in ``root/in``, empty if ``fresh``.
    """
    if fresh:
        shutil.rmtree(root, ignore_errors=True)
    for name in ("in", "home", "cache"):
        (root / name).mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        _lead_group(pid)
        return pid
    code = 1
    try:
        _lead_group(0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        _redirect(root)
        os.chdir(root / "in")
        os.environ.update(
            HOME=str(root / "home"),
            ADAPRUNER_CACHE=str(root / "cache"),
            DETECTRON2_DATASETS=".",
            OMP_NUM_THREADS="1",
        )
        code = work(root)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _lead_group(pid: int) -> None:
    """Both sides of a fork say so, whichever runs first: a group can be killed as one."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)


def _redirect(root: Path) -> None:
    for number, path in ((0, "/dev/null"), (1, root / "stdout"), (2, root / "stderr")):
        handle = os.open(
            path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )
        os.dup2(handle, number)
        os.close(handle)
    # Detectron2 and tqdm ask these whether they are a terminal.
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), errors="backslashreplace", write_through=True
    )


def _child(case: Case, work: Path, root: Path) -> int:
    folder = root / "in"
    try:
        if case.base:
            shutil.copytree(
                work / f"base-{case.base}" / "in", folder, symlinks=True, dirs_exist_ok=True
            )
        case.build(folder)
        (root / "before.json").write_text(json.dumps(snapshot(folder)))
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return NOT_BUILT
    code = run_tool(case.tool, case.args, case.apart)
    found = {
        place: [problem for check in expected.checks if (problem := _checked(check, folder))]
        for place, expected in enumerate(case.expect)
        if expected.code == code
    }
    (root / "checks.json").write_text(json.dumps(found))
    return code


def _checked(check: Callable[[Path], str], folder: Path) -> str:
    try:
        return check(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run_tool(tool: str, args: Sequence[str], apart: bool = False) -> int:
    """Run a tool in this process, or in one of its own, as the command line does. Its exit code."""
    path = SCRIPTS / tool if (SCRIPTS / tool).is_file() else ROOT / "tools" / tool
    if apart:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, path, *args], env=environment).returncode
    sys.argv = [str(path), *args]
    sys.path[0] = str(path.parent)
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _collect(root: Path, state: int | None) -> Seen:
    if state is None:
        return Seen(-9, "", "", hung=True)
    code = os.waitstatus_to_exitcode(state)
    # A case's own name would hold many a word that is looked for.
    texts = [_text(root / name).replace(f"{root}/in/", "") for name in ("stdout", "stderr")]
    checks, before = root / "checks.json", root / "before.json"
    after = snapshot(root / "in")
    known = json.loads(before.read_text()) if before.is_file() else {}
    logs = [p for p in after if os.path.basename(p) == "log.txt" and known.get(p) != after[p]]
    log = "".join(_text(root / "in" / path) for path in logs)
    found = json.loads(checks.read_text()) if checks.is_file() else {}
    failed = {int(place): problems for place, problems in found.items()}
    return Seen(code, *texts, log, written(known, after), failed)


def _text(path: Path) -> str:
    regular = path.exists() and stat.S_ISREG(path.stat().st_mode)
    return path.read_text(errors="replace") if regular else ""


def clean(root: Path, keep: bool) -> None:
    """Unmount what a case has mounted, and remove its folder."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", place], check=False)
    if not keep:
        shutil.rmtree(root, ignore_errors=True)


def _make_bases(bases: dict[str, Base], work: Path, timeout: float) -> dict[str, str]:
    """Make the runs that cases start from. Name → why it could not be made, or nothing."""
    problems = {}
    for name, base in bases.items():
        root = work / f"base-{name}"
        deadline = time.monotonic() + timeout
        pid = fork(lambda root, b=base: _base_child(b, root), root)
        code: int | None = None
        while code is None and time.monotonic() < deadline:
            found, state = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(state)
            elif base.kill_at and _ripe(root / "in", *base.kill_at):
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                code = -signal.SIGKILL
            else:
                time.sleep(0.002)
        if code is None:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        wanted = -signal.SIGKILL if base.kill_at else 0
        if code != wanted:
            said = _last_line(_text(root / "stderr"))[:200]
            problems[name] = f"the run {name!r} that it starts from ended with {code}: {said}"
    return problems


def _ripe(folder: Path, pattern: str, count: int) -> bool:
    return len(list(folder.glob(pattern))) >= count


def _base_child(base: Base, root: Path) -> int:
    base.build(root / "in")
    for tool, args in base.steps[:-1]:
        if os.fork() == 0:  # a process of its own: Detectron2's catalogue takes a name only once
            os._exit(run_tool(tool, args))
        if os.waitstatus_to_exitcode(os.wait()[1]):
            return 1
    return run_tool(*base.steps[-1])


def warm() -> Iterator[str]:
    """Import what the tools import, on one thread, so that children need not. The names."""
    os.environ["DETECTRON2_DATASETS"] = "."
    sys.path.insert(0, str(ROOT))
    import importlib
    import pkgutil

    import torch

    torch.set_num_threads(1)
    import adapruner_det

    yield "torch"
    for module in pkgutil.walk_packages(adapruner_det.__path__, "adapruner_det."):
        with contextlib.suppress(ImportError):  # a tool that needs it will show it
            importlib.import_module(module.name)
        yield module.name
