"""What tells the runs of one training from those of another."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from mlcore.sagesnet.fit import Run

__all__ = ["fingerprint"]


def fingerprint(runs: Sequence[Run[Any]]) -> str:
    """SHA-256 of how long each run is, its first and last state and what acts on it."""
    told = hashlib.sha256()
    for run in runs:
        ends = [run.states[0], run.states[-1]] if len(run.states) else []
        around = [run.environment, list(run.symmetry), list(run.vectors)]
        for part in _parts([len(run.states), ends, around]):
            told.update(part)
    return told.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """What a value is made of; of things unknown here only their kind is told."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _parts([list(value), *value.values()])
    elif isinstance(value, list | tuple):
        yield f"{len(value)}".encode()
        for one in value:
            yield from _parts(one)
    elif isinstance(value, bool | int | float | str | bytes | None):
        yield f" {value!r}".encode()
    else:
        yield type(value).__name__.encode()
