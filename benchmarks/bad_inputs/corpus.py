"""All cases, and the runs that they start from."""

from __future__ import annotations

import importlib

from .case import Base, Case

MODULES = (
    "images",
    "splits",
    "voc_xml",
    "coco",
    "coco_runs",
    "settings",
    "config_files",
    "command_lines",
    "lazy",
    "runs",
    "places",
    "weights",
    "selections",
    "cuts",
    "cls_data",
    "cls_runs",
)


def corpus() -> tuple[list[Case], dict[str, Base]]:
    """The cases in the order of their kinds, and the runs by name."""
    cases: list[Case] = []
    bases: dict[str, Base] = {}
    for name in MODULES:
        module = importlib.import_module(f".{name}", __package__)
        cases += module.CASES
        bases |= getattr(module, "BASES", {})
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two cases have one name: {', '.join(twice)}")
    return cases, bases
