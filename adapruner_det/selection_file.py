"""The two files of a selection: how they are written, and what is checked before they are used.

A selection may come from a stranger: nothing in it is used before its type, range and size are
known, and its arrays are never larger than their file can hold.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from .core.cut import kept_count, ranking, ranks
from .errors import DataError, one_line
from .files import write_whole

SCHEMA_VERSION = 2

#: What :func:`read` takes; version 1 is that of release 0.1, which had no ``score`` of its own.
READABLE_VERSIONS = (1, 2)

#: Columns every selection has, one row a sample in the order of the sorted keys.
REQUIRED_COLUMNS = ("key", "digest", "kept", "score")

MAX_COLUMNS = 64
MAX_TEXT = 8192  # characters of one entry of a column
MAX_HEADER = 1 << 24  # bytes of JSON that a selection may have whatever its .npz
JSON_PER_NPZ = 64  # and how many times the size of the .npz besides: it names the kept keys
SLACK = 1 << 16

#: The types of the columns that are known, as numpy's kinds. Others may be of any plain type.
_KINDS = {
    "key": "U",
    "digest": "u",
    "kept": "bu",
    "logit": "f",
    "last_loss": "f",
    "mean_loss": "f",
    "typical_loss": "f",
    "times_seen": "iu",
    "score": "fiu",
    "classes": "U",
    "why": "U",
}
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_CLASSES = re.compile(r"[0-9]{1,9}( [0-9]{1,9})*")


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
        body = {**header, "npz_sha256": _sha256(new), "kept": list(kept)}
        text = json.dumps(body, indent=1, allow_nan=False, default=np.generic.item) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))
    except BaseException:
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
        _check_counts(header, columns)
    return header, columns


def check_header(header: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first value of ``header`` that cannot be meant."""
    for name in ("method", "keep_ratio", "seed", "datasets"):
        if name not in header:
            raise ValueError(f"it has no {name!r}")
    for name, (fits, wanted) in _FIELDS.items():
        if name in header and not fits(header[name]):
            raise ValueError(f"{name} is {_shown(header[name])}; it must be {wanted}")


