"""States from trajectories and back; `mlcore.data` knows the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlcore.data import Trajectory, read_trajectory, write_trajectory
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.grid import AtomGrid
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["read_states", "states_of", "trajectory_of", "write_states"]

# fs of the unit of time of LAMMPS' unit systems whose lengths are A
_TIME = {"metal": 1000.0, "real": 1.0}


def states_of(
    trajectory: Trajectory,
    grid: AtomGrid | None = None,
    *,
    units: str | None = None,
    elements: Sequence[int] | None = None,
    edge: float = 2.0,
    slots: int = 4,
) -> list[AtomState]:
    """The frames of a trajectory; without velocities atoms are at rest.

    Args:
        trajectory: in A; its symbols say the elements, or its types do with ``elements``.
        grid: the cells; None: those of its box, by ``edge`` and ``slots`` (see `AtomGrid.over`).
        units: "metal" (A/ps) or "real" (A/fs); None: what the trajectory says.
        elements: atomic numbers of types 1, 2, ...

    Raises:
        InvalidArgument: units or elements are not known, there is no box, an atom lies outside of
            an open axis.
    """
    style = units or trajectory.units
    if style not in _TIME:
        raise InvalidArgument(f'units must be "metal" or "real", got {style!r}')
    if grid is None:
        grid = AtomGrid.over(Atoms(cell=trajectory.cell, pbc=trajectory.pbc), edge, slots)
    numbers = _numbers(trajectory, elements)
    velocities = trajectory.velocities
    return [
        AtomState.from_arrays(
            grid,
            numbers,
            positions,
            None if velocities is None else velocities[k] / _TIME[style],
            trajectory.ids,
        )
        for k, positions in enumerate(trajectory.positions)
    ]


def trajectory_of(states: Sequence[AtomState], times: Sequence[float]) -> Trajectory:
    """One system's states as a trajectory in A, fs and A/fs, atoms by id.

    Ids that are counted from 0 are counted from 1, as files do.

    Raises:
        InvalidArgument: a state holds several systems, other atoms than the first, or there are
            not as many times.
    """
    if not states or len(states) != len(times) or any(state.batch != 1 for state in states):
        raise InvalidArgument("states must be one or more of a single system, and have a time each")
    first = states[0].take(states[0].ids.argsort())
    sorted_ = [first, *(first.matched(state) for state in states[1:])]
    return Trajectory(
        times=np.asarray(times, dtype=float),
        positions=np.stack([state.positions().cpu().numpy() for state in sorted_]),
        cell=first.grid.matrix,
        pbc=np.array(first.grid.pbc),
        velocities=np.stack([state.velocity.detach().cpu().double().numpy() for state in sorted_]),
        ids=first.ids.cpu().numpy() + int(first.ids.min() == 0),
        units="real",
        symbols=np.array([chemical_symbols[z] for z in first.numbers.tolist()]),
    )


def read_states(
    path: str | Path,
    grid: AtomGrid | None = None,
    *,
    units: str | None = None,
    elements: Sequence[int] | None = None,
    edge: float = 2.0,
    slots: int = 4,
) -> list[AtomState]:
    """States of an extxyz file, a LAMMPS dump or data file; see `states_of`.

    Raises:
        FileFormatError: see `mlcore.data.read_trajectory`.
        InvalidArgument: see `states_of`.
    """
    trajectory = read_trajectory(path, units=units)
    return states_of(trajectory, grid, units=units, elements=elements, edge=edge, slots=slots)


def write_states(
    path: str | Path, states: Sequence[AtomState], times: Sequence[float], *, dt: float = 1.0
) -> None:
    """Write states of one system as extxyz or a LAMMPS dump, by the name; A, fs and A/fs.

    Args:
        times: fs, of the states.
        dt: fs of a step, for the steps of a dump.
    """
    write_trajectory(path, trajectory_of(states, times), dt=dt)


def _numbers(trajectory: Trajectory, elements: Sequence[int] | None) -> list[int]:
    if elements is not None and trajectory.types is not None:
        if int(trajectory.types.max()) > len(elements):
            raise InvalidArgument(f"elements: there are {int(trajectory.types.max())} types")
        return [elements[t - 1] for t in trajectory.types.tolist()]
    if trajectory.symbols is None:
        raise InvalidArgument("elements must be given: the trajectory does not say them")
    unknown = sorted(set(trajectory.symbols.tolist()) - set(atomic_numbers))
    if unknown:
        raise InvalidArgument(f"symbols: no elements are {unknown}")
    return [atomic_numbers[s] for s in trajectory.symbols.tolist()]
