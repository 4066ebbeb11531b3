"""Which heads have per-image losses, and how a built detector gets them. B images of a batch."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

logger = logging.getLogger(__name__)

Class = TypeVar("Class", bound=type[nn.Module])


class _Head(NamedTuple):
    """How the loss of a head is taken apart, and the methods whose work that replaces."""

    per_image: type[nn.Module]
    methods: tuple[str, ...]


_HEADS: dict[type[nn.Module], _Head] = {}
_per_image: dict[type[nn.Module], type[nn.Module] | None] = {}  # of classes looked up so far
_original: dict[type[nn.Module], type[nn.Module]] = {}


def register_head(
    head: type[nn.Module], methods: Sequence[str] = ("losses",)
) -> Callable[[Class], Class]:
    """Decorate the class that gives by image what ``head`` gives for the batch.

    That class is a subclass of ``head`` whose ``methods`` return (B,) vectors in place of scalars,
    images in the order of the batch. The mean of each vector is the scalar of ``head``, its random
    draws and what it logs are the same, and no vector is detached. It may be any module that
    computes a loss, a whole detector too; ``docs/detectors.md`` has an example.

    The modules of a built detector change to that class, so it has no ``__init__`` and sees the
    attributes that ``head`` has made. A subclass of ``head`` is taken apart as ``head`` is unless
    it changes one of ``methods``: then its loss is unknown, until it is registered itself.

    Args:
        head: the class as it trains without pruning.
        methods: those whose work the decorated class does itself.

    Raises:
        ValueError: a decorated class that is no such subclass, or a head that has another already.
    """
    methods = tuple(methods)

    def add(per_image: Class) -> Class:
        known = _HEADS.get(head)
        if known is not None and _name(known.per_image) != _name(per_image):
            raise ValueError(f"{_name(head)} is taken apart by {_name(known.per_image)} already")
        _require_counterpart(head, per_image, methods)
        _HEADS[head] = _Head(per_image, methods)
        _per_image.clear()
        return per_image

    return add


def take_apart(detector: nn.Module) -> list[str]:
    """Let a detector's training forward return per-image losses.

    Every module of a registered class, or of a subclass that leaves the loss methods alone, changes
    its `__class__` to one whose losses are (B,) vectors, B images in the order of the batch, each
    vector's mean being Detectron2's own scalar. Attributes, parameters, buffers and state-dict keys
    stay as they are; inference too. Detectron2's own forward merges the vectors. Calling it
    again changes nothing.

    Args:
        detector: a built meta-architecture.

    Returns:
        The modules that are apart now, as "name (Class)". An empty list means that the detector has
        no loss known here; `unhandled` tells what would still be a scalar.
    """
    apart = []
    for name, module in detector.named_modules():
        if type(module) not in _original:
            per_image = _per_image_class(type(module))
            if per_image is None:
                continue
            module.__class__ = per_image
        apart.append(_describe(name, _original[type(module)]))
    logger.debug("per-image losses: %s", ", ".join(apart) or "none")
    return apart


def put_together(detector: nn.Module) -> None:
    """Undo `take_apart`: every module gets back the class it had."""
    for module in detector.modules():
        if type(module) in _original:
            module.__class__ = _original[type(module)]


def unhandled(detector: nn.Module) -> list[str]:
    """Modules whose training loss stays a scalar, as "name (Class)", before or after `take_apart`.

    Found are subclasses of registered heads that change a loss method, and modules that have a
    `losses` method of their own. A loss computed elsewhere, in a forward, cannot be seen from
    outside: `check_per_image` finds it in the first step.
    """
    return [
        _describe(name, type(module))
        for name, module in detector.named_modules()
        if type(module) not in _original
        and _per_image_class(type(module)) is None
        and (isinstance(module, tuple(_HEADS)) or callable(getattr(module, "losses", None)))
    ]


def check_per_image(losses: Mapping[str, Any], batch_size: int) -> None:
    """Make sure that a detector's losses are one value per image.

    Args:
        losses: what the training forward returned.
        batch_size: B, the images of this process.

    Raises:
        ValueError: no losses at all, or a value whose shape isn't (B,); it names the key.
    """
    if not isinstance(losses, Mapping) or not losses:
        raise ValueError(
            f"the detector returned no losses but {type(losses).__name__} {losses!r:.80}, expected "
            "a dict of tensors: put it in training mode, and return its losses from forward"
        )
    for name, value in losses.items():
        if isinstance(value, Tensor) and value.shape == (batch_size,):
            continue
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"loss {name!r} has {found}, expected one value per image, shape ({batch_size},): give "
            "the detector a method losses_per_image(batched_inputs), or use the serial path"
        )


def _per_image_class(cls: type[nn.Module]) -> type[nn.Module] | None:
    """The per-image counterpart of a module class; None where there is none."""
    if cls not in _per_image:
        _per_image[cls] = _make_per_image(cls)
    return _per_image[cls]


def _make_per_image(cls: type[nn.Module]) -> type[nn.Module] | None:
    base = next((c for c in cls.__mro__ if c in _HEADS), None)  # of several the nearest
    if base is None:
        return None
    per_image, methods = _HEADS[base]
    if any(getattr(cls, m, None) is not getattr(base, m, None) for m in methods):
        return None
    if cls is not base:
        per_image = type(f"PerImage{cls.__name__}", (per_image, cls), {})
    _original[per_image] = cls
    return per_image


def _require_counterpart(
    head: type[nn.Module], per_image: type[nn.Module], methods: tuple[str, ...]
) -> None:
    """Raise a ValueError unless ``per_image`` can stand in for ``head`` in a built detector."""
    if not issubclass(head, nn.Module) or not issubclass(per_image, head) or per_image is head:
        raise ValueError(
            f"{_name(per_image)} must be a subclass of {_name(head)}, which must be a module: "
            "built heads change to it"
        )
    if not set(methods) & vars(per_image).keys():
        raise ValueError(
            f"{_name(per_image)} defines none of the methods {list(methods)}, so its losses would "
            f"be those of {_name(head)}; name in methods what it does itself"
        )
    if "__init__" in vars(per_image):
        raise ValueError(f"{_name(per_image)}.__init__ would never run: heads are built before")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _describe(name: str, cls: type) -> str:
    return f"{name or 'detector'} ({cls.__name__})"
