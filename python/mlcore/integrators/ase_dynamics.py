"""Learned large steps for users of ASE: a molecular dynamics class like those of `ase.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, cast

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics

from mlcore.errors import Error, InvalidArgument
from mlcore.integrators.nbody import NBodyIntegrator
from mlcore.md import Dataset

__all__ = ["LargeStepDynamics"]


class LargeStepDynamics(MolecularDynamics):
    """Molecular dynamics by a learned step; observers, trajectories and logs as in `ase.md`.

    No forces are evaluated. The Atoms need a calculator only where something asks for energies: the
    logger does.

    Args:
        atoms: in the units the integrator was taught in (ASE's own, where its data were), periodic in
            all directions or in none.
        learned: the integrator.
        timestep: the large step, or several of them.
        types: chemical symbol -> type of the training; None: all are type 0.
        trajectory: file or `ase.io.Trajectory` to write frames to.
        logfile: file name, or "-".
        loginterval: steps between frames and lines.
        append_trajectory: whether frames go to the end of a file.

    Raises:
        InvalidArgument: a step, a mass, a type or the cell is not one the integrator was taught for.
    """

    def __init__(
        self,
        atoms: Atoms,
        learned: NBodyIntegrator,
        timestep: float,
        *,
        types: Mapping[str, int] | None = None,
        trajectory: Any = None,
        logfile: str | IO[str] | None = None,
        loginterval: int = 1,
        append_trajectory: bool = False,
    ) -> None:
        if atoms.pbc.any() and not atoms.pbc.all():
            raise InvalidArgument("atoms must be periodic in all directions or in none")
        if atoms.constraints:
            raise InvalidArgument("atoms must be free: a learned step knows no constraints")
        super().__init__(
            atoms,
            timestep,
            trajectory=trajectory,
            logfile=logfile,
            loginterval=loginterval,
            append_trajectory=append_trajectory,
        )
        self._propagation, self._many = learned.propagation(_window(atoms, types, timestep))

    def step(self, forces: Any = None) -> Any:
        """One time step.

        Raises:
            InvalidArgument: the cell, the masses or the number of atoms changed since the beginning.
            Error: particles came closer than any that were taught.
        """
        atoms, inside = cast(Any, self.atoms), self._propagation
        self._check_the_same(atoms)
        inside.x[0], inside.v[0] = atoms.positions, atoms.get_velocities()
        inside.steps(self._many)
        if inside.refused[0]:
            raise Error(inside.refused[0].replace("run 0 has", "there are"))
        atoms.positions[:] = inside.x[0]
        atoms.set_velocities(inside.v[0])
        return forces

    def _check_the_same(self, atoms: Any) -> None:
        inside = self._propagation
        masses = atoms.get_masses()
        if not np.array_equal(masses, inside.masses[0]):
            raise InvalidArgument("atoms must keep their number and masses during the dynamics")
        cell = inside.system.cell
        if cell is not None and not np.array_equal(np.asarray(atoms.cell), cell):
            raise InvalidArgument("atoms must keep their cell: the learned step is of one")

    def irun(self, steps: int = 50) -> Any:
        """As `ase.md` runs, without forces before the first step."""
        observers: Any = self
        self.max_steps = steps + self.nsteps
        if self.nsteps == 0:
            observers.call_observers()
        yield self.nsteps == self.max_steps
        while self.nsteps < self.max_steps:
            self.step()
            self.nsteps += 1
            observers.call_observers()
            yield self.nsteps == self.max_steps


def _window(atoms: Any, types: Mapping[str, int] | None, timestep: float) -> Dataset:
    symbols = atoms.get_chemical_symbols()
    if types is not None and set(symbols) - set(types):
        raise InvalidArgument(f"types must hold {sorted(set(symbols) - set(types))}")
    x, v = np.asarray(atoms.positions), np.asarray(atoms.get_velocities())
    return Dataset(
        "recorded",
        x[None, None].copy(),
        v[None, None].copy(),
        np.zeros((1, 1)),
        np.array([[atoms.get_kinetic_energy()]]),
        np.asarray(atoms.get_masses())[None].copy(),
        timestep,
        {},
        {
            "n": len(atoms),
            "cell": atoms.cell[:].tolist() if atoms.pbc.all() else None,
            "types": None if types is None else [types[s] for s in symbols],
        },
    )
