"""What a case of the corpus is, and what may be right for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Puts an input into a folder.
Build = Callable[[Path], object]
#: Looks at the folder, in the tool's own process once it has ended; says what is wrong, or "".
Check = Callable[[Path], str]


@dataclass(frozen=True)
class Refused:
    """The tool exits with 2 and says why on one line, having written nothing.

    Attributes:
        words: what the line holds, in any case; "a|b" stands for one of the two, and "re:..." for
            a regular expression.
        listed: what stdout or stderr hold besides.
        usage: whether the line may be argparse's, below its usage.
        code: 2, or 1 of a user's script without the tools' handling of errors.
        may_write: the fault shows in mid-run, or a user's script has set up its folder before.
        checks: as of Works.
    """

    words: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    usage: bool = False
    code: int = 2
    may_write: bool = False
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Works:
    """The tool exits with 0, and what it made is right.

    Attributes:
        says: what stdout, stderr or the run's log hold, as ``Refused.words``. A summary, which
            names samples and classes in any case, does not count.
        checks: run in the tool's process.
        code: 0, or 128 and the signal's number of a run that was asked to stop.
    """

    says: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    code: int = 0


Expectation = Refused | Works


@dataclass(frozen=True)
class Case:
    """One input, one command, and what is right.

    Attributes:
        name: unique, words joined by hyphens.
        kind: the row of the table that it counts in.
        build: writes the input.
        tool: a file of tools/, or of the scripts beside this file.
        args: the command line.
        expect: any one of them is right.
        base: the finished run whose folder the case starts from; empty for none.
        apart: in a Python of its own, as a user starts it.
    """

    name: str
    kind: str
    build: Build
    tool: str
    args: tuple[str, ...]
    expect: tuple[Expectation, ...]
    base: str = ""
    apart: bool = False


@dataclass(frozen=True)
class Base:
    """A run that cases start from.

    Attributes:
        build: writes its input.
        steps: tool and arguments, one after the other; each must exit with 0.
        kill_at: a pattern of files, and how many of them there are when the last step is killed.
    """

    build: Build
    steps: tuple[tuple[str, tuple[str, ...]], ...]
    kill_at: tuple[str, int] | None = None


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        status: ``right``, ``one clear line`` or ``failed``.
        reason: why it failed.
    """

    case: Case
    status: str
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)


def refused(*words: str) -> tuple[Expectation, ...]:
    """Only a refusal with ``words`` is right."""
    return (Refused(words),)


def listed(*words: str) -> tuple[Expectation, ...]:
    """A refusal by a tool that lists all that is wrong, ``words`` among it."""
    return (Refused(listed=words),)


def works(*checks: Check, says: tuple[str, ...] = ()) -> tuple[Expectation, ...]:
    """Only an outcome that passes ``checks`` is right."""
    return (Works(says, checks),)


def either(*expectations: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
    """Any of them is right."""
    return tuple(e for group in expectations for e in group)


def then(*builds: Build) -> Build:
    """One after the other."""

    def build(folder: Path) -> None:
        for part in builds:
            part(folder)

    return build