def check_columns(columns: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first column of a selection that cannot be used or ranked by.

    Args:
        columns: the arrays (N,).
        header: for the names of the data sets, the keep ratio and the parameters.
    """
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            raise ValueError(f"it has no column {name!r}")
    n = len(columns["key"])
    for name, column in columns.items():
        _check_type(name, column.dtype)
        if column.shape != (n,):
            raise ValueError(f"the column {name!r} has shape {column.shape} for {n} keys")
    if columns["kept"].dtype != bool or columns["kept"].view(np.uint8).max(initial=0) > 1:
        raise ValueError("the column 'kept' has values other than true and false")
    kept = int(np.count_nonzero(columns["kept"]))
    if not n or kept != kept_count(n, header["keep_ratio"]):
        raise ValueError(f"it keeps {kept} of {n} samples at the keep ratio {header['keep_ratio']}")
    _check_values(columns)
    for key in columns["key"].tolist():
        dataset, _, image_id = key.rpartition("/")
        if dataset not in header["datasets"] or not image_id:
            raise ValueError(f"the key {_shown(key)} is not <data set>/<image id> of its data sets")
    for words in np.unique(columns["classes"]).tolist() if "classes" in columns else ():
        if not _are_classes(words):
            raise ValueError(f"the classes {_shown(words)} are not rising ids with a space between")


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
    if not _rank(parameters):
        raise ValueError(
            "its parameters must have 'pressure_terms' that are true or false and a "
            "'typical_loss' above 0"
        )
    _check_values(columns)
    order = ranking(
        columns["logit"],
        columns["mean_loss"],
        columns.get("typical_loss", np.array(parameters.get("typical_loss", 1.0), np.float32)),
        columns.get("times_seen"),
        parameters.get("pressure_terms", {}),
    )
    return {**columns, "score": ranks(*order)}


def _check_values(columns: Mapping[str, np.ndarray]) -> None:
    """Whatever is ordered by has an order."""
    for name, fits, wanted in (
        ("logit", np.isfinite, "finite"),
        ("mean_loss", lambda x: np.isfinite(x) & (x >= 0), "0 or more"),
        ("typical_loss", lambda x: np.isfinite(x) & (x > 0), "above 0"),
        ("score", lambda x: ~np.isnan(x), "a number"),
        ("times_seen", lambda x: x >= 0, "0 or more"),
    ):
        if name in columns and not (fit := fits(columns[name])).all():
            row = int(np.argmin(fit))
            raise ValueError(f"{name} of sample {row} is {columns[name][row]}; it must be {wanted}")


def _are_classes(words: str) -> bool:
    """Whether an entry of the column ``classes`` is written as it must be."""
    if not words:
        return True
    if not _CLASSES.fullmatch(words):
        return False
    return words == " ".join(map(str, sorted({int(word) for word in words.split(" ")})))


def _check_type(name: str, dtype: np.dtype[Any]) -> None:
    if not name.isidentifier():
        raise ValueError(f"the column {_shown(name)} has no proper name")
    sizes = {"U": range(4, 4 * MAX_TEXT + 1), "f": (4, 8)}.get(dtype.kind, (1, 2, 4, 8))
    sizes = {"digest": (8,), "kept": (1,)}.get(name, sizes)
    if dtype.kind not in _KINDS.get(name, "biufU") or dtype.itemsize not in sizes:
        raise ValueError(f"the column {name!r} is of type {dtype.str}")


def _check_counts(header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
    """What the JSON says of the columns for people is so."""
    keys, kept = columns["key"], columns["kept"].astype(bool)
    if header["num_kept"] != np.count_nonzero(kept):
        raise ValueError(f"num_kept is {header['num_kept']}; {np.count_nonzero(kept)} are kept")
    if abs(header.get("keep_ratio_reached", kept.mean()) - kept.mean()) > 1e-6:
        raise ValueError(f"keep_ratio_reached is {header['keep_ratio_reached']}, not {kept.mean()}")
    if sorted(header["kept"]) != keys[kept].tolist():
        raise ValueError(
            "it and its .npz disagree on the kept keys: they are not from the same run; "
            "copy both files of one selection together"
        )


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
            f"{path} has schema version {_shown(version)}, this program reads "
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
                if wanted is None or _hash(file) == wanted:
                    return _read_npz(file, size, header["num_samples"])
    if not npz.exists():
        raise DataError(f"{npz} is missing; it belongs to the .json beside it")
    raise DataError(
        f"{npz} is not what {path} was written with: it is damaged, or they are not from the same "
        "run; copy both files of one selection together"
    )


def _read_npz(file: IO[bytes], size: int, num_samples: int) -> dict[str, np.ndarray]:
    """The arrays in ``file``, of ``size`` bytes: all headers are checked, then the first is read.

    A digest is 8 bytes that nothing compresses, so a file of few bytes has few samples, and of the
    longest texts in them no more than what deflate makes of the file, some thousand times its size.
    """
    if 4 * num_samples > size + SLACK:
        raise ValueError(f"a file of {size} bytes cannot hold {num_samples} samples")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_members(members, size)
        types = [_column_type(archive, member, num_samples) for member in members]
        return {
            member.filename.removesuffix(".npy"): _column(archive, member, dtype, num_samples)
            for member, dtype in zip(members, types, strict=True)
        }


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MAX_COLUMNS:
        raise ValueError(f"it has {len(members)} entries; a selection has at most {MAX_COLUMNS}")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise ValueError("it has two entries of one name")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("its entries overlap")
    for member in members:
        if not re.fullmatch(r"\w{1,64}\.npy", member.filename):
            raise ValueError(f"its entry {_shown(member.filename)} is no column")
        if member.comment or len(member.extra) > 32:  # where a wrong length hides other entries
            raise ValueError(f"its entry {member.filename} has a comment")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its entry {member.filename} is compressed in an unknown way")


def _column_type(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, num_samples: int
) -> np.dtype[Any]:
    """The type of a column from its header alone, where its shape and size are what they must be.

    A few kilobytes are decompressed.
    """
    with archive.open(member) as stream:
        shape, dtype = _array_header(stream)
        start = stream.tell()
    name = member.filename.removesuffix(".npy")
    _check_type(name, dtype)
    if shape != (num_samples,):
        raise ValueError(f"its column {name!r} has shape {_shown(shape)} for {num_samples} samples")
    if member.file_size != start + num_samples * dtype.itemsize:
        raise ValueError(f"its column {name!r} claims {member.file_size} bytes")
    return dtype


def _column(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: np.dtype[Any], num_samples: int
) -> np.ndarray:
    """A column in this machine's order of bytes; zipfile checks its CRC."""
    with archive.open(member) as stream:
        _array_header(stream)
        array = np.frombuffer(bytearray(stream.read()), dtype, num_samples)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U" and array.view(np.uint32).max() > 0x10FFFF:
        raise ValueError(f"its column {member.filename!r} has characters that do not exist")
    return array


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type in a header of version 1.0, as numpy writes it for plain types."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"it has an array of format {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy and Python warn of headers that no one writes
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    return shape, dtype


def _npz_files(path: Path) -> tuple[Path, Path]:
    """Where the columns of the JSON ``path`` are, and where they are before that."""
    return path.with_suffix(".npz"), path.with_suffix(".npz.new")


def _complete(path: Path) -> None:
    """Do what a killed write had left to do, so that the next one may be killed as well."""
    npz, new = _npz_files(path)
    if new.is_file() and path.is_file() and _sha256(new).encode() in path.read_bytes():
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


def _sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return _hash(file)


def _hash(file: IO[bytes]) -> str:
    """SHA-256 in hexadecimal; the file is at its start again after it."""
    total = hashlib.sha256()
    while block := file.read(1 << 20):
        total.update(block)
    file.seek(0)
    return total.hexdigest()


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
        raise ValueError(f"the name {_shown(twice)} is there twice")
    return found


def _refuse_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{_shown(word)} is too large")
    return value


def _shown(value: Any) -> str:
    """As it would stand in a program, but never long."""
    return _REPR.repr(value)


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float, np.integer, np.floating))
    return plain and not isinstance(value, bool) and abs(value) <= 1e300


