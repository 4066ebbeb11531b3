"""Selection: the result of any method, and the one artefact that everything downstream exchanges.

A selection is one JSON file, which a person can read, beside one ``.npz`` of per-sample columns.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from . import selection_file
from .core.cut import cut, kept_count
from .core.ends import end_missed
from .errors import DataError, shown
from .samples import Samples, fingerprint
from .selection_checks import REQUIRED_COLUMNS, check_columns, check_header

#: The parameter of a run's selection that waits for what ``auto`` finds out.
UNSETTLED = "unsettled"


@dataclass(frozen=True)
class Selection:
    """Which samples stay, how that was found, and of which data it is true.

    Attributes:
        method: what made it, ``adapruner`` or a peer's name.
        keep_ratio: c_r as asked, in (0, 1].
        seed: of the run that made it.
        datasets: data-set name → fingerprint of its keys and annotations.
        columns: per-sample arrays of shape (N,): ``key`` (str, sorted), ``digest`` (uint64, of the
            sample's image and annotations), ``kept`` (bool), ``score`` (lower is kept first, and
            of equal ones the smaller key), and what the method knows besides, such as
            ``mean_loss``, ``times_seen`` and ``logit``. ``why`` (str), where it is there, says why
            a sample was dropped; a cut at another ratio leaves it out. ``classes`` (str), where it
            is there, has the ids of the classes in each sample, ascending, with one space between
            them; crowd boxes are not counted.
        soft_ratio: r before the final cut, for methods that have one.
        config_digest: SHA-256 of the configuration that made it.
        parameters: plain values that describe the method's run.
        versions: library name → version.
        cut_from: the keep ratio of the run that this was cut from, where that is another one.
        excluded: key → why, of the samples that the run left out because they could not be used.
        class_names: what the ids in the column ``classes`` mean.
        digest_of: ``bytes`` where a digest is of the annotations and the bytes of the image's file,
            ``pixels`` where it is of those and the image as it lay in memory; empty where the
            annotations alone are known, and in files of version 0.1.
        num_threads: that PyTorch used in the run; 0 where unknown.
        command: that made it, as it was given, without what changes nothing of what comes out:
            where it reads and writes, and whether it goes on with a run. Empty where it was made
            from Python, and in files that do not say it.
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
    command: str = ""

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

    def _repr_html_(self) -> str:
        """A small table, which Jupyter shows."""
        from .report.table import selection_table  # which knows this class

        return selection_table(self)

    @cached_property
    def kept_keys(self) -> frozenset[str]:
        """The keys that stay."""
        return frozenset(self.columns["key"][self.columns["kept"]].tolist())

    def lost_classes(self) -> list[str]:
        """The names of the classes that have samples, but none that stays.

        A class without a name is ``class 3``. Empty where the column ``classes`` is not there.
        """
        if "classes" not in self.columns:
            return []
        classes = self.columns["classes"]
        lost = _class_ids(classes) - _class_ids(classes[self.columns["kept"]])
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

        (old,) = self.datasets

        def renamed(key: str) -> str:
            return name + key.removeprefix(old) if key.startswith(f"{old}/") else key

        keys = [renamed(key) for key in self.columns["key"].tolist()]
        return replace(
            self,
            datasets={name: fingerprint(keys, self.columns["digest"].tolist())},
            columns={**self.columns, "key": np.array(keys)},
            excluded={renamed(key): why for key, why in self.excluded.items()},
        )

    def cut(self, keep_ratio: float) -> Selection:
        """The same run cut by its score at another keep ratio; cuts of one run are nested.

        At its own ratio it is the selection itself, which a class band, say, may have made of other
        samples than the score's first.

        Raises:
            DataError: a keep ratio outside (0, 1].
        """
        check_keep_ratio(keep_ratio)
        if keep_ratio == self.keep_ratio:
            return self
        n = self.num_samples
        kept = cut(np.zeros(n), self.columns["score"], kept_count(n, keep_ratio))
        return replace(
            self,
            keep_ratio=keep_ratio,
            columns={**{n: c for n, c in self.columns.items() if n != "why"}, "kept": kept},
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
        every = mine.keys() | other.keys()
        differing = sorted(k for k in every if mine.get(k) != other.get(k))
        shown = ", ".join(f"{k} ({_difference(k, mine, other)})" for k in differing[:3])
        raise DataError(
            f"the selection was made from other data: {len(differing)} of {len(every)} samples "
            f"differ, first {shown}; use the data it was made from, or prune this data anew"
        )

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (.json) and its ``.npz``.

        Whenever the process is killed, :meth:`load` finds the whole selection that was there
        before or the whole new one; see :func:`.selection_file.write`.

        Raises:
            ValueError: a selection that :meth:`load` would refuse.
            DataError: a disk that is full or closed to writing; what was there before stays.
        """
        path = Path(path)
        if any(column.dtype.hasobject for column in self.columns.values()):
            raise ValueError("a selection's columns must be plain arrays, not Python objects")
        header = {name: getattr(self, name) for name in _HEADER_FIELDS}
        check_header(header)
        check_columns(self.columns, header)
        header = {
            "schema_version": selection_file.SCHEMA_VERSION,
            **header,
            "num_samples": self.num_samples,
            "num_kept": self.num_kept,
            "keep_ratio_reached": self.num_kept / self.num_samples,
        }
        selection_file.write(path, header, sorted(self.kept_keys), self.columns)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read what :meth:`save` wrote, by this version or by release 0.1.

        Raises:
            DataError: files that are not there, are no selection or are damaged, and a ``.npz``
                that does not belong to its JSON. Nothing else, whatever is in the files.
        """
        path = Path(path)
        header, columns = selection_file.read(path)
        fields = {name: header[name] for name in _HEADER_FIELDS if name in header}
        fields["class_names"] = tuple(fields.get("class_names", ()))
        try:
            return cls(columns=columns, **fields)
        except ValueError as error:
            raise DataError(f"{path} is not a selection: {error}") from error


_HEADER_FIELDS = tuple(f for f in Selection.__dataclass_fields__ if f != "columns")


def part_of(samples: Samples, kept: np.ndarray, method: str = "part") -> Selection:
    """The selection that keeps the samples ``kept``, (N,) bool, whatever chose them."""
    return Selection(
        method=method,
        keep_ratio=float(np.mean(kept)),
        seed=0,
        datasets=samples.datasets,
        columns={
            "key": np.array(samples.keys),
            "digest": samples.digests,
            "kept": np.asarray(kept, dtype=bool),
            "score": (~np.asarray(kept, dtype=bool)).astype(np.float64),
            **class_column(samples.classes),
        },
        versions=library_versions("adapruner-det"),
        excluded=dict(samples.excluded),
        class_names=tuple(samples.class_names),
        digest_of=samples.digest_of,
    )


def class_column(classes: Iterable[Iterable[int]] | None) -> dict[str, np.ndarray]:
    """The column ``classes`` from the class ids of each sample; none where they are not known."""
    if classes is None:
        return {}
    words = [" ".join(str(int(c)) for c in sorted(set(own))) for own in classes]
    return {"classes": np.array(words, dtype=np.str_)}


def warnings_of(selection: Selection) -> list[str]:
    """What whoever makes use of a selection is to know, a sentence each."""
    lines = [lost_classes_line(selection), missed_line(selection)]
    if selection.parameters.get(UNSETTLED):
        lines.append(
            "which end to drop has not been found out, for the trainings that DROP auto takes were "
            "not finished: the run that made it goes on with --resume, or cut --drop names an end"
        )
    return [line for line in lines if line]


def lost_classes_line(selection: Selection) -> str:
    """One sentence that names the classes without a kept image, at most ten; empty if all stay."""
    lost = selection.lost_classes()
    if not lost:
        return ""
    names = ", ".join(map(shown, lost[:10]))
    more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
    return (
        f"the selection keeps no image of {len(lost)} class(es): {names}{more}; "
        "a model that is trained on it cannot learn them"
    )


def missed_line(selection: Selection) -> str:
    """One sentence where an end was to go of which there is nothing; empty if there is or none."""
    if selection.num_kept == selection.num_samples:
        return ""
    return end_missed(selection.parameters.get("drop", ""), selection.columns)


def library_versions(*names: str) -> dict[str, str]:
    """The installed version of each library, or ``unknown``."""
    return {name: _version(name) for name in names}


def check_keep_ratio(keep_ratio: float) -> None:
    """Raise a DataError unless ``keep_ratio`` is in (0, 1]."""
    if not 0.0 < keep_ratio <= 1.0:
        raise DataError(
            f"the keep ratio is {keep_ratio}; it must lie in (0, 1]: 0.9 keeps nine images in ten"
        )


def _class_ids(column: np.ndarray) -> set[int]:
    """The ids in a column ``classes``, of any length."""
    return {int(word) for words in np.unique(column).tolist() for word in words.split()}


def _difference(key: str, mine: dict[str, int], other: dict[str, int]) -> str:
    if key not in other:
        return "missing here"
    return "not in the selection" if key not in mine else "another image or annotated otherwise"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
