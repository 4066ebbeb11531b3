"""Cases: selection files that are not what a run wrote, and data other than they were made from."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import toys
from .case import Build, Case, Expectation, refused
from .runs import Marker, flip, half
from .toys import OUT

KIND = "selection files"
CONFIG = ("--config-file", "config.yaml")
SELECTION = ("--selection", f"{OUT}/selection.json")
KEPT = ("OUTPUT_DIR", "kept")
JSON, NPZ = f"{OUT}/selection.json", f"{OUT}/selection.npz"


def nothing(folder: Path) -> None:
    """The run as it is."""


def header(change: Callable[[dict[str, Any]], object]) -> Build:
    """The JSON after ``change``."""
    return lambda folder: toys.edit_json(folder / JSON, change)


def field(name: str, value: Any) -> Build:
    """The JSON with another value; ... leaves the field out."""

    def change(content: dict[str, Any]) -> None:
        content[name] = value
        if value is ...:
            del content[name]

    return header(change)


def text(content: str | bytes) -> Build:
    """Another file in place of the JSON."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / JSON).write_bytes(data)


def npz(change: Callable[[bytes], bytes], signed: bool = False) -> Build:
    """The .npz after ``change``; ``signed``: with the SHA-256 in the JSON, as a forger would."""

    def build(folder: Path) -> None:
        before = (folder / NPZ).read_bytes()
        after = change(before)
        (folder / NPZ).write_bytes(after)
        if signed:
            old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
            path = folder / JSON
            path.write_text(path.read_text().replace(old, new))

    return build


def columns(change: Callable[[dict[str, np.ndarray]], object]) -> Build:
    """The columns after ``change``, with a SHA-256 that fits."""

    def rewrite(data: bytes) -> bytes:
        with np.load(io.BytesIO(data)) as archive:
            own = {name: archive[name] for name in archive.files}
        change(own)
        stream = io.BytesIO()
        np.savez_compressed(stream, **own)
        return stream.getvalue()

    return npz(rewrite, signed=True)


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Build:
    """One column after ``change``."""
    return columns(lambda own: own.update({name: change(own[name])}))


