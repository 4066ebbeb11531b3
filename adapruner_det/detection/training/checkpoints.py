"""Checkpoints that are whole or absent, hold no code, and go on as the run that wrote them."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from ...errors import DamagedCheckpoints, DataError, one_line
from ...files import write_text, write_whole
from ...settings import differences
from ...whole_zip import is_whole_zip
from .weighting import LossWeighting

logger = logging.getLogger(__name__)

TAG_FILE = "last_checkpoint"

#: What NumPy's arrays and numbers are pickled by, which PyTorch loads only where it is told to.
_NUMPY: list[Any] = [
    np.ndarray,
    np.dtype,
    bytes,  # of an array without entries
    np.empty(0).__reduce__()[0],
    np.float64().__reduce__()[0],
    *{type(np.dtype(code)) for code in np.typecodes["All"]},
]


class WholeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with files that a kill or a bad disk cannot spoil unnoticed.

    It saves and loads the plain detector, and so weights of any other one as Detectron2 does:
    parameters of another shape are skipped with a warning.

    Args:
        model: a detector, wrapped or not.
        save_dir: the folder of the run.
        trust_pickle: load weights in a ``.pkl``, which may run any code.
        checkpointables: as for Detectron2.
    """

    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        trust_pickle: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        if isinstance(self.model, LossWeighting):
            self.model = self.model.detector
        self._trust_pickle = trust_pickle

    def save(self, name: str, **kwargs: Any) -> None:
        if not (self.save_dir and self.save_to_disk):
            return
        state = {key: _plain(part.state_dict()) for key, part in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **state, **kwargs}
        self.logger.info("Saving checkpoint to %s", os.path.join(self.save_dir, f"{name}.pth"))
        write_whole(os.path.join(self.save_dir, f"{name}.pth"), lambda file: torch.save(data, file))
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = os.path.join(self.save_dir, TAG_FILE)
        write_text(path, last_filename_basename)

    def has_checkpoint(self) -> bool:
        return newest_whole(self.save_dir) is not None

    def get_checkpoint_file(self) -> str:
        return str(newest_whole(self.save_dir) or "")

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith((".pkl", ".pyth")):
            require_trusted(filename, self._trust_pickle)
            try:
                return _checked(super()._load_file(filename), filename)
            except DataError:
                raise
            except Exception as error:  # of many kinds, for a file that is something else
                raise DataError(
                    f"{filename} does not hold weights that can be loaded: {one_line(error)[:200]}"
                ) from error
        return load_weights(filename)


