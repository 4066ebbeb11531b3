"""The one door for methods: what a method is shown, what it answers, and where it is registered.

A method is a function (evidence, keep ratio) → :class:`Choice`. It is registered by name, in this
package or another's (``docs/methods.md`` says how), and knows neither the task nor its framework.
Shape letters: N samples, B samples of a batch, M boxes of all samples, E epochs, D features,
C classes, K kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.cut import cut, kept_count
from ..errors import DataError, did_you_mean, one_line
from ..samples import Samples
from ..selection import Selection, check_keep_ratio, class_column, library_versions
from ..selection_checks import REQUIRED_COLUMNS

#: Where other packages announce their methods: name = "package.module", which registers it.
ENTRY_POINTS = "adapruner_det.methods"

#: What evidence may hold besides the signals of the losses.
FEATURES, PREDICTIONS, THUMBNAILS = "features", "predictions", "thumbnails"
#: What it holds besides where samples have boxes: these, and features of each.
BOXES, BOX_FEATURES = "boxes", "box_features"


class Guide(Protocol):
    """Stands in a training run: weights its losses and hears of them.

    Every process of a run has one and makes the same calls. AdaPruner is a guide, Recorder another.
    """

    @property
    def signals(self) -> frozenset[str]:
        """What :meth:`observe` wants besides the loss; a task refuses what it cannot give."""

    def weights(self, ids: Tensor | np.ndarray) -> Tensor:
        """What multiplies the losses of the samples ``ids`` (B,): (B,) float32, detached."""

    def observe(
        self, ids: Tensor | np.ndarray, losses: Tensor | np.ndarray, **signals: Any
    ) -> np.ndarray:
        """Take the losses (B,) of a batch, and (B, ...) of each signal; the ids it refused."""

    def end_epoch(self) -> object:
        """Close an epoch; what it returns reads as one line of a log."""

    def scalars(self) -> Mapping[str, float]:
        """What a progress bar and TensorBoard show of it now."""

    def state_dict(self) -> dict[str, Any]:
        """All that changes while training, as tensors and plain Python. A collective call."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class Evidence(Protocol):
    """What a task shows a method. Costly parts are made when asked for, once a seed, and kept.

    Attributes:
        samples: the N samples.
        seed: of the run.
        options: the node ADAPRUNER of the configuration.
        epochs: that a training on all samples has.
        offers: the signals that :meth:`signal` can give, and of ``features``, ``predictions``,
            ``thumbnails``, ``boxes`` (of the samples) and ``box_features`` those that can be had.
    """

    samples: Samples
    seed: int
    options: Mapping[str, Any]
    epochs: int
    offers: frozenset[str]

    def train(self, guide: Guide) -> None:
        """One run of the task's model on all samples, under ``guide``."""

    def signal(self, name: str) -> np.ndarray:
        """(E, N, ...) float32 of a run without weights; NaN where a sample was not seen."""

    def features(self, source: str = "model") -> np.ndarray:
        """(N, D) float32: of the trained model's last layer but one, or ``thumbnails``.

        Of ``box_features`` it is (M, D), one row a box, in the order of the samples and of the
        boxes of each.
        """

    def predictions(self) -> Any:
        """Of the trained model: (N, C) probabilities, or the detections of each image."""

    def respond(self, kept: np.ndarray, held: np.ndarray, seed: int) -> tuple[float, float]:
        """Train on some samples and evaluate on others, never on the test set.

        Args:
            kept: (N,) bool, trained on.
            held: (N,) bool, evaluated on.
            seed: of the training.

        Returns:
            What the evaluation gave, higher is better, and the seconds of training.
        """


@dataclass(frozen=True)
class Choice:
    """What a method answers.

    Attributes:
        score: (N,) without NaN; lower is kept first, and of equal ones the smaller index.
        kept: (N,) bool with exactly round(c_r·N) true, of a method that chooses a set; None cuts
            by the score.
        columns: name → (N,), what the method knows besides.
        soft_ratio: r before the final cut, of a method that has one.
        parameters: plain values that describe the run.
    """

    score: np.ndarray
    kept: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    soft_ratio: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _nothing(options: Mapping[str, Any]) -> Iterable[str]:
    return ()


