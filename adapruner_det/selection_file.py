"""The two files of a selection: written whole, read again, those of release 0.1 too.

A selection may come from a stranger: nothing in it is used before :mod:`.selection_checks` knows
its type and range, and no more of it is read than :mod:`.selection_npz` knows to be there.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

import json
import math
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .core.cut import ranking, ranks
from .errors import DataError, one_line
from .files import sha256, sha256_at, write_text, write_whole
from .selection_checks import (
    brief,
    can_rank,
    check_columns,
    check_counts,
    check_header,
    check_values,
)
from .selection_npz import read_columns

SCHEMA_VERSION = 2

#: What :func:`read` takes; version 1 is that of release 0.1, which had no ``score`` of its own.
READABLE_VERSIONS = (1, 2)

MAX_HEADER = 1 << 24  # bytes of JSON that a selection may have whatever its .npz
JSON_PER_NPZ = 64  # and how many times the size of the .npz besides: it names the kept keys


def write(
    path: Path, header: Mapping[str, Any], kept: Sequence[str], columns: Mapping[str, np.ndarray]
) -> None:
    """Write ``path`` (.json) and its ``.npz``.

    The columns go to ``<name>.npz.new`` first, then the JSON, which names their SHA-256, takes the
    place of the old one, then the columns take the place of the old ones. :func:`read` looks for
    the columns that the JSON names under both names. So whenever the process is killed, it finds
    the whole old selection or the whole new one: the old one until the JSON is renamed, the new one
    from then on. What a kill leaves of temporary files does no harm.

    Args:
        path: of the JSON; its folder is made.
        header: plain values.
        kept: the K keys that stay.
        columns: the arrays (N,).

    Raises:
        DataError: a disk that cannot be written to; the old selection is still there.
    """
    npz, new = _npz_files(path)
    if path.suffix == npz.suffix or npz.is_dir():
        raise DataError(f"{path} cannot be written: {npz} is in the way; choose another name")
    _complete(path)
    write_whole(new, lambda file: np.savez_compressed(file, **columns))  # type: ignore[arg-type]
    try:
        body = {**header, "npz_sha256": sha256_at(new), "kept": list(kept)}
        text = json.dumps(body, indent=1, allow_nan=False, default=np.generic.item) + "\n"
        write_text(path, text)
    except BaseException:
        _complete(path)  # Ctrl-C may come when the new JSON is there already
        new.unlink(missing_ok=True)
        raise
    try:
        new.replace(npz)
    except OSError as error:
        raise DataError(f"{new} cannot be renamed to {npz}: {error}; do that by hand") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`write` wrote, checked: the JSON's values, and the columns.

    Raises:
        DataError: whatever is wrong with either file, naming it.
    """
    if path.suffix == ".npz":
        raise DataError(f"{path} is the part of a selection for machines; give the .json beside it")
    with _blamed(path, "is not a selection"):
        size = _size(path)
        if size is None:
            raise DataError(
                f"there is no selection at {path}; make one with adapruner prune-net or "
                "adapruner prune-cls"
            )
        limit = MAX_HEADER + sum(JSON_PER_NPZ * _size_or_0(npz) for npz in _npz_files(path))
        if size > limit:
            raise ValueError(f"its {size} bytes are too many for the .npz beside it")
        header = _read_json(path, size)
        check_header(header)
    columns = _read_columns(path, header)
    with _blamed(path, "is not a selection"):
        if header["schema_version"] == 1:
            columns = _upgraded(columns, header)
        check_columns(columns, header)
        check_counts(header, columns)
    return header, columns


def _upgraded(columns: dict[str, np.ndarray], header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns of version 1 as they are now: ``kept`` as bool, and a ``score``.

    Raises:
        ValueError: columns without an order, or parameters that do not rank.
    """
    if "kept" in columns and columns["kept"].max(initial=0) <= 1:
        columns["kept"] = columns["kept"].astype(bool)
    if "score" in columns:
        return columns
    if not columns.keys() >= {"logit", "mean_loss"}:
        raise ValueError("nothing in it ranks its samples: no 'score', no 'logit' and 'mean_loss'")
    parameters = header.get("parameters", {})
    if not can_rank(parameters):
        raise ValueError(
            "its parameters must have 'pressure_terms' that are true or false and a "
            "'typical_loss' above 0"
        )
    check_values(columns)
    order = ranking(
        columns["logit"],
        columns["mean_loss"],
        columns.get("typical_loss", np.array(parameters.get("typical_loss", 1.0), np.float32)),
        columns.get("times_seen"),
        parameters.get("pressure_terms", {}),
    )
    return {**columns, "score": ranks(*order)}


def _read_json(path: Path, size: int) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(size)
    header = json.loads(
        data.decode("utf-8-sig"),
        object_pairs_hook=_object,
        parse_constant=_refuse_number,
        parse_float=_finite,
    )
    version = header.get("schema_version") if isinstance(header, dict) else None
    if isinstance(version, (bool, float)) or version not in READABLE_VERSIONS:
        raise DataError(
            f"{path} has schema version {brief(version)}, this program reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}: "
            "give it the .json that adapruner prune-net or adapruner prune-cls wrote"
        )
    for name in ("num_samples", "num_kept", "kept"):
        if name not in header:
            raise ValueError(f"it has no {name!r}")
    return header


def _read_columns(path: Path, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns that the JSON at ``path`` was written with, wherever a kill has left them."""
    wanted = header.get("npz_sha256")
    npz, new = _npz_files(path)
    # The first is looked at again, as a write that goes on meanwhile may have renamed the second.
    for place in (npz, new, npz) if wanted is not None else (npz,):
        with _blamed(place, "cannot be read"):
            size = _size(place)
            if size is None:
                continue
            with place.open("rb") as file:
                if wanted is None or sha256(file) == wanted:
                    return read_columns(file, size, header["num_samples"])
    if not npz.exists():
        raise DataError(f"{npz} is missing; it belongs to the .json beside it")
    raise DataError(
        f"{npz} is not what {path} was written with: it is damaged, or they are not from the same "
        "run; copy both files of one selection together"
    )


def _npz_files(path: Path) -> tuple[Path, Path]:
    """Where the columns of the JSON ``path`` are, and where they are before that."""
    return path.with_suffix(".npz"), path.with_suffix(".npz.new")


def _complete(path: Path) -> None:
    """Do what a killed write had left to do, so that the next one may be killed as well."""
    npz, new = _npz_files(path)
    if new.is_file() and path.is_file() and sha256_at(new).encode() in path.read_bytes():
        new.replace(npz)


def _size(path: Path) -> int | None:
    """In bytes; None where nothing is there. A pipe or a device, which never ends, is refused."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    return status.st_size


def _size_or_0(path: Path) -> int:
    """In bytes; 0 for what is no file."""
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _blamed(path: Path, fault: str) -> Iterator[None]:
    """Make of any error one of what the user gave, which names ``path``.

    What a stranger's file can make numpy, zipfile and json raise is not a list that one can write.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} {fault}: {one_line(error)[:300]}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON in which no name is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {brief(twice)} is there twice")
    return found


def _refuse_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{brief(word)} is too large")
    return value
