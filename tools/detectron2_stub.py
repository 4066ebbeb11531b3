"""Stands in for Detectron2's compiled ops in a pure-Python build; becomes `detectron2/_C.py`."""

import torch

OFFICIAL = "@OFFICIAL@"  # filled in by install_detectron2.py


class MissingOpError(AttributeError, NotImplementedError):
    """A compiled op of Detectron2 was asked for."""


def _refuse(name):
    fast_coco = name.startswith("COCOeval") or name == "InstanceAnnotation"
    hint = " For COCOEvaluator pass use_fast_impl=False." if fast_coco else ""
    raise MissingOpError(
        f"{name} is a compiled op of Detectron2, and this Detectron2 v0.6 was built from its "
        f"Python files alone.{hint} To have it, `pip uninstall detectron2`, then {OFFICIAL}."
    )


def get_compiler_version():
    return "none (pure-Python build)"


def get_cuda_version():
    return "none (pure-Python build)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    _refuse(name)


# The one op that Detectron2 calls as torch.ops.detectron2.* instead of through this module.
_library = torch.library.Library("detectron2", "DEF")
_library.define("nms_rotated(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
_library.impl("nms_rotated", lambda *_: _refuse("nms_rotated"), "CompositeExplicitAutograd")
