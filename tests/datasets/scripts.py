"""Loads the scripts of datasets/ by path, as another library has the name `datasets`."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "datasets"


def load(name):
    full_name = f"adapruner_det_datasets_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
    return sys.modules[full_name]
