"""A selection that is saved, and its two files changed as a forger would change them."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from adapruner_det import selection_file
from adapruner_det.errors import DataError
from adapruner_det.samples import digest, fingerprint
from adapruner_det.selection import Selection

ABSENT = object()
ONES = np.ones(10, dtype=np.float32)
KEYS = [f"toy/{i:03d}" for i in range(10)]
MANY = settings(
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def make(seed=3, keep_ratio=0.8, **changes):
    digests = np.array([digest(key) for key in KEYS], dtype=np.uint64)
    columns = {
        "key": np.array(KEYS),
        "digest": digests,
        "kept": np.arange(10) < round(10 * keep_ratio),
        "score": np.arange(10),
        "logit": np.linspace(1.0, -1.0, 10, dtype=np.float32),
        "last_loss": np.ones(10, dtype=np.float32),
        "mean_loss": np.ones(10, dtype=np.float32),
        "times_seen": np.full(10, 6, dtype=np.uint16),
        "typical_loss": np.full(10, 2.0, dtype=np.float32),
        "classes": np.array(["0", "1", "0 2", ""] * 2 + ["10", "2 10"]),
    }
    return Selection(
        method="adapruner",
        keep_ratio=keep_ratio,
        seed=seed,
        datasets={"toy": fingerprint(KEYS, digests)},
        columns={**columns, **changes},
        soft_ratio=0.79,
        parameters={"pressure_terms": {"use_selection": True}},
        versions={"numpy": "2"},
        excluded={"toy/x": "cut short"},
        class_names=("cat", "dog"),
        digest_of="bytes",
        num_threads=2,
        command="adapruner prune-net --config-file 'my \udcff.yaml'",  # of bytes that are no text
    )


def assert_same(found, wanted):
    for name in Selection.__dataclass_fields__:
        if name != "columns":
            assert getattr(found, name) == getattr(wanted, name), name
    assert list(found.columns) == list(wanted.columns)
    for name, column in wanted.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, name)


def npz_of(path):
    return path.with_suffix(".npz")


def edit(path, **values):
    """Change fields of the JSON; ABSENT takes a field away."""
    body = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in body.items() if v is not ABSENT}))


def reseal(path):
    """Let the JSON name the .npz that is there, as a forger would."""
    edit(path, npz_sha256=selection_file.sha256_at(npz_of(path)))


def rewrite(path, entries, compression=zipfile.ZIP_DEFLATED):
    """Put ``entries``, name → bytes, in the place of those of one name, and seal."""
    with zipfile.ZipFile(npz_of(path)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(npz_of(path), "w", compression) as archive:
        for name, data in {**found, **entries}.items():
            if data is not None:
                archive.writestr(name, data)
    reseal(path)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header_of(descr, shape):
    """A .npy that says what it is and has nothing of it."""
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def refused(path, *parts):
    """The one line, which names a file of the selection."""
    with pytest.raises(DataError) as caught:
        Selection.load(path)
    message = str(caught.value)
    assert path.stem in message and "\n" not in message and len(message) < 800, message
    for part in parts:
        assert part in message
    return message


def outcome(path):
    """None for a DataError; else the selection, which can then be used."""
    try:
        found = Selection.load(path)
    except DataError as error:
        assert path.stem in str(error) and "\n" not in str(error)
        return None
    assert found.cut(0.5).num_kept == 5
    found.lost_classes(), found.unseen_keys()
    return found
