"""Selection: the result of any method, and the one artefact that everything downstream exchanges.

A selection is one JSON file, which a person can read, beside one ``.npz`` of per-sample columns.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .core.cut import cut, kept_count, ranked_logit
from .core.objective import pressure
from .errors import DataError

if TYPE_CHECKING:
    from .core import AdaPruner

SCHEMA_VERSION = 1

#: Columns every selection has, one row a sample in the order of the sorted keys.
REQUIRED_COLUMNS = ("key", "digest", "kept")


@dataclass(frozen=True)
class Selection:
    """Which samples stay, how that was found, and of which data it is true.

    Attributes:
        method: what made it, ``adapruner`` or a peer's name.
        keep_ratio: c_r as asked, in (0, 1].
        seed: of the run that made it.
        datasets: data-set name → fingerprint of its keys and annotations.
        columns: per-sample arrays of shape (N,): ``key`` (str, sorted), ``digest`` (uint64, of the
            sample's annotations), ``kept`` (bool), and what the method knows besides
            (``logit``, ``last_loss``, ``mean_loss``, ``times_seen``, ``typical_loss``; or
            ``score``, lower is kept first). ``classes`` (str), where it is there, has the ids of
            the classes in each sample, ascending, with one space between them; crowd boxes are
            not counted.
        soft_ratio: r before the final cut, for methods that have one.
        config_digest: SHA-256 of the configuration that made it.
        parameters: what of the method is needed to rank its samples again.
        versions: library name → version.
        cut_from: the keep ratio of the run that this was cut from, where that is another one.
        excluded: key → why, of the samples that the run left out because they could not be used.
        class_names: what the ids in the column ``classes`` mean.
        digest_of: ``bytes`` where a digest is of the class and the bytes of the image's file; empty
            for what detection takes, and in files of version 0.1.
        num_threads: that PyTorch used in the run; 0 where unknown.
    """

    method: str
    keep_ratio: float
    seed: int
    datasets: Mapping[str, str]
    columns: Mapping[str, np.ndarray]
    soft_ratio: float | None = None
    config_digest: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cut_from: float | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    digest_of: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED_COLUMNS if name not in self.columns]
        if missing:
            raise ValueError(f"a selection needs the columns {missing}")
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of a selection differ in length: {lengths}")
        keys = self.columns["key"]
        if np.any(keys[1:] <= keys[:-1]):
            raise ValueError("the keys of a selection must be sorted and distinct")

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.columns["key"])

    @property
    def num_kept(self) -> int:
        """K."""
        return int(np.count_nonzero(self.columns["kept"]))

    @cached_property
    def kept_keys(self) -> frozenset[str]:
        """The keys that stay."""
        return frozenset(self.columns["key"][self.columns["kept"].astype(bool)].tolist())

    def lost_classes(self) -> list[str]:
        """The names of the classes that have samples, but none that stays.

        A class without a name is ``class 3``. Empty where the column ``classes`` is not there.
        """
        if "classes" not in self.columns:
            return []
        classes = self.columns["classes"]
        lost = _class_ids(classes) - _class_ids(classes[self.columns["kept"].astype(bool)])
        names = self.class_names
        return [names[i] if i < len(names) else f"class {i}" for i in sorted(lost)]

    def unseen_keys(self) -> list[str]:
        """The keys whose loss was never finite; empty where the method has no losses."""
        if "times_seen" not in self.columns:
            return []
        return self.columns["key"][self.columns["times_seen"] == 0].tolist()

    def with_dataset_name(self, name: str) -> Selection:
        """The same samples of the same data set, which is called ``name``.

        Raises:
            DataError: a selection of several data sets, or an empty name.
        """
        if len(self.datasets) != 1 or not name:
            raise DataError(
                f"a selection of the data sets {', '.join(self.datasets)} cannot be read as one "
                f"of {name!r}: it must be of one data set, and that must have a name"
            )

        def renamed(key: str) -> str:
            return f"{name}/{key.rpartition('/')[2]}"

        keys = [renamed(key) for key in self.columns["key"].tolist()]
        return replace(
            self,
            datasets={name: fingerprint(keys, self.columns["digest"].tolist())},
            columns={**self.columns, "key": np.array(keys)},
            excluded={renamed(key): why for key, why in self.excluded.items()},
        )

    def cut(self, keep_ratio: float) -> Selection:
        """The same run cut at another keep ratio; cuts of one run are nested.

        Samples whose loss was never finite are the last to be kept.

        Raises:
            DataError: a keep ratio outside (0, 1], or a selection without columns that rank.
        """
        check_keep_ratio(keep_ratio)
        kept = cut(*self._ranking(), kept_count(self.num_samples, keep_ratio))
        return replace(
            self,
            keep_ratio=keep_ratio,
            columns={**self.columns, "kept": kept},
            cut_from=self.keep_ratio if self.cut_from is None else self.cut_from,
        )

    def check(self, keys: Sequence[str], digests: np.ndarray) -> None:
        """Refuse data other than the selection was made from.

        Args:
            keys: the data's keys of the selection's data sets, sorted.
            digests: (N,) uint64, of each key's annotations.

        Raises:
            DataError: naming the first three keys that differ.
        """
        mine = dict(zip(self.columns["key"].tolist(), self.columns["digest"].tolist(), strict=True))
        other = dict(zip(keys, np.asarray(digests).tolist(), strict=True))
        if mine == other:
            return
        differing = sorted(k for k in mine.keys() | other.keys() if mine.get(k) != other.get(k))
        shown = ", ".join(f"{k} ({_difference(k, mine, other)})" for k in differing[:3])
        raise DataError(
            f"the selection was made from other data: {len(differing)} of {len(mine)} samples "
            f"differ, first {shown}; use the data it was made from, or prune this data anew"
        )

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (.json) and its ``.npz``, each under a temporary name first."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_file(path.with_suffix(".npz"), lambda f: _write_npz(f, self.columns))
        _replace_file(path, lambda f: f.write(self._to_json().encode()))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: a file that is not there, is not a selection, is of another schema version,
                or whose ``.npz`` does not belong to it.
        """
        path = Path(path)
        header = _read_header(path)
        columns = _read_npz(path.with_suffix(".npz"))
        try:
            kept = header.pop("kept")
            selection = cls(columns=columns, **header)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not a selection: {error}") from error
        if set(kept) != selection.kept_keys:
            raise DataError(
                f"{path} and {path.with_suffix('.npz')} disagree on the kept keys: "
                "they are not from the same run; copy both files of one selection together"
            )
        return selection

    def _to_json(self) -> str:
        header = {k: v for k, v in self.__dict__.items() if k in _HEADER_FIELDS}
        counts = {
            "num_samples": self.num_samples,
            "num_kept": self.num_kept,
            "keep_ratio_reached": self.num_kept / self.num_samples,
        }
        body = {"schema_version": SCHEMA_VERSION, **header, **counts}
        return json.dumps({**body, "kept": sorted(self.kept_keys)}, indent=1) + "\n"

    def _ranking(self) -> tuple[np.ndarray, np.ndarray]:
        """(logit, score), as :func:`core.cut.cut` takes them."""
        if "logit" in self.columns:
            typical = self.columns.get(
                "typical_loss", np.float32(self.parameters.get("typical_loss", 1.0))
            )
            terms = self.parameters.get("pressure_terms", {})
            logit = self.columns["logit"]
            if "times_seen" in self.columns:
                logit = ranked_logit(logit, self.columns["times_seen"])
            return logit, pressure(self.columns["mean_loss"] / typical, **terms)
        if "score" in self.columns:
            return np.zeros(self.num_samples), self.columns["score"]
        raise DataError(
            f"a selection by {self.method!r} without the columns 'logit' or 'score' has no order "
            "to cut another keep ratio from"
        )


_HEADER_FIELDS = tuple(f for f in Selection.__dataclass_fields__ if f != "columns")


def learned_selection(
    pruner: AdaPruner,
    *,
    keys: Sequence[str],
    digests: np.ndarray,
    datasets: Mapping[str, str],
    seed: int,
    config_digest: str,
    libraries: Iterable[str] = (),
    excluded: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    classes: Sequence[Iterable[int]] | None = None,
    digest_of: str = "",
) -> Selection:
    """What a finished run of ``pruner`` hands back.

    A collective call where several processes train.

    Args:
        pruner: the mask over the N samples of ``keys``.
        keys: the N sorted keys.
        digests: (N,) uint64, of each sample's annotations.
        datasets: data-set name → fingerprint.
        seed: of the run.
        config_digest: of the run's configuration.
        libraries: further ones whose versions decide the outcome.
        excluded: key → why, of the samples that were left out.
        class_names: of the classes in ``classes``.
        classes: the ids of the classes in each of the N samples, without those of crowd boxes.
        digest_of: what a digest is of, as :class:`Selection` has it.
    """
    kept = pruner.select()
    names = ("logit", "last_loss", "mean_loss", "times_seen")
    columns = {name: pruner.mask.full_column(name) for name in names}
    parameters = pruner.ranking_parameters()
    typical = pruner.typical_losses()
    if typical.ndim:
        columns["typical_loss"] = typical
    else:
        parameters["typical_loss"] = float(typical)
    return Selection(
        method="adapruner",
        keep_ratio=pruner.keep_ratio,
        seed=seed,
        datasets=datasets,
        columns={
            "key": np.array(keys),
            "digest": digests,
            "kept": kept,
            **columns,
            **class_column(classes),
        },
        soft_ratio=pruner.status().ratio,
        config_digest=config_digest,
        parameters=parameters,
        versions=library_versions("adapruner-det", "torch", "numpy", *libraries),
        excluded=dict(excluded or {}),
        class_names=tuple(class_names),
        digest_of=digest_of,
        num_threads=torch.get_num_threads(),
    )


def class_column(classes: Iterable[Iterable[int]] | None) -> dict[str, np.ndarray]:
    """The column ``classes`` from the class ids of each sample; none where they are not known."""
    if classes is None:
        return {}
    words = [" ".join(str(int(c)) for c in sorted(set(own))) for own in classes]
    return {"classes": np.array(words, dtype=np.str_)}


def lost_classes_line(selection: Selection) -> str:
    """One sentence that names the classes without a kept image, at most ten; empty if all stay."""
    lost = selection.lost_classes()
    if not lost:
        return ""
    names = ", ".join(name if name.isprintable() else repr(name) for name in lost[:10])
    more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
    return (
        f"the selection keeps no image of {len(lost)} class(es): {names}{more}; "
        "a model that is trained on it cannot learn them"
    )


def library_versions(*names: str) -> dict[str, str]:
    """The installed version of each library, or ``unknown``."""
    return {name: _version(name) for name in names}


def check_keep_ratio(keep_ratio: float) -> None:
    """Raise a DataError unless ``keep_ratio`` is in (0, 1]."""
    if not 0.0 < keep_ratio <= 1.0:
        raise DataError(
            f"the keep ratio is {keep_ratio}; it must lie in (0, 1]: 0.9 keeps nine images in ten"
        )


def digest(text: str) -> int:
    """64 bits of SHA-256, as an unsigned integer."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def fingerprint(keys: Iterable[str], digests: Iterable[int]) -> str:
    """SHA-256 over keys and their annotation digests, in hexadecimal."""
    total = hashlib.sha256()
    for key, value in zip(keys, digests, strict=True):
        total.update(f"{key} {int(value):016x}\n".encode())
    return total.hexdigest()


def _class_ids(column: np.ndarray) -> set[int]:
    """The ids in a column ``classes``, of any length."""
    return {int(word) for words in np.unique(column).tolist() for word in words.split()}


def _difference(key: str, mine: dict[str, int], other: dict[str, int]) -> str:
    if key not in other:
        return "missing here"
    return "not in the selection" if key not in mine else "annotated otherwise"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _replace_file(path: Path, write: Any) -> None:
    """Write to a temporary file beside ``path`` and rename: it is whole or not there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _write_npz(file: Any, columns: Mapping[str, np.ndarray]) -> None:
    # numpy 2.0's savez has no allow_pickle and would save that as a column, so it is checked here.
    if any(column.dtype.hasobject for column in columns.values()):
        raise ValueError("a selection's columns must be plain arrays, not Python objects")
    np.savez_compressed(file, **columns)  # type: ignore[arg-type]


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(
            f"there is no selection at {path}; make one with tools/prune_net.py"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not a selection: {error}") from error
    version = header.get("schema_version") if isinstance(header, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: "
            "give it the .json that tools/prune_net.py wrote"
        )
    return {k: v for k, v in header.items() if k in _HEADER_FIELDS or k == "kept"}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} is missing; it belongs to the .json beside it") from None
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
