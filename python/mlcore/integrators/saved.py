"""Integrators in files: safetensors whose metadata tell what they hold. Nothing in them is executed."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.io.tensors import parse_json, read_tensors, write_tensors

__all__ = ["KINDS", "Settings", "load", "read", "tensor", "write"]

PathLike = str | os.PathLike[str]
FORMAT = "mlcore integrator"

KINDS: dict[str, tuple[str, str]] = {
    "action_angle": ("action_angle", "ActionAngleIntegrator"),
    "lstm": ("lstm", "LSTMIntegrator"),
    "nbody": ("nbody", "NBodyIntegrator"),
    "symplectic": ("symplectic", "SymplecticIntegrator"),
}
"""Module and class of every kind of file; the class has a `load`."""


def load(path: PathLike) -> Any:
    """The integrator that some integrator's `save` wrote, of the kind its metadata tell.

    Raises:
        FileFormatError: the file is absent, none of those, or damaged; names what is wrong.
    """
    module, name = KINDS[_kind(path, read_tensors(Path(path))[1])]
    found = getattr(importlib.import_module(f"mlcore.integrators.{module}"), name)
    return found.load(path)


def write(
    path: PathLike, kind: str, tensors: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]
) -> None:
    """One file, whole or not at all.

    Args:
        path: of the file.
        kind: one of `KINDS`.
        tensors: arrays by name.
        settings: whatever JSON holds, without NaN.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    told = json.dumps(dict(settings), allow_nan=False)
    write_tensors(Path(path), tensors, {"format": FORMAT, "kind": kind, "settings": told})


def read(path: PathLike, kind: str) -> tuple[dict[str, npt.NDArray[Any]], Settings]:
    """Tensors and settings of a file of this kind.

    Raises:
        FileFormatError: the file is absent, of another kind, or damaged.
    """
    tensors, metadata = read_tensors(Path(path))
    found = _kind(path, metadata)
    if found != kind:
        raise FileFormatError(f"{os.fspath(path)}: holds an integrator of the kind {found!r}")
    where = f"{os.fspath(path)}: settings"
    settings = parse_json(metadata.get("settings", "").encode(), where)
    if not isinstance(settings, dict):
        raise FileFormatError(f"{where} must be a JSON object")
    return tensors, Settings(where, settings)


def _kind(path: PathLike, metadata: Mapping[str, str]) -> str:
    kind = metadata.get("kind", "")
    if metadata.get("format") != FORMAT or kind not in KINDS:
        raise FileFormatError(
            f"{os.fspath(path)}: no integrator of mlcore: its metadata tell the kind {kind!r}, not "
            f"one of {', '.join(KINDS)}"
        )
    return kind


class Settings:
    """Values from a file, each checked when it is asked for; FileFormatError names it.

    Args:
        where: of messages.
        values: by name.
    """

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where, self.values = where, values

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FileFormatError(f"{self.where}: {name} must be a number, got {value!r}")
        try:
            return float(value)
        except OverflowError:
            raise FileFormatError(f"{self.where}: {name} must be a finite number") from None

    def integer(self, name: str, least: int = 0) -> int:
        """A whole number."""
        value = self.values.get(name)
        if type(value) is not int or value < least:
            raise FileFormatError(
                f"{self.where}: {name} must be an integer of at least {least}, got {value!r}"
            )
        return value

    def text(self, name: str) -> str:
        """Text."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise FileFormatError(f"{self.where}: {name} must be text, got {value!r}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """Values by name."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise FileFormatError(f"{self.where}: {name} must be a JSON object, got {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise FileFormatError(f"{self.where}: {name} must be a list of texts")
        return tuple(value)

    def parts(self, name: str) -> list[Settings]:
        """A list of objects."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise FileFormatError(f"{self.where}: {name} must be a list of JSON objects")
        return [Settings(f"{self.where}: {name}[{k}]", v) for k, v in enumerate(value)]


def tensor(
    path: PathLike, tensors: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """A float64 tensor of a file; -1 in the shape takes any extent."""
    found = tensors.get(name)
    fits = found is not None and found.dtype == np.float64 and found.ndim == len(shape)
    if found is None or not fits or any(a not in (-1, b) for a, b in zip(shape, found.shape)):  # noqa: B905
        got = "none" if found is None else f"{found.dtype} {found.shape}"
        raise FileFormatError(
            f"{os.fspath(path)}: tensor {name!r} must be float64 {shape}, got {got}"
        )
    return found