def _anything(options: Mapping[str, Any], samples: Samples, epochs: int, keep_ratio: float) -> None:
    pass


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: what it is called in flags, files and tables.
        choose: (evidence, keep ratio) → its choice.
        needs: what of the evidence it cannot do without.
        one_class: whether every sample must have exactly one class.
        epochs: how many the training has at least; one, where it needs anything of a training.
        options: what it reads of the node ADAPRUNER; a grid refuses to set another for it.
        wants: the node ADAPRUNER → what it reads besides where the task gives that.
        check: (the node, samples, epochs of a training, keep ratio) → a DataError for what it could
            not do, which a grid asks before the first training.
        per_ratio: whether another keep ratio takes another call, and perhaps another training;
            otherwise all ratios are cuts of one score.
    """

    name: str
    choose: Callable[[Evidence, float], Choice]
    needs: frozenset[str] = frozenset()
    per_ratio: bool = False
    one_class: bool = False
    epochs: int = 0
    options: frozenset[str] = frozenset()
    wants: Callable[[Mapping[str, Any]], Iterable[str]] = _nothing
    check: Callable[[Mapping[str, Any], Samples, int, float], None] = _anything

    def reads(self, options: Mapping[str, Any], offers: Iterable[str]) -> frozenset[str]:
        """What of the evidence is to be made for it, with these options, where there is ``offers``.

        The boxes are with the samples already.
        """
        return (self.needs | (frozenset(self.wants(options)) & frozenset(offers))) - {BOXES}


_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    needs: Iterable[str] = (),
    per_ratio: bool = False,
    one_class: bool = False,
    epochs: int = 0,
    options: Iterable[str] = (),
    wants: Callable[[Mapping[str, Any]], Iterable[str]] = _nothing,
    check: Callable[[Mapping[str, Any], Samples, int, float], None] = _anything,
) -> Callable[[Callable[[Evidence, float], Choice]], Callable[[Evidence, float], Choice]]:
    """Decorate a function (evidence, keep ratio) → Choice to be found under ``name``.

    The arguments are those of :class:`Method`.

    Raises:
        ValueError: a name that another function has already.
    """

    def add(choose: Callable[[Evidence, float], Choice]) -> Callable[[Evidence, float], Choice]:
        known = _METHODS.get(name)
        # By name: a module that is loaded anew registers another object of the same function.
        if known is not None and _full_name(known.choose) != _full_name(choose):
            raise ValueError(f"there is a method {name!r} already: {_full_name(known.choose)}")
        _METHODS[name] = Method(
            name=name,
            choose=choose,
            needs=frozenset(needs),
            per_ratio=per_ratio,
            one_class=one_class,
            epochs=epochs,
            options=frozenset(options),
            wants=wants,
            check=check,
        )
        return choose

    return add


def _full_name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


class Dynamic(Guide, Protocol):
    """A guide that prunes anew in every epoch, so that it makes no selection.

    Attributes:
        images: how many samples had a weight, on the mean of the epochs that have ended.
    """

    @property
    def images(self) -> int: ...


_DYNAMIC: dict[str, Callable[[int, int, int], Dynamic]] = {}


def register_dynamic(name: str) -> Callable[[type[Any]], type[Any]]:
    """Decorate a class, which is made of (N, epochs, seed), to be found under ``name``.

    It is a reference that a comparison has beside its methods, and never one of them.
    """

    def add(made: type[Any]) -> type[Any]:
        _DYNAMIC[name] = made
        return made

    return add


def dynamic_names() -> list[str]:
    """The names of all dynamic references, sorted."""
    return sorted(_DYNAMIC)


def get_dynamic(name: str) -> Callable[[int, int, int], Dynamic]:
    """What makes the dynamic reference of that name, of (N, epochs, seed).

    Raises:
        DataError: a name that none has.
    """
    if name not in _DYNAMIC:
        known = ", ".join(dynamic_names())
        raise DataError(f"there is no dynamic reference {name!r}; there are {known}")
    return _DYNAMIC[name]


def method_names() -> list[str]:
    """The names of all methods, those of other packages among them, sorted."""
    return sorted({*_METHODS, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def get_method(name: str) -> Method:
    """The method of that name; one of another package is imported.

    Raises:
        DataError: a name that no method has or two have, or a package that cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                point.load()  # which registers it, or says that the name is taken
            except Exception as error:  # what another package raises is its own
                raise DataError(
                    f"the method {name!r} of {point.value} cannot be loaded: {one_line(error)}"
                ) from error
    if name not in _METHODS:
        names = method_names()
        raise DataError(
            f"there is no method {name!r}; {did_you_mean(name, names, 3)}"
            f"there are {', '.join(names)} "
            f"(another package registers its own under the entry point {ENTRY_POINTS})"
        )
    return _METHODS[name]


def choose(method: Method, evidence: Evidence, keep_ratio: float) -> Choice:
    """The checked choice of ``method``.

    Raises:
        DataError: a keep ratio outside (0, 1], or evidence that lacks what the method needs or is
            of too short a training.
        ValueError: no Choice, or one of a wrong shape, with a NaN, with a column that a selection
            has of its own, or that keeps another number.
    """
    check_keep_ratio(keep_ratio)
    require_offered(method, evidence.offers)
    require_epochs(method, evidence.epochs)
    choice = method.choose(evidence, keep_ratio)
    _check(choice, method.name, len(evidence.samples), keep_ratio)
    return choice


