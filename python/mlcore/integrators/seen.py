"""Which runs an integrator was taught by: a mark of each, that frames and steps do not change."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.md import Dataset

__all__ = ["fingerprints", "seen"]

_DEFAULTS = {"v0": 0.0, "temperature": 0.0, "seed": 0.0, "lattice": 0.0, "settle": 0.0}
_STARTS = ("x0", "seed")


def fingerprints(data: Dataset) -> tuple[str, ...]:
    """A mark for each run: of its system, parameters, masses and start, 16 hexadecimal digits.

    The same for every part of a run, and for any step and distance of frames. Runs that do not tell
    their start by a parameter are known by their first frame.
    """
    request = data.provenance.get("request", {})
    shared = {**request.get("fixed", {}), **dict(data.fixed)}
    marks = []
    for run in range(len(data)):
        own = {k: float(v[run]) for k, v in data.parameters.items()}
        told = {**data.system_of(run).parameters, **shared, **own}  # defaults, whoever tells them
        known = any(name in told for name in _STARTS)
        told = {k: _plain(v) for k, v in told.items() if k != "mass" and _DEFAULTS.get(k) != v}
        text = json.dumps([data.system, told], sort_keys=True, default=str)
        mark = hashlib.sha256(text.encode() + data.masses[run].tobytes())
        if not known:
            mark.update(data.positions[run, 0].tobytes() + data.velocities[run, 0].tobytes())
        marks.append(mark.hexdigest()[:16])
    return tuple(marks)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) else value


def seen(integrator: Any, data: Dataset) -> npt.NDArray[np.bool_] | None:
    """(R,) which runs the integrator was taught by; None where it does not tell (`trained_on`)."""
    taught = getattr(integrator, "trained_on", None)
    if taught is None:
        return None
    return np.isin(np.array(fingerprints(data)), np.array(tuple(taught), dtype=str))
