"""What all bundles share: the folder, manifest.json, the hashes of the files it lists."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.atomic import atomic_directory, write_text
from mlcore.io.tensors import parse_json, read_bytes

__all__ = [
    "KINDS",
    "MANIFEST",
    "WEIGHTS",
    "ManifestReader",
    "bundle_folder",
    "checked_units",
    "is_finite",
    "write_manifest",
]

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
KINDS = ("mobility", "force", "dynamics", "qoi")
_HASHED = (".safetensors", ".pt", ".pt2")
_MANIFEST_LIMIT = 1 << 20
_FILE_LIMIT = 1 << 30
_SHOWN = 400
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_FORMAT = {"format": "mlcore-bundle", "format_version": 1}


def is_finite(value: Any) -> bool:
    """Whether a value of JSON is a number that a double holds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def checked_units(units: Mapping[str, str] | str) -> dict[str, str]:
    """Names of the units of length, energy and time.

    Raises:
        InvalidArgument: a name is missing.
    """
    if isinstance(units, str):
        return dict.fromkeys(("length", "energy", "time"), units)
    names = {"length", "energy", "time"}
    told = dict(units) if isinstance(units, Mapping) else {}
    if set(told) != names or not all(isinstance(v, str) and v for v in told.values()):
        raise InvalidArgument(
            "units must name length, energy and time, for instance "
            "{'length': 'a0', 'energy': 'kBT', 'time': 't0'}, or be one word such as 'lj'"
        )
    return told


@contextmanager
def bundle_folder(path: Path) -> Iterator[Path]:
    """The temporary folder; refuses to replace a folder that is no bundle."""
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise Error(f"{path}: is a folder with other content; give a new name")
    with atomic_directory(path) as temporary:
        yield temporary


def _package_version() -> str:
    try:
        return version("mlcore")
    except PackageNotFoundError:
        return "unknown"


def write_manifest(
    folder: Path,
    kind: str,
    units: Mapping[str, str],
    training: Mapping[str, Any],
    parts: Mapping[str, Any],
) -> None:
    """Write manifest.json with the hashes of all weights and code in the folder.

    Raises:
        InvalidArgument: something cannot be JSON.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in _HASHED)
    manifest = {
        **_FORMAT,
        "kind": kind,
        "created_with": {"mlcore": _package_version()},
        "units": dict(units),
        **parts,
        "training": dict(training),
        "files": {p.name: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files},
    }
    try:
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"training: cannot be written as JSON: {error}") from error
    write_text(folder / MANIFEST, text)


class ManifestReader:
    """A manifest taken with suspicion: every error names the file and the field.

    Raises:
        FileFormatError: absent, unreadable, or not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise FileFormatError(f"{path}: is not a bundle folder")
        self.path = path
        self.where = str(path / MANIFEST)
        raw = read_bytes(path / MANIFEST, _MANIFEST_LIMIT, "manifest")
        manifest = parse_json(raw, self.where)
        if not isinstance(manifest, dict):
            self.fail("must hold a JSON object")
        self.manifest: dict[str, Any] = manifest

    def fail(self, what: str) -> NoReturn:
        """Raise FileFormatError with the manifest's path in front."""
        shown = what if len(what) <= _SHOWN else f"{what[:_SHOWN]} .."
        raise FileFormatError(f"{self.where}: {shown}")

    def field(self, *names: str) -> Any:
        """A field that must be there."""
        value: Any = self.manifest
        for depth, name in enumerate(names):
            if not isinstance(value, dict):
                self.fail(f"field {'.'.join(names[:depth])} must be an object")
            if name not in value:
                self.fail(f"field {'.'.join(names[: depth + 1])} is missing")
            value = value[name]
        return value

    def has(self, *names: str) -> bool:
        """Whether the object that holds the last name has it."""
        return names[-1] in (self.field(*names[:-1]) if len(names) > 1 else self.manifest)

    def number(self, *names: str, positive: bool = False) -> float:
        """A finite number."""
        value = self.field(*names)
        if not is_finite(value):
            self.fail(f"field {'.'.join(names)} must be a finite number, not {value!r}")
        if positive and value <= 0:
            self.fail(f"field {'.'.join(names)} must be positive, not {value!r}")
        return float(value)

    def whole(self, *names: str, least: int) -> int:
        """A whole number of at least `least`."""
        value = self.field(*names)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(
                f"field {'.'.join(names)} must be a whole number of at least {least}, not {value!r}"
            )
        return value

    def word(self, *names: str, among: Sequence[str] | None = None) -> str:
        """A string, one of `among` if given."""
        value = self.field(*names)
        if not isinstance(value, str) or (among is not None and value not in among):
            allowed = "a string" if among is None else "one of " + ", ".join(map(repr, among))
            self.fail(f"field {'.'.join(names)} must be {allowed}, not {value!r}")
        return value

    def check_kind(self, *kinds: str) -> str:
        """Format, version and units are those of a bundle; the kind is one of those given."""
        for name, wanted in _FORMAT.items():
            value = self.field(name)
            if type(value) is not type(wanted) or value != wanted:
                self.fail(f"field {name} must be {wanted!r}, not {value!r}")
        kind = self.word("kind", among=kinds)
        units = self.field("units")
        names = ("length", "energy", "time")
        if not isinstance(units, dict) or not all(isinstance(units.get(n), str) for n in names):
            self.fail("field units must name length, energy and time")
        return kind

    def files(self, only: Sequence[str] | None = None) -> dict[str, bytes]:
        """Content of every listed file (or of those named), its hash checked."""
        listed = self.field("files")
        if not isinstance(listed, dict) or WEIGHTS not in listed:
            self.fail(f"field files must list {WEIGHTS}")
        return {name: self._file(name) for name in (listed if only is None else only)}

    def _file(self, name: str) -> bytes:
        if not _NAME.fullmatch(name):
            self.fail(f"files: {name!r} is not the plain name of a file inside the folder")
        path = self.path / name
        if path.resolve().parent != self.path.resolve():
            self.fail(f"files: {name!r} leads outside the folder")
        digest = self.field("files", name, "sha256")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            self.fail(f"field files.{name}.sha256 must be 64 hexadecimal digits")
        data = read_bytes(path, _FILE_LIMIT, "bundle file")
        if hashlib.sha256(data).hexdigest() != digest:
            self.fail(f"files: {path} does not have the recorded sha256: changed or damaged")
        return data