def require_offered(method: Method, offers: Iterable[str]) -> None:
    """Raise a DataError, with the names, unless ``offers`` has all that ``method`` needs."""
    offers = set(offers)
    if missing := sorted(method.needs - offers):
        raise DataError(
            f"the method {method.name!r} needs {', '.join(missing)}, which this task does not "
            f"give; it gives {', '.join(sorted(offers)) or 'nothing but the loss'}"
        )


def require_epochs(method: Method, epochs: int) -> None:
    """Raise a DataError unless a training of so many ``epochs`` is enough for ``method``."""
    least = max(method.epochs, int(bool(method.needs - {BOXES, THUMBNAILS})))
    if epochs < least:
        raise DataError(
            f"the method {method.name!r} needs a training of at least {least} epoch(s); this one "
            f"has {epochs}"
        )


def require_one_class(name: str, samples: Samples) -> None:
    """Raise a DataError unless every sample has exactly one class, as the method ``name`` needs."""
    if (wrong := np.flatnonzero(samples.sizes != 1)).size:
        first = wrong[0]
        raise DataError(
            f"the method {name!r} needs exactly one class a sample, and {wrong.size} of "
            f"{len(samples)} have none or several, first {samples.keys[first]} with "
            f"{samples.sizes[first]}; choose a method that does not ask for classes"
        )


def select(
    name: str,
    evidence: Evidence,
    keep_ratio: float,
    *,
    config_digest: str = "",
    libraries: Sequence[str] = (),
) -> Selection:
    """The selection that the method ``name`` makes of ``evidence``.

    Args:
        name: of a registered method.
        evidence: of the data, the model and the seed.
        keep_ratio: c_r in (0, 1].
        config_digest: of the configuration behind the evidence.
        libraries: further ones whose versions decide the outcome.

    Raises:
        DataError: what :func:`get_method` and :func:`choose` raise.
    """
    choice = choose(get_method(name), evidence, keep_ratio)
    return make_selection(
        choice,
        evidence.samples,
        method=name,
        keep_ratio=keep_ratio,
        seed=evidence.seed,
        config_digest=config_digest,
        libraries=libraries,
    )


def make_selection(
    choice: Choice,
    samples: Samples,
    *,
    method: str,
    keep_ratio: float,
    seed: int,
    config_digest: str = "",
    libraries: Sequence[str] = (),
) -> Selection:
    """``choice`` as the artefact that everything downstream reads.

    Args:
        choice: of the N samples, checked.
        samples: what was chosen from.
        method: what chose.
        keep_ratio: c_r in (0, 1].
        seed: of the run.
        config_digest: of the run's configuration.
        libraries: further ones whose versions decide the outcome.
    """
    kept = choice.kept
    if kept is None:
        kept = cut(np.zeros(len(samples)), choice.score, kept_count(len(samples), keep_ratio))
    return Selection(
        method=method,
        keep_ratio=keep_ratio,
        seed=seed,
        datasets=samples.datasets,
        columns={
            "key": np.array(samples.keys),
            "digest": samples.digests,
            "kept": kept,
            "score": choice.score,
            **choice.columns,
            **class_column(samples.classes),
        },
        soft_ratio=choice.soft_ratio,
        config_digest=config_digest,
        parameters=choice.parameters,
        versions=library_versions("adapruner-det", "torch", "numpy", *libraries),
        excluded=dict(samples.excluded),
        class_names=tuple(samples.class_names),
        digest_of=samples.digest_of,
        num_threads=torch.get_num_threads(),
    )


def _check(choice: Choice, name: str, num_samples: int, keep_ratio: float) -> None:
    if not isinstance(choice, Choice):
        raise ValueError(f"the method {name!r} gives {type(choice).__name__}, not a Choice")
    if taken := sorted({*REQUIRED_COLUMNS, "classes"} & choice.columns.keys()):
        raise ValueError(
            f"the method {name!r} gives the column {taken[0]!r}, which every selection has of its "
            "own; call it otherwise"
        )
    columns = {"score": choice.score, **choice.columns}
    if choice.kept is not None:
        columns["kept"] = choice.kept
    for column, values in columns.items():
        if np.shape(values) != (num_samples,):
            raise ValueError(
                f"the method {name!r} gives {column} of shape {np.shape(values)} for "
                f"{num_samples} samples"
            )
    if np.isnan(choice.score).any():
        raise ValueError(f"the method {name!r} gives a score that is NaN")
    if choice.kept is not None:
        count = kept_count(num_samples, keep_ratio)
        if choice.kept.dtype != bool or np.count_nonzero(choice.kept) != count:
            raise ValueError(
                f"the method {name!r} keeps {np.count_nonzero(choice.kept)} of {num_samples} "
                f"samples, as {choice.kept.dtype}; at {keep_ratio:g} it must keep {count}, as bool"
            )