def _with(index: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(own: np.ndarray) -> np.ndarray:
        own = own.copy()
        own[index] = value
        return own

    return change


def _entry(name: str, make: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """An archive one of whose entries has other bytes."""

    def change(data: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            for entry in old.namelist():
                own = old.read(entry)
                new.writestr(
                    entry, make(own) if entry == name else own, compress_type=zipfile.ZIP_DEFLATED
                )
        return stream.getvalue()

    return change


def _npy(shape: tuple[int, ...], descr: str, data: bytes) -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def _pickled(_: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Marker()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _swapped(folder: Path) -> None:
    """The .npz of a run at another ratio."""
    with np.load(folder / NPZ) as archive:
        own = {name: archive[name] for name in archive.files}
    own["kept"] = ~own["kept"].astype(bool)
    np.savez_compressed(folder / NPZ, **own)


def _instead(path: str, make: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        (folder / path).unlink()
        make(folder / path)

    return build


NAMES = "selection.json|selection.npz"
BROKEN = refused(NAMES)
TABLE: dict[str, Build] = {
    "npz-missing": _instead(NPZ, lambda path: None),
    "npz-swapped": _swapped,
    "npz-flipped": npz(flip),
    "npz-flipped-signed": npz(flip, signed=True),
    "npz-torn": npz(half),
    "npz-torn-signed": npz(half, signed=True),
    "npz-empty": npz(lambda data: b""),
    "npz-text": npz(lambda data: b"hello", signed=True),
    "npz-a-pickle": npz(lambda data: pickle.dumps(Marker()), signed=True),
    "npz-directory": _instead(NPZ, Path.mkdir),
    "npz-fifo": _instead(NPZ, os.mkfifo),
    "npz-zero-device": _instead(NPZ, lambda path: path.symlink_to("/dev/zero")),
    "npz-object-column": npz(_entry("logit.npy", _pickled), signed=True),
    "npz-bomb": npz(
        _entry("logit.npy", lambda own: _npy((1 << 28,), "<f4", bytes(1 << 28))), signed=True
    ),
    "npz-claims-much": npz(
        _entry("logit.npy", lambda own: _npy((1 << 40,), "<f4", b"")), signed=True
    ),
    "npz-negative-shape": npz(
        _entry("logit.npy", lambda own: _npy((-1,), "<f4", b"")), signed=True
    ),
    "npz-deep-header": npz(_entry("logit.npy", lambda own: _npy((1,), "(" * 60, b"")), signed=True),
    "npz-not-npy": npz(_entry("logit.npy", lambda own: b"hello"), signed=True),
    "npz-without-keys": columns(lambda own: own.pop("key")),
    "npz-without-kept": columns(lambda own: own.pop("kept")),
    "npz-without-digests": columns(lambda own: own.pop("digest")),
    "npz-other-length": column("logit", lambda own: own[:-1]),
    "npz-one-row-less": columns(lambda own: own.update({k: v[:-1] for k, v in own.items()})),
    "npz-no-rows": columns(lambda own: own.update({k: v[:0] for k, v in own.items()})),
    "npz-two-dimensions": column("logit", lambda own: own[:, None]),
    "npz-scalar": column("logit", lambda own: np.float32(1)),
    "npz-keys-as-bytes": column("key", lambda own: own.astype("S")),
    "npz-keys-as-numbers": column("key", lambda own: np.arange(len(own))),
    "npz-keys-unsorted": column("key", lambda own: own[::-1]),
    "npz-key-twice": column("key", _with(1, "toy_train/im00")),
    "npz-key-of-no-set": column("key", _with(0, "aaa/im00")),
    "npz-key-without-slash": column("key", _with(0, "aaa")),
    "npz-key-with-newline": column("key", lambda own: np.char.add(own, "\nerror: x")),
    "npz-digests-as-floats": column("digest", lambda own: own.astype(np.float64)),
    "npz-kept-as-text": column("kept", lambda own: own.astype(str)),
    "npz-kept-as-floats": column("kept", lambda own: own * np.nan),
    "npz-kept-as-2": column("kept", lambda own: own.astype(np.uint8) * 2),
    "npz-all-kept": column("kept", np.ones_like),
    "npz-logit-nan": column("logit", _with(0, np.nan)),
    "npz-logit-as-text": column("logit", lambda own: own.astype(str)),
    "npz-times-seen-negative": column("times_seen", lambda own: own.astype(np.int64) - 1000),
    "json-directory": _instead(JSON, Path.mkdir),
    "json-fifo": _instead(JSON, os.mkfifo),
    "json-zero-device": _instead(JSON, lambda path: path.symlink_to("/dev/zero")),
    "json-empty": text(""),
    "json-not-json": text("hello"),
    "json-a-list": text("[]"),
    "json-a-number": text("7"),
    "json-null": text("null"),
    "json-empty-dict": text("{}"),
    "json-binary": text(bytes(range(256))),
    "json-utf-16": lambda folder: text((folder / JSON).read_text().encode("utf-16"))(folder),
    "json-deep": text("[" * 100_000 + "]" * 100_000),
    "json-huge-number": text('{"schema_version": ' + "9" * 10_000 + "}"),
    "json-torn": lambda folder: text((folder / JSON).read_bytes()[:300])(folder),
    "json-is-the-npz": lambda folder: text((folder / NPZ).read_bytes())(folder),
    "schema-99": field("schema_version", 99),
    "schema-text": field("schema_version", "1"),
    "schema-missing": field("schema_version", ...),
    "ratio-0": field("keep_ratio", 0),
    "ratio-2": field("keep_ratio", 2),
    "ratio-nan": field("keep_ratio", float("nan")),
    "ratio-text": field("keep_ratio", "0.7"),
    "ratio-null": field("keep_ratio", None),
    "ratio-true": field("keep_ratio", [0.7]),
    "ratio-missing": field("keep_ratio", ...),
    "ratio-not-reached": field("keep_ratio", 0.2),
    "method-missing": field("method", ...),
    "method-a-number": field("method", 7),
    "seed-text": field("seed", "one"),
    "seed-missing": field("seed", ...),
    "datasets-missing": field("datasets", ...),
    "datasets-empty": field("datasets", {}),
    "datasets-a-list": field("datasets", ["toy_train"]),
    "datasets-fingerprint-a-number": field("datasets", {"toy_train": 7}),
    "kept-missing": field("kept", ...),
    "kept-empty": field("kept", []),
    "kept-a-dict": field("kept", {}),
    "kept-numbers": field("kept", [1, 2, 3]),
    "kept-of-others": field("kept", ["toy_train/im99"]),
    "count-wrong": field("num_samples", 3),
    "parameters-a-list": field("parameters", [1]),
    "soft-ratio-text": field("soft_ratio", "most"),
}
#: Faults that only cut.py, which ranks anew, must see.
FOR_CUT = {
    "no-ranking-columns": columns(
        lambda own: [own.pop(name) for name in list(own) if name not in ("key", "digest", "kept")]
    ),
    "typical-loss-zero": header(lambda c: c["parameters"].update(typical_loss=0)),
    "typical-loss-text": header(lambda c: c["parameters"].update(typical_loss="x")),
    "terms-unknown": header(lambda c: c["parameters"].update(pressure_terms={"magic": True})),
}


def _cases() -> list[Case]:
    train, cut = (*CONFIG, *SELECTION, *KEPT), (*SELECTION, "--keep-ratio", "0.5")

    def case(
        name: str,
        kind: str,
        build: Build,
        tool: str,
        args: tuple[str, ...],
        expect: tuple[Expectation, ...],
        base: str = "voc",
    ) -> Case:
        return Case(f"selection-{name}", kind, build, tool, args, expect, base)

    cases = []
    for k, (name, build) in enumerate(TABLE.items()):
        tool, args, base = (
            ("train_pruned.py", train, "voc"),
            ("cut.py", cut, "voc"),
            ("train_cls.py", train, "cls"),
        )[k % 3]
        if base == "cls" and "key-" in name:
            tool, args, base = "cut.py", cut, "voc"
        cases.append(case(f"{name}", KIND, build, tool, args, BROKEN, base))
    for name, build in FOR_CUT.items():
        cases.append(case(f"cut-{name}", KIND, build, "cut.py", cut, refused("selection|score")))
    return cases


CASES = _cases()