def _is_ratio(value: Any) -> bool:
    return _is_number(value) and 0.0 < value <= 1.0


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, (int, np.integer)) and abs(int(value)) < 2**64


def _is_count(value: Any) -> bool:
    return _is_whole(value) and int(value) > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _is_text_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()]))


def _are_parameters(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _rank(value: Mapping[str, Any]) -> bool:
    """Whether parameters of version 1 say how a mean loss becomes what orders samples."""
    terms, typical = value.get("pressure_terms", {}), value.get("typical_loss", 1.0)
    float32 = np.finfo(np.float32)
    return (
        isinstance(terms, Mapping)
        and set(terms) <= {"use_classification", "use_selection"}
        and all(isinstance(term, bool) for term in terms.values())
        and _is_number(typical)
        and float(float32.tiny) <= typical <= float(float32.max)
    )


#: Field → whether a value can be meant, and what it must be.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": (lambda v: _is_text(v) and v != "", "a name"),
    "keep_ratio": (_is_ratio, "a number in (0, 1]"),
    "seed": (_is_whole, "a whole number"),
    "datasets": (lambda v: _is_text_map(v) and len(v) > 0, "data-set names with fingerprints"),
    "soft_ratio": (
        lambda v: v is None or (_is_number(v) and -0.01 <= v <= 1.01),
        "null or a number from 0 to 1",
    ),
    "config_digest": (_is_text, "a text"),
    "parameters": (_are_parameters, "an object"),
    "versions": (_is_text_map, "library names with versions"),
    "cut_from": (lambda v: v is None or _is_ratio(v), "null or a number in (0, 1]"),
    "excluded": (_is_text_map, "keys with reasons"),
    "class_names": (_is_text_list, "a list of names"),
    "digest_of": (lambda v: v in ("", "bytes", "pixels"), "'', 'bytes' or 'pixels'"),
    "num_threads": (lambda v: _is_whole(v) and int(v) >= 0, "a whole number, 0 or more"),
    "command": (_is_text, "a text"),
    "num_samples": (_is_count, "a whole number above 0"),
    "num_kept": (_is_count, "a whole number above 0"),
    "keep_ratio_reached": (_is_number, "a number"),
    "npz_sha256": (_is_text, "a SHA-256"),
    "kept": (_is_text_list, "a list of keys"),
}
