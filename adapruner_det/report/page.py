"""The report: one HTML file that shows what a selection kept and dropped, and takes a person's say.

It needs nothing from anywhere: style, script, figures and thumbnails lie in it. Only where there
are too many thumbnails do they lie in a folder beside it. Shape letters: N samples.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..core.cut import ranks
from ..errors import DataError, one_line, shown
from ..export.folder import new_folder
from ..files import REPORT, write_whole
from ..selection import Selection
from .history import History, read_history
from .overrule import identity
from .page_data import page_data
from .pictures import Picture
from .predictions import Predicted
from .thumbs import MOST_INLINE, make_thumbs, place

logger = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).with_name("templates")
#: The parts of the script, in the order in which they stand on each other.
_PARTS = (
    *("helpers", "decisions", "classes", "figures", "reasons"),
    *("pictures", "gallery", "view", "page"),
)
_MOST_EXCLUDED = 200
_MOST_SAMPLES = 100_000  # of a report that nobody has asked for
_NO_HISTORY = (
    "Nothing of it is beside the selection: a pruning run of some length leaves a metrics.json "
    "there with its ratio and α; other methods have neither."
)


def write_report(
    selection: Selection,
    path: str | Path,
    pictures: Mapping[str, Picture],
    *,
    predictions: Mapping[str, Predicted] | None = None,
    history: History | None = None,
    command: str = "",
    most_images: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report at ``path``, and its thumbnails beside it where they are too many for it.

    Args:
        selection: of N samples.
        path: of the page.
        pictures: of some or all of the samples, by key; without one a sample has no image there.
        predictions: of a model, by key.
        history: of the run.
        command: that made the report, to be shown.
        most_images: thumbnails of so many samples at most, the dropped ones and those nearest to
            the cut; None makes all.
        overwrite: move a folder of another kind aside that is in the way of the thumbnails'.

    Raises:
        DataError: a disk that takes no more, or a folder of thumbnails that is something else.
    """
    path = Path(path)
    shown_ones = _to_show(selection, pictures, most_images)
    keys = selection.columns["key"].tolist()
    thumbs = make_thumbs([pictures[key] if key in shown_ones else None for key in keys])
    folder = path.with_name(f"{path.stem}_thumbnails")
    placed = place(thumbs, folder.name)
    data = page_data(selection, pictures, thumbs, placed.sources, history, predictions)
    text = render(selection, data, command=command, in_folder=bool(placed.files))
    if placed.files:
        _write_thumbnails(folder, placed.files, selection, overwrite)
    write_whole(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))
    return path


def write_report_of_run(
    selection: Selection,
    folder: str | Path,
    pictures: Callable[[], Mapping[str, Picture]],
    command: str = "",
    run: str | Path | None = None,
    predictions: Callable[[], Mapping[str, Predicted]] | None = None,
) -> Path | None:
    """The report that a run leaves beside its selection, with as many thumbnails as fit into it.

    Whatever fails here is one warning: a run is not lost for its report.

    Args:
        selection: of N samples; of more than 100,000 no report is written.
        folder: where the page is written.
        pictures: gives those of the samples, by key.
        command: that made the run, to be shown.
        run: the folder with the run's metrics; None takes ``folder``.
        predictions: gives those of some samples, by key; where that fails the page has none.

    Returns:
        The page, or None where there is none.
    """
    path = Path(folder) / REPORT
    if selection.num_samples > _MOST_SAMPLES:
        logger.info("%s is left out: %d samples are many", path, selection.num_samples)
        return None
    try:
        return write_report(
            selection,
            path,
            pictures(),
            predictions=_asked_for(predictions),
            history=read_history(Path(folder if run is None else run)),
            command=command,
            most_images=MOST_INLINE,
        )
    except Exception as error:
        logger.warning("%s could not be written: %s", path, one_line(error))
        return None


def _asked_for(
    predictions: Callable[[], Mapping[str, Predicted]] | None,
) -> Mapping[str, Predicted] | None:
    """What ``predictions`` gives; None where that is nothing, or fails."""
    if predictions is None:
        return None
    try:
        return predictions() or None
    except Exception as error:
        logger.warning("%s shows no predictions: %s", REPORT, one_line(error))
        return None