def _plain(state: Any) -> Any:
    """A state with Python's numbers for NumPy's, which a hook may hold as the best of a metric:
    so Detectron2 itself loads the file too, which takes plain values and tensors alone."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)) and not hasattr(state, "_fields"):
        return type(state)(map(_plain, state))
    return state.item() if isinstance(state, np.generic) else state


def newest_whole(folder: str | Path) -> Path | None:
    """The checkpoint to resume from: the newest in ``folder`` whose checksums are right.

    The tagged one comes first. One that is torn or flipped is passed over with a warning.

    Raises:
        DamagedCheckpoints: there are checkpoints, and none is whole.
        DataError: the tag leads out of the folder.
    """
    folder = Path(folder)
    tag_file = folder / TAG_FILE
    tag = ""
    if tag_file.exists():
        if not tag_file.is_file():  # a pipe would be waited for
            raise DataError(f"{tag_file} is not a regular file; remove it")
        tag = tag_file.read_text(errors="replace").strip()
    if tag and (Path(tag).name != tag or not tag.endswith(".pth")):
        raise DataError(
            f"{folder / TAG_FILE} names {tag!r}; a run resumes from a .pth in its own folder "
            "alone: remove that file to resume from the newest"
        )
    found = sorted(
        (path for path in folder.glob("model_*.pth") if path.is_file()),
        key=lambda path: (path.name == tag, _steps(path)),
        reverse=True,
    )
    for path in found:
        if _is_whole(path):
            return path
        logger.warning("%s is damaged and passed over.", path)
    if found:
        raise DamagedCheckpoints(f"none of the {len(found)} checkpoints in {folder} is whole")
    return None


#: Path, size and time of change → whether it is whole: Detectron2 asks twice.
_whole: dict[tuple[str, int, int], bool] = {}


def _is_whole(path: Path) -> bool:
    status = path.stat()
    key = str(path), status.st_size, status.st_mtime_ns
    if key not in _whole:
        _whole[key] = is_whole_zip(path)
    return _whole[key]


def _steps(path: Path) -> int:
    """The steps after which a checkpoint was made; the final one comes after all others."""
    number = re.fullmatch(r"model_(\d+)", path.stem)
    return int(number[1]) if number else 10**9


def load_pth(path: str | Path) -> dict[str, Any]:
    """The tensors, arrays and plain values of a ``.pth``; nothing in it can run.

    Raises:
        DataError: a file that does not hold such, or is damaged.
    """
    if zipfile.is_zipfile(path) and not _is_whole(Path(path)):
        raise DataError(f"{path} is damaged: its checksums are wrong; get the file again")
    try:
        with torch.serialization.safe_globals(_NUMPY):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for a file that is torn or something else
        raise DataError(
            f"{path} does not hold weights that can be loaded: {one_line(error)[:200]}"
        ) from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path} does not hold weights: it has a {type(loaded).__name__}")
    return loaded


def load_weights(path: str | Path) -> dict[str, Any]:
    """As :func:`load_pth`, the weights under ``model``, where they may be all that there is.

    Raises:
        DataError: a file that does not hold such, or is damaged.
    """
    return _checked(load_pth(path), path)


def _checked(loaded: dict[str, Any], path: str | Path) -> dict[str, Any]:
    if "model" not in loaded:
        loaded = {"model": loaded}
    weights = loaded["model"]
    if not isinstance(weights, dict):
        raise DataError(f"{path} does not hold weights: 'model' is a {type(weights).__name__}")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, (torch.Tensor, np.ndarray)):
            raise DataError(
                f"{path} does not hold weights: {name!r} is a {type(value).__name__}; they stand "
                "under 'model', or by themselves"
            )
    return loaded


def require_trusted(weights: str, trust_pickle: bool) -> None:
    """Raise a DataError for a ``.pkl`` (or ``.pyth``) unless pickles are trusted."""
    if weights.endswith((".pkl", ".pyth")) and not trust_pickle:
        raise DataError(
            f"{weights} is a pickle, which can run any code when it is loaded; if it comes from "
            "where you trust, say so with --trust-pickle, or in a script of your own with "
            "trust_pickle = True in your trainer's class"
        )


def check_weights(cfg: CfgNode, trust_pickle: bool = False) -> None:
    """Raise a DataError where ``MODEL.WEIGHTS`` cannot be loaded.

    What lies elsewhere (``detectron2://``, ``https://``) is fetched into Detectron2's cache.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return
    require_trusted(weights, trust_pickle)
    if "://" in weights:
        try:
            path = PathManager.get_local_path(weights)
            if not os.path.isfile(path):
                raise FileNotFoundError("there is no such file")
        except Exception as error:  # of as many kinds as there are places
            raise DataError(
                f"MODEL.WEIGHTS {weights} cannot be fetched: {one_line(error)}; get the file by "
                "hand and name it"
            ) from error
    elif os.path.isfile(weights):
        path = weights
    else:
        raise DataError(f"there are no weights at MODEL.WEIGHTS {os.path.abspath(weights)}")
    WholeCheckpointer(nn.Identity(), trust_pickle=trust_pickle)._load_file(path)


def require_same_run(checkpoint: str | Path, identity: dict[str, Any]) -> None:
    """Raise a DataError unless ``checkpoint`` is of the run that ``identity`` describes.

    Args:
        checkpoint: a .pth that a run of this project wrote.
        identity: what :class:`run_state.RunState` saves.
    """
    state: Any = load_pth(checkpoint)
    for part in ("trainer", "hooks", "RunState"):
        state = state.get(part) if isinstance(state, dict) else None
    compare_runs(str(checkpoint), state, identity)


def compare_runs(checkpoint: str, saved: Any, mine: dict[str, Any]) -> None:
    """Raise a DataError unless what a checkpoint has ``saved`` of its run is ``mine``."""
    advice = "resume with what the run was started with, or set another OUTPUT_DIR"
    if not isinstance(saved, dict) or mine.keys() - {"settings"} - saved.keys():
        raise DataError(f"{checkpoint} is not of a run of this program; {advice}")
    how = differences(saved.get("settings", ""), mine.get("settings", "{}"))
    for name, what in (
        ("kind", "another kind of run (pruning, or training on what was kept)"),
        ("config", f"another configuration{how}"),
        ("data", "other data"),
    ):
        if saved[name] != mine[name]:
            raise DataError(f"{checkpoint} is of a run with {what}; {advice}")
    if saved["threads"] != mine["threads"]:
        logger.warning(
            "The run was started with %d thread(s) and goes on with %d: its numbers may differ "
            "in the last digits from those of one run without a break.",
            saved["threads"],
            mine["threads"],
        )
