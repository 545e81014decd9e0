"""Frames and what AIREBO pulls at their atoms with, by which bonds are matched."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from mlcore.lammps import label
from mlcore.sagesnet import AtomCells, AtomState, Matched, match_forces
from mlcore.sagesnet.carbon import Pull
from mlcore.sagesnet.carbon.stretch import potential
from numpy.typing import NDArray

FAR = 160.0
"""A, beyond which a body is no longer one."""
MOST = 100.0
"""eV/A, of an atom that another one has been thrown onto."""


def airebo(states: Sequence[AtomState], pull: Pull) -> list[NDArray[np.float64]]:
    """(n, 3) eV/A of each frame by stock LAMMPS, in the order of its atoms."""
    with tempfile.TemporaryDirectory(prefix="mlcore-forces-") as name:
        file = potential(Path(name), pull.rcmin)
        told = label(
            [_atoms(state) for state in states],
            f"airebo 3.0 {int(pull.lj)} 1",
            f"* * {file.name} C",
            units="metal",
            species=["C"],
            folder=name,
            progress=True,
        )
    return [one.get_forces() for one in told]


def match(
    cells: AtomCells,
    states: Sequence[AtomState],
    pull: Pull,
    rattle: tuple[float, float],
    *,
    seed: int = 0,
) -> Matched:
    """Matches bonds to frames and to copies of them that are displaced at random.

    What a net will meet on its own way is near its frames, not among them.

    Args:
        cells: whose bonds are given weights.
        states: frames, those of bodies that have flown apart are left out.
        pull: with which AIREBO they were made.
        rattle: A, least and largest standard deviation of a copy's displacements.
        seed: of the displacements.
    """
    random = np.random.default_rng(seed)
    whole = [state for state in states if float(np.ptp(_places(state), axis=0).max()) < FAR]
    given = [*whole, *(_rattled(state, random.uniform(*rattle), random) for state in whole)]
    forces = airebo(given, pull)
    kept = [k for k, force in enumerate(forces) if np.abs(force).max() < MOST]
    return match_forces(cells, [given[k] for k in kept], [forces[k] for k in kept], progress=True)


def _rattled(state: AtomState, deviation: float, random: np.random.Generator) -> AtomState:
    ways = deviation * torch.as_tensor(random.standard_normal((len(state), 3)))
    return state.moved((ways * state.free[:, None]).float(), state.velocity)


def _places(state: AtomState) -> NDArray[np.float64]:
    return np.asarray(state.positions(), np.float64)


def _atoms(state: AtomState) -> Atoms:
    """In open space."""
    x = _places(state)
    return Atoms(state.numbers.numpy(), x - x.min(axis=0) + 20.0, cell=np.ptp(x, axis=0) + 40.0)
