"""Runs that others made: trajectories of LAMMPS, of ASE, of anything, as data to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import host
from mlcore.data import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.md.dataset import Dataset

__all__ = ["from_trajectories"]

Array = npt.NDArray[np.float64]
_EQUAL = 1e-6  # of the distances in time, relative


def from_trajectories(
    trajectories: Trajectory | Sequence[Trajectory],
    masses: npt.ArrayLike | Mapping[int, float] | Mapping[str, float] = 1.0,
) -> Dataset:
    """A data set whose runs are trajectories of the same particles, in their own units.

    Args:
        trajectories: with velocities, frames at equal distances in time, and one cell that is
            periodic in all directions, or none. Their types are numbered from 0, one less than
            in the files; where these have symbols alone, types are those in alphabetical order.
        masses: one number, (n,), or by type (symbol) as in the files. Kinetic energies follow from
            them; potential ones are those of the files, or 0.

    Raises:
        InvalidArgument: trajectories do not fit together, or lack velocities; names which.
    """
    several: list[Any] = (
        list(trajectories) if isinstance(trajectories, Sequence) else [trajectories]
    )
    if not several or not all(isinstance(one, Trajectory) for one in several):
        raise InvalidArgument("trajectories must be a Trajectory (mlcore.data), or a list of them")
    first: Trajectory = several[0]
    types = _types(first)
    weights = _masses(masses, first)
    for number, one in enumerate(several):
        _check(one, first, f"trajectories[{number}]")
    x, v = (
        np.stack([np.asarray(getattr(t, q), dtype=np.float64) for t in several])
        for q in ("positions", "velocities")
    )
    potential = np.stack(
        [np.zeros(len(t.times)) if t.energies is None else t.energies for t in several]
    )
    fixed: dict[str, Any] = {
        "n": x.shape[2],
        "cell": np.asarray(first.cell).tolist() if _periodic(first) else None,
        "types": None if types is None else types.tolist(),
    }
    return Dataset(
        "recorded",
        x,
        v,
        potential,
        0.5 * (weights[:, None] * v * v).sum((2, 3)),
        np.repeat(weights[None], len(several), 0),
        float(first.times[1] - first.times[0]),
        {},
        fixed,
        {"source": [t.source for t in several], "units": first.units},
    )


def _check(one: Trajectory, first: Trajectory, name: str) -> None:
    if one.velocities is None:
        raise InvalidArgument(f"{name} has no velocities; a dump needs vx vy vz")
    if one.positions.shape != first.positions.shape:
        raise InvalidArgument(
            f"{name} must have the shape {first.positions.shape} of the first, got "
            f"{one.positions.shape}"
        )
    gaps = np.diff(one.times)
    interval = first.times[1] - first.times[0] if len(first.times) > 1 else np.nan
    if not np.allclose(gaps, interval, rtol=_EQUAL, atol=0) or not len(gaps):
        raise InvalidArgument(
            f"{name} must have frames at equal distances in time, those of the first"
        )
    if _periodic(one) and not np.all(one.pbc):
        raise InvalidArgument(f"{name} must be periodic in all directions or in none")
    same = _periodic(one) == _periodic(first) and (
        not _periodic(one) or np.allclose(one.cell, first.cell, rtol=1e-12)  # type: ignore[arg-type]
    )
    if not same:
        raise InvalidArgument(f"{name} must have the cell of the first")
    if not np.array_equal(_kinds(one), _kinds(first)):
        raise InvalidArgument(f"{name} must have the types of the first")


def _types(first: Trajectory) -> npt.NDArray[np.int64] | None:
    """(n,) from 0 on; None where all are alike."""
    kinds = _kinds(first)
    if len(set(kinds.tolist())) == 1:
        return None
    if first.types is not None:
        return np.asarray(first.types) - 1
    return np.asarray(np.unique(kinds, return_inverse=True)[1], dtype=np.int64)


def _kinds(one: Trajectory) -> npt.NDArray[Any]:
    """(n,) types as in the file, or symbols."""
    if one.types is not None:
        return np.asarray(one.types)
    n = one.positions.shape[1]
    return np.ones(n, np.int64) if one.symbols is None else np.asarray(one.symbols)


def _periodic(one: Trajectory) -> bool:
    return one.cell is not None and (one.pbc is None or bool(np.any(one.pbc)))


def _masses(masses: Any, first: Trajectory) -> Array:
    n = first.positions.shape[1]
    if isinstance(masses, Mapping):
        own = _kinds(first)
        missing = sorted(set(own.tolist()) - set(masses))
        if missing:
            raise InvalidArgument(f"masses must hold every type, {missing} are missing")
        found = host("masses", [masses[t] for t in own.tolist()], "masses are read")
    else:
        found = host("masses", masses, "masses are read")
        if found.shape not in ((), (n,)):
            raise InvalidArgument(f"masses must be one number or ({n},), got {found.shape}")
        found = np.broadcast_to(found, n).astype(np.float64)
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise InvalidArgument("masses must be positive")
    return found