def render(
    selection: Selection, data: Mapping[str, Any], *, command: str = "", in_folder: bool = False
) -> str:
    """The page as text.

    Args:
        selection: what it is of.
        data: see :func:`.page_data.page_data`.
        command: that made the report.
        in_folder: whether thumbnails lie in files beside it.
    """
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = _script()
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        policy=policy(style, script, in_folder),
        style=style,
        script=script,
        data=_embedded(data),
        title=", ".join(map(shown, selection.datasets)),
        method=shown(selection.method),
        ratio=f"{selection.keep_ratio:.4g}",
        num_kept=f"{selection.num_kept:,}",
        num_samples=f"{selection.num_samples:,}",
        soft_ratio="" if selection.soft_ratio is None else f"{selection.soft_ratio:.4f}",
        seed=selection.seed,
        no_history=_NO_HISTORY,
        provenance=provenance(selection, command),
        num_excluded=f"{len(selection.excluded):,}",
        excluded=[
            (shown(key), shown(why))
            for key, why in list(selection.excluded.items())[:_MOST_EXCLUDED]
        ],
        made_by=f"Made by adapruner-det {selection.versions.get('adapruner-det', '')}".strip(),
    )


def _script() -> str:
    parts = [(_TEMPLATES / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _PARTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def policy(style: str, script: str, in_folder: bool) -> str:
    """The content security policy: this style, this script, these images, and nothing else."""
    images = "'self' file: data:" if in_folder else "data:"
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            f"img-src {images}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def provenance(selection: Selection, command: str) -> list[tuple[str, str]]:
    """What tells how a selection was made: name and value, a row each."""
    rows = [
        ("Method", shown(selection.method)),
        ("Command", shown(selection.command)),
        ("Keep ratio asked", f"{selection.keep_ratio:g}"),
        ("Cut from a run for", "" if selection.cut_from is None else f"{selection.cut_from:g}"),
        ("Soft ratio", "" if selection.soft_ratio is None else f"{selection.soft_ratio:.6g}"),
        ("Seed", str(selection.seed)),
        ("Threads", str(selection.num_threads or "")),
        ("Configuration, SHA-256", selection.config_digest),
    ]
    rows += [(f"Data set {shown(n)}, SHA-256", own) for n, own in selection.datasets.items()]
    rows += [(shown(name), _value(value)) for name, value in selection.parameters.items()]
    rows += [(f"Version of {shown(name)}", shown(own)) for name, own in selection.versions.items()]
    rows += [("Selection, SHA-256", identity(selection)), ("Report made by", shown(command))]
    return [(name, value) for name, value in rows if value]


def _value(value: Any) -> str:
    return shown(value) if isinstance(value, str) else json.dumps(value, default=str)


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that can stand in an element of HTML: nothing in it ends that or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # ASCII alone
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    """As a policy names an element's content."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _to_show(
    selection: Selection, pictures: Mapping[str, Picture], most_images: int | None
) -> frozenset[str]:
    """The keys that get a thumbnail."""
    keys = selection.columns["key"]
    known = np.array([key in pictures for key in keys.tolist()], dtype=bool)
    if most_images is None or np.count_nonzero(known) <= most_images:
        return frozenset(keys[known].tolist())
    kept = selection.columns["kept"].astype(bool)
    places = ranks(np.zeros(len(keys)), selection.columns["score"])
    far = np.abs(places - selection.num_kept)
    order = np.lexsort((far, kept, ~known))
    return frozenset(keys[order[:most_images]].tolist())


def _write_thumbnails(
    folder: Path, files: Mapping[str, bytes], selection: Selection, overwrite: bool
) -> None:
    about = {"format": "thumbnails of a report", "selection": identity(selection)}
    try:
        with new_folder(folder, about, overwrite=overwrite) as place:
            for name, data in files.items():
                place.write(name, data)
    except DataError as error:
        raise DataError(str(error).replace("the export", "the report")) from error
